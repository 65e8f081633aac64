//! bubblewrap, with and without a network of its own.

use libtest_mimic::Trial;

use crate::suite::{BARE, WITH_TOOLBOX, breaks, needs_bubblewrap, told, works};
use crate::trials::{skip, trials};

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

/// Ends the test as ignored where this shell is not installed.
fn takes_the_toolbox(shell: &str) {
    needs_bubblewrap();
    if !works(&format!("{shell} true")) {
        skip(format!("{shell} is not installed"));
    }
    let text = told(&format!("{BARE} --unshare-net {shell}"), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
}

fn dash_takes_the_toolbox() {
    takes_the_toolbox("dash -c");
}

fn bash_takes_the_toolbox() {
    takes_the_toolbox("bash -c");
}

fn the_shell_of_busybox_takes_the_toolbox() {
    takes_the_toolbox("busybox sh -c");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        without_a_network_it_is_closed,
        dash_takes_the_toolbox,
        bash_takes_the_toolbox,
        the_shell_of_busybox_takes_the_toolbox,
    ]
}
