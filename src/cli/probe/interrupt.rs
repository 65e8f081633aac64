//! Ctrl-C: the first cleans up, the second ends the program at once. The kernel ends what the launcher made either way.

use std::future::Future;
use std::pin::pin;

use async_trait::async_trait;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::backend::Arena;
use crate::probe::run::BeforeTeardown;
use crate::report::progress::Aside;

/// The exit code of an interrupted run: 128 + SIGINT.
pub(super) const CODE: u8 = 130;

/// How far SIGINT, SIGTERM and SIGHUP have got; all three mean the same.
pub(super) struct Interrupts {
    state: watch::Sender<State>,
    aside: Aside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next signal interrupts.
    Running,
    /// A bottle is kept: the next signal is its end, and interrupts nothing.
    Holding,
    /// It was let go, and is torn down. The next signal ends the program.
    Released,
    /// What runs is to be given up. The next signal ends the program.
    Interrupted,
}

impl Interrupts {
    /// Listens from now on, so that no signal is lost between two runs.
    pub(super) fn listen(runtime: &Runtime, aside: Aside) -> Self {
        let interrupts = Self { state: watch::Sender::new(State::Running), aside };
        let (state, aside) = (interrupts.state.clone(), interrupts.aside.clone());
        let _inside = runtime.enter();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        // Without a handler the signal ends the program, and the kernel what it made.
        let mut signals = kinds.map(|kind| signal(kind).ok());
        runtime.spawn(async move {
            loop {
                any(&mut signals).await;
                let mut before = State::Running;
                state.send_modify(|state| {
                    before = *state;
                    *state = match before {
                        State::Holding | State::Released => State::Released,
                        State::Running | State::Interrupted => State::Interrupted,
                    };
                });
                match before {
                    State::Running => aside.say("interrupted: cleaning up (once more: at once)"),
                    State::Holding => {}
                    State::Released | State::Interrupted => {
                        aside.clear();
                        std::process::exit(i32::from(CODE));
                    }
                }
            }
        });
        interrupts
    }

    /// Runs `work` to its end; none if a signal came first. Dropping `work` is what cleans up.
    pub(super) async fn or_interrupted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.turn(State::Released, State::Running);
        let mut state = self.state.subscribe();
        let work = pin!(work);
        tokio::select! {
            biased;
            _ = state.wait_for(|state| *state == State::Interrupted) => None,
            done = work => Some(done),
        }
    }

    /// Whether what runs is to be given up.
    pub(super) fn interrupted(&self) -> bool {
        *self.state.borrow() == State::Interrupted
    }

    fn turn(&self, from: State, to: State) {
        self.state.send_if_modified(|state| {
            let turns = *state == from;
            if turns {
                *state = to;
            }
            turns
        });
    }
}

/// Waits for any of the signals.
async fn any([interrupt, terminate, hang_up]: &mut [Option<Signal>; 3]) {
    async fn next(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
    tokio::select! {
        () = next(interrupt) => {}
        () = next(terminate) => {}
        () = next(hang_up) => {}
    }
}

/// Keeps bottle and lab until a signal comes, if that is wanted.
pub(super) struct Keep<'a> {
    /// `--keep`.
    pub(super) wanted: bool,
    /// Where the signal comes from.
    pub(super) interrupts: &'a Interrupts,
}

#[async_trait]
impl BeforeTeardown for Keep<'_> {
    async fn hold(&self, arena: &dyn Arena) {
        if !self.wanted {
            return;
        }
        let Interrupts { state, aside } = self.interrupts;
        self.interrupts.turn(State::Running, State::Holding);
        aside.say(&format!("kept {}; {}", arena.bottle().name(), arena.way_in()));
        aside.say("Ctrl-C tears it down");
        // The sender lives as long as this.
        let _ = state.subscribe().wait_for(|state| *state != State::Holding).await;
    }
}
