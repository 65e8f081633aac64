//! What a bundle's log tells: whether its daemons have come up, what has become of them, and what they refused.

use std::collections::{BTreeMap, BTreeSet};

use claude_bottle_protocol::daemons::{SUPERVISE, Table};
use claude_bottle_protocol::news::{INIT, News, Then, What, said};

use super::refusals::Refusals;
use super::selection::Server;
use super::{gateway, pipelock};

/// How much of what somebody says is kept until all daemons are up, in bytes.
const COMPLAINT: usize = 2048;
/// What a line begins with by which a daemon tells of something that people should know.
const FOUND: &[u8] = b"found: ";
/// How many different ones of these are remembered, and how long they may be in bytes.
const MOST_FOUND: usize = 50;
const LONGEST_FOUND: usize = 512;

/// By what it is known that a daemon is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It says itself that it listens.
    Says,
    /// The init says that it listens.
    Listens,
    /// The init says that it was started.
    Started,
}

/// A daemon that did not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The daemon; the init itself, where that has ended.
    pub daemon: String,
    /// How it ended, in the init's words.
    pub how: String,
    /// What it said before. Nothing of it has been made harmless.
    pub said: Vec<u8>,
}

/// How often a daemon has ended, and how at last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ends {
    count: u64,
    how: String,
    has_failed: bool,
}

/// A bundle, as far as its log has been read.
#[derive(Debug)]
pub struct Watch {
    server: Option<Server>,
    /// Daemons that are not up yet.
    awaited: BTreeMap<String, Sign>,
    failure: Option<Failure>,
    said: BTreeMap<String, Vec<u8>>,
    ends: BTreeMap<String, Ends>,
    refusals: Refusals,
    found: BTreeSet<String>,
    is_incomplete: bool,
}

impl Watch {
    /// The log of a bundle with these daemons, of which one may let something out, from its beginning.
    pub fn new(daemons: &[String], server: Option<Server>) -> Self {
        // Those of the table that nobody has replaced.
        let known = Table::built_in().select(&daemons.join(",")).unwrap_or_default();
        let sign = |name: &str, listens: bool| match name {
            // Asked from outside whether it listens, it would have to answer for that in its log.
            _ if name == Server::Gateway.daemon() => Sign::Says,
            _ if listens => Sign::Listens,
            _ => Sign::Started,
        };
        let awaited = known.into_iter().filter(|one| one.name != SUPERVISE).map(|one| {
            let listens = one.entry.is_some_and(|entry| entry.ready_port.is_some());
            let sign = sign(&one.name, listens);
            (one.name, sign)
        });
        Self {
            server,
            awaited: awaited.collect(),
            failure: None,
            said: BTreeMap::new(),
            ends: BTreeMap::new(),
            refusals: Refusals::default(),
            found: BTreeSet::new(),
            is_incomplete: false,
        }
    }

    /// Takes the next line.
    pub fn take(&mut self, line: &[u8]) {
        let Some((speaker, text)) = said(line) else { return };
        let is_up = self.is_up();
        if speaker == INIT {
            let text = String::from_utf8_lossy(text);
            if let Some(news) = News::parse(&text) {
                self.hear(news);
                return;
            }
            self.is_incomplete |= text.contains(" lines dropped");
        } else if speaker == Server::Gateway.daemon() {
            if text.starts_with(b"listening on ") {
                self.up(speaker, Sign::Says);
                return;
            }
            if let Some(refusal) = gateway::refused(text) {
                self.refusals.add(refusal);
            }
        } else if speaker == Server::Pipelock.daemon()
            && let Some(refusal) = pipelock::refused(text)
        {
            self.refusals.add(refusal);
        }
        if let Some(found) = text.strip_prefix(FOUND) {
            self.find(speaker, found);
        }
        if !is_up {
            let said = self.said.entry(speaker.to_owned()).or_default();
            said.extend_from_slice(text);
            said.push(b'\n');
            said.truncate(COMPLAINT);
        }
    }

    fn hear(&mut self, News { daemon, what }: News) {
        match what {
            What::Started { .. } => self.up(&daemon, Sign::Started),
            What::Listens { .. } => self.up(&daemon, Sign::Listens),
            What::Ended { how, then } => self.end(daemon, how, then),
            What::Stopped { .. } => {}
        }
    }

    fn up(&mut self, daemon: &str, sign: Sign) {
        if self.awaited.get(daemon) == Some(&sign) {
            self.awaited.remove(daemon);
        }
        if self.is_up() {
            self.said.clear();
        }
    }

    fn end(&mut self, daemon: String, how: String, then: Then) {
        if !self.is_up() {
            // Whatever it was, a bottle is not handed out with it.
            let said = self.said.remove(&daemon).unwrap_or_default();
            self.failure.get_or_insert(Failure { daemon, how, said });
            return;
        }
        let has_failed = matches!(then, Then::Failed { .. });
        let ends =
            self.ends.entry(daemon).or_insert(Ends { count: 0, how: String::new(), has_failed });
        *ends = Ends { count: ends.count + 1, how, has_failed };
    }

    fn find(&mut self, speaker: &str, found: &[u8]) {
        let found = String::from_utf8_lossy(&found[..found.len().min(LONGEST_FOUND)]);
        // It may be found again and again.
        if self.found.len() < MOST_FOUND {
            self.found.insert(format!("{speaker}: {found}"));
        }
    }

    /// Whether all daemons have come up.
    pub fn is_up(&self) -> bool {
        self.awaited.is_empty() && self.failure.is_none()
    }

