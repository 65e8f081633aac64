//! bubblewrap, with and without a network of its own.

use super::{BARE, WITH_TOOLBOX, breaks, has_bubblewrap, told, works};

#[test]
fn without_a_network_it_is_closed() {
    if !has_bubblewrap("without_a_network_it_is_closed") {
        return;
    }
    // The toolbox goes in over standard input, into the sandbox's own /tmp.
    let text = told(&format!("{BARE} --unshare-net"), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    // Its folder alone is shown: nothing that the run itself needs looks like a leak.
    told(&format!("{WITH_TOOLBOX} --unshare-all /tmp/in/toolbox"), 0);
    let text = told(BARE, 1);
    assert!(breaks(&text, "loopback-reach") && breaks(&text, "resolver-exfiltration"), "{text}");
    assert!(!breaks(&text, "unix-path-socket"), "{text}");
}

#[test]
fn every_shell_takes_the_toolbox() {
    if !has_bubblewrap("every_shell_takes_the_toolbox") {
        return;
    }
    for shell in ["dash -c", "bash -c", "busybox sh -c"] {
        if !works(&format!("{shell} true")) {
            eprintln!("every_shell_takes_the_toolbox: skipped: {shell} is not installed");
            continue;
        }
        let text = told(&format!("{BARE} --unshare-net {shell}"), 0);
        assert!(!text.contains("Could not be judged"), "{text}");
    }
}
