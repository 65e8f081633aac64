//! What becomes of a daemon when it starts, listens and ends: pure, the time is handed in.

use std::time::{Duration, Instant};

use claude_bottle_protocol::session::End;
use claude_bottle_protocol::supervise::State;
use nix::unistd::Pid;

/// The longest pause before a daemon is started again.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A daemon that was up for so long has not failed quickly.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(30);
/// After so many quick ends in a row it is not started again.
pub(crate) const TOO_OFTEN: u32 = 10;

/// One daemon's life.
#[derive(Debug)]
pub(crate) struct Life {
    phase: Phase,
    since: Instant,
    first_pause: Duration,
    begun: bool,
    restarts: u32,
    quick_ends: u32,
    last_exit: Option<End>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Due,
    Up { pid: Pid, started: Instant, listens: bool },
    Paused { until: Instant },
    Stopped,
    Failed,
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is to be started again after this pause.
    Again(Duration),
    /// It has ended too often.
    GiveUp,
}

impl Life {
    /// A daemon to be started now, with this pause before its first restart.
    pub(crate) fn new(now: Instant, first_pause: Duration) -> Self {
        Self {
            phase: Phase::Due,
            since: now,
            first_pause,
            begun: false,
            restarts: 0,
            quick_ends: 0,
            last_exit: None,
        }
    }

    /// When it is to be started, if it is.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Due => Some(self.since),
            Phase::Paused { until } => Some(until),
            Phase::Up { .. } | Phase::Stopped | Phase::Failed => None,
        }
    }

    /// It has been started. `listens`: it needs no time to become ready.
    pub(crate) fn started(&mut self, now: Instant, pid: Pid, listens: bool) {
        self.count_start();
        self.enter(now, Phase::Up { pid, started: now, listens });
    }

    /// It could not be started.
    pub(crate) fn not_started(&mut self, now: Instant, end: End) -> Next {
        self.count_start();
        self.ended(now, end)
    }

    fn count_start(&mut self) {
        self.restarts = self.restarts.saturating_add(u32::from(self.begun));
        self.begun = true;
    }

    /// It listens.
    pub(crate) fn ready(&mut self, now: Instant) {
        if let Phase::Up { pid, started, listens: false } = self.phase {
            self.enter(now, Phase::Up { pid, started, listens: true });
        }
    }

    /// Its process has ended, or never was.
    pub(crate) fn ended(&mut self, now: Instant, end: End) -> Next {
        let up = match self.phase {
            Phase::Up { started, .. } => now.saturating_duration_since(started),
            _ => Duration::ZERO,
        };
        self.last_exit = Some(end);
        self.quick_ends = if up >= LONG_ENOUGH { 0 } else { self.quick_ends + 1 };
        if self.quick_ends >= TOO_OFTEN {
            self.enter(now, Phase::Failed);
            return Next::GiveUp;
        }
        let doublings = self.quick_ends.saturating_sub(1);
        let pause = self.first_pause.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        self.enter(now, Phase::Paused { until: now + pause });
        Next::Again(pause)
    }

    /// Its process has ended after the init was told to stop.
    pub(crate) fn stopped(&mut self, now: Instant, end: End) {
        self.last_exit = Some(end);
        self.enter(now, Phase::Stopped);
    }

    /// It is not to be started any more. One that has failed stays failed.
    pub(crate) fn stop(&mut self, now: Instant) {
        if self.due().is_some() {
            self.enter(now, Phase::Stopped);
        }
    }

    fn enter(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<Pid> {
        match self.phase {
            Phase::Up { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Its state, for whoever asks.
    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Due | Phase::Up { listens: false, .. } => State::Starting,
            Phase::Up { listens: true, .. } => State::Running,
            Phase::Paused { .. } => State::Backoff,
            Phase::Stopped => State::Stopped,
            Phase::Failed => State::Failed,
        }
    }

    /// When the state began.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// How many times it was started again.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// How it ended the last time.
    pub(crate) fn last_exit(&self) -> Option<&End> {
        self.last_exit.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const PID: Pid = Pid::from_raw(42);

    /// Starts it when it is due and ends it after `up`; the time of the end, and what follows.
    fn round(life: &mut Life, up: Duration) -> (Instant, Next) {
        let start = life.due().unwrap();
        life.started(start, PID, true);
        let end = start + up;
        (end, life.ended(end, End::Code(1)))
    }

    #[test]
    fn pauses_double_up_to_ten_seconds_and_then_it_has_failed() {
        let mut life = Life::new(Instant::now(), FIRST);
        let pauses: Vec<Next> = (0..10).map(|_| round(&mut life, Duration::ZERO).1).collect();
        let again = |ms| Next::Again(Duration::from_millis(ms));
        let mut expected: Vec<Next> =
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000].map(again).into();
        expected.push(Next::GiveUp);
        assert_eq!(pauses, expected);
        assert_eq!((life.state(), life.due(), life.restarts()), (State::Failed, None, 9));
        life.stop(Instant::now());
        assert_eq!(life.state(), State::Failed);
    }

    #[test]
    fn thirty_seconds_up_forgive_everything() {
        let mut life = Life::new(Instant::now(), FIRST);
        for _ in 0..TOO_OFTEN - 1 {
            round(&mut life, LONG_ENOUGH.saturating_sub(Duration::from_nanos(1)));
        }
        assert_eq!(round(&mut life, LONG_ENOUGH).1, Next::Again(FIRST));
        assert_eq!(round(&mut life, Duration::ZERO).1, Next::Again(FIRST));
        assert_eq!(round(&mut life, Duration::ZERO).1, Next::Again(FIRST * 2));
        assert_eq!(life.restarts(), TOO_OFTEN + 1);
    }

    #[test]
    fn it_goes_through_its_states() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut life = Life::new(start, FIRST);
        assert_eq!((life.state(), life.pid(), life.due()), (State::Starting, None, Some(start)));
        life.started(at(1), PID, false);
        assert_eq!((life.state(), life.pid(), life.due()), (State::Starting, Some(PID), None));
        life.ready(at(2));
        life.ready(at(3));
        assert_eq!((life.state(), life.since()), (State::Running, at(2)));
        life.stop(at(4));
        assert_eq!(life.state(), State::Running, "its process has not ended yet");
        life.ended(at(5), End::Signal(9));
        assert_eq!((life.state(), life.pid(), life.since()), (State::Backoff, None, at(5)));
        assert_eq!(life.due(), Some(at(5) + FIRST));
        assert_eq!(life.last_exit(), Some(&End::Signal(9)));
        life.ready(at(6));
        assert_eq!(life.state(), State::Backoff, "an answer that came too late");
        life.stop(at(7));
        assert_eq!((life.state(), life.due()), (State::Stopped, None));
    }

    #[test]
    fn what_cannot_be_started_fails_as_well() {
        let mut life = Life::new(Instant::now(), FIRST);
        let end = End::NotStarted { errno: 2, what: "start x".to_owned() };
        let mut next = life.not_started(Instant::now(), end.clone());
        while let Next::Again(_) = next {
            next = life.not_started(life.due().unwrap(), end.clone());
        }
        assert_eq!((life.state(), life.restarts()), (State::Failed, TOO_OFTEN - 1));
    }

    #[test]
    fn no_pause_overflows() {
        let mut life = Life::new(Instant::now(), Duration::MAX);
        assert_eq!(round(&mut life, Duration::ZERO).1, Next::Again(LONGEST_PAUSE));
        assert_eq!(round(&mut life, Duration::ZERO).1, Next::Again(LONGEST_PAUSE));
    }
}
