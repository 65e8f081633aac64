//! The end: everything is asked to go, what does not is killed, and the last words are handed on.

use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::orphans;
use super::supervisor::Supervisor;

/// How long the init waits for what it has killed: on a busy machine even that needs its turn on the processor.
const WAIT_FOR_THE_KILLED: Duration = Duration::from_secs(5);
/// How long the init waits for the reader of its last words.
const WAIT_FOR_THE_READER: Duration = Duration::from_secs(1);

/// The init has been told to stop.
#[derive(Debug)]
pub(super) struct Stopping {
    /// When to kill, and after that when to give up.
    pub(super) deadline: Instant,
    killed: bool,
    /// Nothing is left to wait for.
    pub(super) over: bool,
    /// The daemons' groups, which had their SIGTERM.
    groups: Vec<Pid>,
    /// The orphans that had theirs.
    told: Vec<Pid>,
}

impl Supervisor {
    /// Asks everything to end, the daemon that was started last first.
    pub(super) fn stop(&mut self, signal: Signal) {
        let now = Instant::now();
        let mut names = Vec::new();
        let mut groups = Vec::new();
        for daemon in self.daemons.iter_mut().rev() {
            daemon.life.stop(now);
            daemon.knock = None;
            if let Some(pid) = daemon.life.pid() {
                names.push(daemon.name.as_str());
                groups.push(pid);
            }
        }
        if !names.is_empty() {
            self.log.say(&format!("stopping on {signal}: {}", names.join(", ")));
        }
        for &group in &groups {
            let _ = killpg(group, Signal::SIGTERM);
        }
        let deadline = now + self.grace;
        let told = Vec::new();
        self.stopping = Some(Stopping { deadline, killed: false, over: false, groups, told });
        self.reap();
    }

    /// Kills, or gives up, once its time has come.
    pub(super) fn keep_stop_deadline(&mut self, now: Instant) {
        match &mut self.stopping {
            Some(stopping) if stopping.deadline <= now && stopping.killed => {
                stopping.over = true;
                let left: Vec<String> = orphans::children().iter().map(Pid::to_string).collect();
                self.log.say(&format!("leaving behind what does not die: {}", left.join(", ")));
            }
            Some(stopping) if stopping.deadline <= now => {
                stopping.killed = true;
                stopping.deadline = now + WAIT_FOR_THE_KILLED;
                let left = self.daemons.iter().filter(|daemon| daemon.life.pid().is_some());
                let left: Vec<&str> = left.map(|daemon| daemon.name.as_str()).collect();
                let left = if left.is_empty() { "orphans".to_owned() } else { left.join(", ") };
                self.log.say(&format!("still there after {:?}, killing: {left}", self.grace));
                self.kill_what_is_left();
                self.reap();
            }
            _ => {}
        }
    }

    /// Whoever has died may have left the init children.
    pub(super) fn follow_up_on_the_dead(&mut self) {
        match &mut self.stopping {
            Some(stopping) if stopping.killed => self.kill_what_is_left(),
            Some(stopping) => orphans::terminate(&stopping.groups, &mut stopping.told),
            None => {}
        }
    }

    fn kill_what_is_left(&self) {
        for daemon in &self.daemons {
            if let Some(pid) = daemon.life.pid() {
                let _ = killpg(pid, Signal::SIGKILL);
                // It may have left its group for another.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        orphans::kill_all();
    }

    /// Hands the last output on, if its reader takes it.
    pub(super) fn finish(mut self) {
        for daemon in &mut self.daemons {
            daemon.stdout.end(&daemon.name, &mut self.log);
            daemon.stderr.end(&daemon.name, &mut self.log);
        }
        if !self.daemons.is_empty() {
            self.log.say("stopped");
        }
        let deadline = Instant::now() + WAIT_FOR_THE_READER;
        loop {
            self.log.flush();
            let Some(log) = self.log.blocked_on() else {
                return;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if !matches!(poll(&mut [PollFd::new(log, PollFlags::POLLOUT)], timeout), Ok(1..)) {
                return;
            }
        }
    }
}
