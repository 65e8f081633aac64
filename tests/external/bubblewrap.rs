//! bubblewrap, with and without a network of its own.

use libtest_mimic::Trial;

use crate::suite::{BARE, WITH_TOOLBOX, breaks, needs_bubblewrap, told, works};
use crate::trials::trials;

fn without_a_network_it_is_closed() {
    needs_bubblewrap();
    // The toolbox goes in over standard input, into the sandbox's own /tmp.
    let text = told(&format!("{BARE} --unshare-net"), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    // Its folder alone is shown: nothing that the run itself needs looks like a leak.
    told(&format!("{WITH_TOOLBOX} --unshare-all /tmp/in/toolbox"), 0);
    let text = told(BARE, 1);
    assert!(breaks(&text, "loopback-reach") && breaks(&text, "resolver-exfiltration"), "{text}");
    assert!(!breaks(&text, "unix-path-socket"), "{text}");
}

fn every_shell_takes_the_toolbox() {
    needs_bubblewrap();
    for shell in ["dash -c", "bash -c", "busybox sh -c"] {
        if !works(&format!("{shell} true")) {
            eprintln!("every_shell_takes_the_toolbox: skipped: {shell} is not installed");
            continue;
        }
        let text = told(&format!("{BARE} --unshare-net {shell}"), 0);
        assert!(!text.contains("Could not be judged"), "{text}");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![without_a_network_it_is_closed, every_shell_takes_the_toolbox,]
}