    /// What has not come up, if that is known already.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// What has not come up, where nothing more is heard: for this reason.
    pub fn given_up(&self, how: &str) -> Failure {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        // Where the init itself has ended it has said why.
        let complaint = |name: &str| self.said.get(name).cloned().unwrap_or_default();
        let daemon = self.awaited.keys().next().map_or(INIT, String::as_str);
        let said = [complaint(INIT), complaint(daemon)].concat();
        Failure { daemon: daemon.to_owned(), how: how.to_owned(), said }
    }

    /// For a person, a line each: what was refused and found, and whether the daemons stayed up. It has still to be made
    /// harmless.
    pub fn remarks(&self) -> Vec<String> {
        let mut lines = self.refusals.lines();
        lines.extend(self.found.iter().cloned());
        lines.extend(self.ends.iter().map(|(daemon, ends)| {
            let Ends { count, how, has_failed } = ends;
            let times =
                if *count == 1 { String::new() } else { format!(" {count} times, at last") };
            let serves = self.server.is_some_and(|server| server.daemon() == daemon);
            let then = match (has_failed, serves) {
                (false, false) => "it was started again",
                (false, true) => "it was started again, and nothing was let out meanwhile",
                (true, false) => "it was not started again",
                (true, true) => "it was not started again, and nothing was let out any more",
            };
            format!("the daemon {daemon} ended{times}: {how}; {then}")
        }));
        if self.is_incomplete {
            lines.push("the bundle's log has gaps: not all that was refused is told".to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(daemons: &[&str], server: Option<Server>, log: &[&str]) -> Watch {
        let daemons: Vec<_> = daemons.iter().map(ToString::to_string).collect();
        let mut watch = Watch::new(&daemons, server);
        for line in log {
            watch.take(line.as_bytes());
        }
        watch
    }

    #[test]
    fn each_daemon_has_a_sign_by_which_it_is_up() {
        let server = Some(Server::Pipelock);
        let all = ["pipelock", "egress", "gitleaks", "supervise"];
        let signs = [
            "init | egress: listens on port 9099",
            "init | gitleaks: started, pid 9",
            "init | pipelock: listens on port 8888",
        ];
        assert!(watch(&all, server, &signs).is_up());
        for left_out in 0..signs.len() {
            let mut some = signs.to_vec();
            some[left_out] = "init | pipelock: started, pid 7";
            assert!(!watch(&all, server, &some).is_up(), "{some:?}");
        }
        let server = Some(Server::Gateway);
        assert!(watch(&["gateway"], server, &["gateway | listening on 10.0.0.1:8888"]).is_up());
        for other in ["init | gateway: started, pid 7", "pipelock | listening on 10.0.0.1:8888"] {
            assert!(!watch(&["gateway"], server, &[other]).is_up(), "{other}");
        }
        assert!(watch(&["supervise"], None, &[]).is_up());
    }

    #[test]
    fn what_ends_before_all_are_up_has_failed_with_what_it_said() {
        let watch = watch(
            &["pipelock", "egress"],
            Some(Server::Pipelock),
            &[
                "init | pipelock: started, pid 7",
                "egress | not mine",
                "pipelock | bad configuration",
                "init | pipelock: exited with code 1; again in 100 ms",
                "init | pipelock: listens on port 8888",
                "init | egress: listens on port 9099",
            ],
        );
        let failure = Failure {
            daemon: "pipelock".to_owned(),
            how: "exited with code 1".to_owned(),
            said: b"bad configuration\n".to_vec(),
        };
        assert_eq!(watch.failure(), Some(&failure));
        assert!(!watch.is_up());
        assert_eq!(watch.given_up("too late"), failure);
    }

    #[test]
    fn what_is_never_heard_of_is_named() {
        let given_up = |log: &[&str]| watch(&["egress", "gateway"], None, log).given_up("too late");
        let failure =
            given_up(&["init | egress: listens on port 9099", "gateway | bound to nothing"]);
        let expected = ("gateway", "too late", &b"bound to nothing\n"[..]);
        assert_eq!((&*failure.daemon, &*failure.how, &*failure.said), expected);
        let failure = given_up(&["init | error: cannot make a pipe"]);
        assert_eq!(
            (&*failure.daemon, &*failure.said),
            ("egress", &b"error: cannot make a pipe\n"[..])
        );
    }

    #[test]
    fn a_person_is_told_what_was_refused_and_what_did_not_stay_up() {
        let blocked = r#"pipelock | {"event":"blocked","target":"a.test:1","reason":"no"}"#;
        let log = [
            "init | pipelock: listens on port 8888",
            "init | gitleaks: started, pid 8",
            blocked,
            // Not the word of the one who would know.
            &blocked.replace("pipelock", "gitleaks"),
            "gitleaks | found: secrets below /scanned/1",
            "gitleaks | found: secrets below /scanned/1",
            "init | pipelock: killed by SIGKILL; again in 100 ms",
        ];
        let server = Some(Server::Pipelock);
        let told = [
            "refused: a.test:1: no",
            "gitleaks: secrets below /scanned/1",
            "the daemon pipelock ended: killed by SIGKILL; it was started again, and nothing was let out meanwhile",
        ];
        let daemons = ["pipelock", "gitleaks"];
        assert_eq!(watch(&daemons, server, &log).remarks(), told);
        let failed = "init | pipelock: exited with code 1; failed, after 10 quick ends in a row";
        let last = watch(&daemons, server, &[&log[..], &[failed]].concat()).remarks();
        let expected = "the daemon pipelock ended 2 times, at last: exited with code 1; it was not started again, and nothing was let \
                        out any more";
        assert_eq!(last.last().unwrap(), expected);
        let gaps =
            [&log[..2], &["init | 7 lines dropped: the reader of this log is too slow"]].concat();
        let told = ["the bundle's log has gaps: not all that was refused is told"];
        assert_eq!(watch(&daemons, server, &gaps).remarks(), told);
    }
}
