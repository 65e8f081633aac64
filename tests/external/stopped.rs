//! Sandboxes that end, or stop, half-way.

use libtest_mimic::Trial;

use crate::suite::{WITH_TOOLBOX, needs_bubblewrap, told};
use crate::trials::trials;

fn assert_unjudged(text: &str) {
    assert!(text.contains("Could not be judged"), "{text}");
    assert!(!text.contains("As it should be") && !text.contains("Not as it should be"), "{text}");
}

fn one_that_dies_half_way_is_never_closed() {
    needs_bubblewrap();
    let closed = format!("{WITH_TOOLBOX} --unshare-net sh -c");
    // The session ends behind its greeting (the one read); or nothing more comes of it, though it does not end; or it
    // goes on with what no session says.
    for after in ["", "; sleep 60", "; head -c 3000 /dev/urandom; sleep 60"] {
        let text = told(&format!("{closed} '/tmp/in/toolbox | (dd bs=64k count=1{after})'"), 3);
        assert_unjudged(&text);
    }
}

/// The greeting is held back until the toolbox has been stopped.
fn one_that_is_stopped_cannot_be_judged() {
    let script = "F=$(mktemp -u); mkfifo $F; exec 3<&0; {toolbox} <&3 >$F & \
                  { rm $F; dd bs=64k count=1 of=$F.hello 2>/dev/null; kill -STOP $!; cat $F.hello; rm $F.hello; cat; } <$F";
    let text = told(&format!("sh -c '{script}'"), 3);
    assert_unjudged(&text);
    assert!(
        text.contains("did not end within") && text.contains("did not finish in time"),
        "{text}"
    );
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![one_that_dies_half_way_is_never_closed, one_that_is_stopped_cannot_be_judged,]
}
