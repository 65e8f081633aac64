//! What a person writes in `probes/*.toml`, parsed and checked.
//!
//! `docs/probes.md` explains it to those who write one; [`super::parse`] reads it.

mod method;
mod site;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use claude_bottle_protocol::prober::How;

pub use self::method::Method;
pub use self::site::Site;
use crate::written::{Word, words};

/// One property of a bottle, declared in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The file's stem: lower-case words joined by `-`.
    pub name: String,
    /// Where it was found; none for those built in.
    pub file: Option<PathBuf>,
    /// One line.
    pub title: String,
    /// Why the property matters.
    pub why: String,
    /// How bad a leak would be.
    pub severity: Severity,
    /// For selection: `slow`, `tcp`, `bundle`, …
    pub tags: Vec<String>,
    /// CVEs, RFCs, man pages, issues: URLs or short citations.
    pub references: Vec<String>,
    /// Breaches under which it must report a leak (or, for what must be reached, that it is not).
    pub proven_by: Vec<String>,
    /// Requirements besides those of the backend, such as `vsock-loopback`.
    pub needs: Vec<String>,
    /// What is different on a backend, by the backend's name.
    pub on: BTreeMap<String, On>,
    /// What is tried; never empty.
    pub attempts: Vec<AttemptDefinition>,
}

/// One try, after the lists of its definition have been multiplied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDefinition {
    /// By which means.
    pub method: Method,
    /// Where to; none for methods that go nowhere (`exec`).
    pub to: Option<To>,
    /// What is asked there; only with [`Method::Http`].
    pub request: Option<HttpRequest>,
    /// What must come of it.
    pub expect: Expect,
    /// How it must fail; empty: in any way.
    pub how: Vec<How>,
    /// The backends on which it is made; empty: on all of them.
    pub only_on: Vec<String>,
}

/// What an HTTP client asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpRequest {
    /// Method and path, such as `PUT /latest/api/token`.
    pub line: String,
    /// Headers, such as `Metadata: true`.
    pub headers: Vec<String>,
}

/// What is asked where nothing is written.
impl Default for HttpRequest {
    fn default() -> Self {
        Self { line: "GET /".to_owned(), headers: Vec::new() }
    }
}

/// Where an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct To {
    /// The site, such as `bundle` or `host-loopback`.
    pub site: Site,
    /// A port's name at that site (`egress`, `gateway`, `discard`, `random`, or a decimal number as text).
    pub port: String,
    /// The address or name as the client writes it; none: each address that the site has.
    pub spelled: Option<String>,
}

words! {
    #[what("expectation")]
    /// What must come of an attempt.
    pub enum Expect {
        /// Nothing arrives.
        Contained = "contained",
        /// It arrives and is answered.
        Reached = "reached",
        /// A known leak of somebody else's product: passes, shows amber, and fails the day it is gone.
        Leaks = "leaks",
    }
}

words! {
    #[what("severity")]
    /// How bad a leak would be.
    pub enum Severity {
        /// Worth knowing.
        Low = "low",
        /// A wall is thinner than planned.
        Medium = "medium",
        /// Something outside is reachable.
        High = "high",
        /// The agent reaches the host, the internet or credentials.
        Critical = "critical",
    }
}

words! {
    #[what("backend")]
    /// What makes bottles, as definitions name it.
    pub enum BackendName {
        /// Linux namespaces, embedded.
        Namespace = "namespace",
        /// Docker containers.
        Docker = "docker",
        /// Micro virtual machines made by smolvm.
        Smolmachines = "smolmachines",
        /// Any command that runs a program inside a sandbox (`--in`).
        External = "external",
    }
}

/// The words that `how` may demand: those that tell how something was kept in. `answered`, `connected` and `sent`
/// do not; neither do `fused` and `failed`, after which nothing has been tried.
impl Word for How {
    const WHAT: &'static str = "way to fail";
    const WORDS: &'static [Self] = &[
        Self::Refused,
        Self::Unreachable,
        Self::Prohibited,
        Self::TimedOut,
        Self::SocketDenied,
        Self::NotResolved,
        Self::DeniedByProxy,
    ];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// What is different on one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// What must come of every attempt there instead.
    pub expect: Option<Expect>,
    /// Not run there at all.
    pub skip: bool,
    /// Why it is different.
    pub because: String,
    /// Where that is documented; required for [`Expect::Leaks`].
    pub reference: Option<String>,
}

/// Whether and how a probe runs on one backend, after its `[on.…]` table and every `only-on`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunsOn<'a> {
    /// Not at all.
    Skipped {
        /// Why, for the report.
        because: Cow<'a, str>,
    },
    /// It runs.
    Runs {
        /// Its attempts there, in the order of the definition, each with what is expected of it *there*. Never empty.
        attempts: Vec<AttemptDefinition>,
        /// Where the leak is documented that at least one of them expects.
        known_leak: Option<&'a str>,
        /// Why it is different there, if it is.
        because: Option<&'a str>,
    },
}

