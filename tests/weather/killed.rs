//! `kill -9`, at any moment.

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::run::{CROWD, Marked, Who};
use crate::trials::{needs_user_namespaces, skip, trials};

const MOMENTS: usize = 40;

/// The moments are told by progress, not by the clock: so many looks at what the run has started.
fn of_a_run_that_is_killed_nothing_is_left() {
    killed_at_any_moment(Who::Myself);
}

fn nor_of_one_without_privileges() {
    if Who::all().contains(&Who::Nobody) {
        killed_at_any_moment(Who::Nobody);
    } else {
        skip("only root can become somebody else, who must get at the program");
    }
}

fn killed_at_any_moment(who: Who) {
    needs_user_namespaces();
    let _others = CROWD.read();
    let run = || Marked::program(who, &["probe", "--quiet"]).start();
    let mut whole = run();
    let mut looks = 0;
    while whole.runs() {
        whole.trace.look();
        looks += 1;
    }
    whole.trace.assert_nothing_left();
    assert!(whole.trace.net_namespaces() >= 4, "the looks see what a run makes");

    let (mut most, mut half_way) = (0, 0);
    for moment in 0..MOMENTS {
        let mut killed = run();
        for _ in 0..looks * moment / MOMENTS {
            killed.trace.look();
        }
        half_way += usize::from(killed.runs());
        killed.signal(Signal::SIGKILL);
        killed.wait();
        most = most.max(killed.trace.processes());
        killed.trace.assert_nothing_left();
    }
    assert!(most >= 4, "never were more than {most} processes killed");
    assert!(half_way > MOMENTS / 4, "most runs had ended before: {half_way}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![of_a_run_that_is_killed_nothing_is_left, nor_of_one_without_privileges,]
}
