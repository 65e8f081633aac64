//! `--allow`: what a sandbox must reach.

use std::net::TcpListener;

use libtest_mimic::Trial;

use crate::suite::{BARE, breaks, needs_bubblewrap, told_with};
use crate::trials::trials;

/// An address of this machine on which nothing listens.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn what_is_allowed_must_be_reached() {
    let address = free();
    let text = told_with("sh -c", &["--allow", &address, "-vv"], 1);
    assert!(text.contains("The sandbox reaches what it is said to reach"), "{text}");
    assert!(text.contains(&format!("this machine reached {address} from 127.0.0.1:")), "{text}");
    needs_bubblewrap();
    // In there it is not, and then a sandbox that reaches nothing at all has not shown that it is well fenced.
    let closed = format!("{BARE} --unshare-net");
    let udp = format!("{address}/udp");
    for allow in [address.as_str(), udp.as_str()] {
        let text = told_with(&closed, &["--allow", allow], 1);
        assert!(breaks(&text, "allowed-reach"), "{text}");
        assert!(
            text.contains("the prober reached nothing, not even what the plan allows"),
            "{text}"
        );
    }
}

fn what_no_witness_can_stand_on_is_wrong_usage() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, why) in [
        ("192.0.2.77:443", "this machine has no such address"),
        (taken.as_str(), "somebody else listens there"),
        ("example.org:443", "names are not looked up"),
    ] {
        let text = told_with("sh -c", &["--allow", address], 2);
        assert!(text.contains(why), "{text}");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![what_is_allowed_must_be_reached, what_no_witness_can_stand_on_is_wrong_usage,]
}