impl Probe {
    /// Whether and how it runs on `backend`, such as `docker`.
    pub fn runs_on(&self, backend: &str) -> RunsOn<'_> {
        let on = self.on.get(backend);
        if let Some(on) = on.filter(|on| on.skip) {
            return RunsOn::Skipped { because: on.because.as_str().into() };
        }
        let made = self.attempts.iter().filter(|attempt| attempt.is_made_on(backend));
        let mut attempts: Vec<AttemptDefinition> = made.cloned().collect();
        if attempts.is_empty() {
            let because = format!("none of its attempts is made on {backend} (only-on)");
            return RunsOn::Skipped { because: because.into() };
        }
        if let Some(expect) = on.and_then(|on| on.expect) {
            for attempt in &mut attempts {
                attempt.expect = expect;
                // What leaks or is reached does not fail in any way.
                if expect != Expect::Contained {
                    attempt.how.clear();
                }
            }
        }
        let reference = on.and_then(|on| on.reference.as_ref()).or(self.references.first());
        let leaks = attempts.iter().any(|attempt| attempt.expect == Expect::Leaks);
        RunsOn::Runs {
            attempts,
            known_leak: reference.filter(|_| leaks).map(String::as_str),
            because: on.map(|on| on.because.as_str()),
        }
    }
}

impl AttemptDefinition {
    /// What makes it the same as another: the means, the place, and what is asked there.
    pub(crate) fn destination(&self) -> (Method, Option<&To>, Option<&HttpRequest>) {
        (self.method, self.to.as_ref(), self.request.as_ref())
    }

    /// Whether it is made on `backend`.
    pub(crate) fn is_made_on(&self, backend: &str) -> bool {
        self.only_on.is_empty() || self.only_on.iter().any(|only| only == backend)
    }

    /// Whether there is a backend on which both attempts are made.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.only_on, &other.only_on);
        ours.is_empty() || theirs.is_empty() || ours.iter().any(|backend| theirs.contains(backend))
    }
}

/// As reports show it, such as `tcp to host-loopback:discard as 127.0.0.1`.
impl fmt::Display for AttemptDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(to) => write!(f, "{} to {to}", self.method),
            None => write!(f, "{}", self.method),
        }
    }
}

/// As reports show it, such as `host-loopback:discard as 127.0.0.1`.
impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.site, self.port)?;
        match &self.spelled {
            Some(spelled) => write!(f, " as {spelled}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(spelled: Option<&str>, only_on: &[&str]) -> AttemptDefinition {
        AttemptDefinition {
            method: Method::Tcp,
            to: Some(To {
                site: Site::HostLoopback,
                port: "discard".to_owned(),
                spelled: spelled.map(str::to_owned),
            }),
            request: None,
            expect: Expect::Contained,
            how: vec![How::Refused],
            only_on: only_on.iter().map(|&backend| backend.to_owned()).collect(),
        }
    }

    fn probe(on: On, attempts: Vec<AttemptDefinition>) -> Probe {
        Probe {
            name: "x".to_owned(),
            file: None,
            title: "T".to_owned(),
            why: "W".to_owned(),
            severity: Severity::High,
            tags: Vec::new(),
            references: vec!["CVE-1".to_owned()],
            proven_by: vec!["b".to_owned()],
            needs: Vec::new(),
            on: BTreeMap::from([("docker".to_owned(), on)]),
            attempts,
        }
    }

    fn on() -> On {
        On { expect: None, skip: false, because: "B".to_owned(), reference: None }
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for &method in Method::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
            assert!(!method.may_expect().is_empty());
        }
        for &site in Site::ALL {
            assert_eq!(site.as_str().parse(), Ok(site));
            assert!(!site.port_names().is_empty() || site.takes_numbers(), "{site} has no port");
        }
        let error = "bundel".parse::<Site>().unwrap_err();
        assert_eq!(error.to_string(), "unknown site `bundel`, did you mean `bundle`?");
    }

    #[test]
    fn attempts_say_where_they_go() {
        let spelled = attempt(Some("127.0.0.1"), &[]).to_string();
        assert_eq!(spelled, "tcp to host-loopback:discard as 127.0.0.1");
        assert_eq!(attempt(None, &[]).to_string(), "tcp to host-loopback:discard");
        let exec = AttemptDefinition { method: Method::Exec, to: None, ..attempt(None, &[]) };
        assert_eq!(exec.to_string(), "exec");
    }

    #[test]
    fn where_nothing_is_different_the_probe_runs_as_written() {
        let probe = probe(on(), vec![attempt(None, &[])]);
        let RunsOn::Runs { attempts, known_leak, because } = probe.runs_on("namespace") else {
            panic!("it runs there");
        };
        assert_eq!((attempts, known_leak, because), (probe.attempts.clone(), None, None));
    }

    #[test]
    fn a_known_leak_is_expected_of_every_attempt_and_has_its_reference() {
        let leaks = On { expect: Some(Expect::Leaks), ..on() };
        let own = On { reference: Some("https://example.org/1".to_owned()), ..leaks.clone() };
        for (on, reference) in [(leaks, "CVE-1"), (own, "https://example.org/1")] {
            let probe = probe(on, vec![attempt(None, &[]), attempt(Some("::1"), &[])]);
            let RunsOn::Runs { attempts, known_leak, because } = probe.runs_on("docker") else {
                panic!("it runs there");
            };
            assert_eq!((known_leak, because), (Some(reference), Some("B")));
            assert!(attempts.iter().all(|a| a.expect == Expect::Leaks && a.how.is_empty()));
        }
    }

    #[test]
    fn a_probe_is_skipped_where_it_says_so_and_where_no_attempt_is_left() {
        let skips = probe(On { skip: true, ..on() }, vec![attempt(None, &[])]);
        assert_eq!(skips.runs_on("docker"), RunsOn::Skipped { because: "B".into() });

        let elsewhere = probe(on(), vec![attempt(None, &["namespace"])]);
        let because = "none of its attempts is made on docker (only-on)";
        assert_eq!(elsewhere.runs_on("docker"), RunsOn::Skipped { because: because.into() });
        assert!(matches!(elsewhere.runs_on("namespace"), RunsOn::Runs { .. }));
    }
}
