//! Which of a bottle's daemons are run, and which of them lets something out.

use serde::Serialize;
use thiserror::Error;

use super::pipelock::Allowlist;
use crate::plan::Plan;

/// Who serves at a bundle's port 8888.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// Our own small one.
    Gateway,
    /// That of the bundle's image.
    Pipelock,
}

impl Server {
    /// Every one.
    const ALL: [Self; 2] = [Self::Gateway, Self::Pipelock];

    /// Its name among the daemons.
    pub const fn daemon(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Pipelock => "pipelock",
        }
    }
}

/// Daemons that are there to let something out: where nothing may be reached, they are not run.
const LET_OUT: [&str; 3] = [Server::Gateway.daemon(), Server::Pipelock.daemon(), "egress"];

/// What is run of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The daemons, in the order of the selection, the server among them.
    pub daemons: Vec<String>,
    /// Who lets something out; none where nothing may be reached.
    pub server: Option<Server>,
}

/// Something may be reached, and none of the daemons lets it out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the bottle may reach something, and of its daemons ({}) none lets it out: add `gateway` or `pipelock` to `daemons`, or start it \
     with --offline",
    .0.join(", ")
)]
pub struct NobodyServes(Vec<String>);

impl Run {
    /// What is run of `daemons` in a bundle whose bottle may reach `egress`.
    pub fn of(daemons: &[String], egress: &Allowlist) -> Result<Self, NobodyServes> {
        if egress.is_empty() {
            let stay = daemons.iter().filter(|name| !LET_OUT.contains(&name.as_str()));
            return Ok(Self { daemons: stay.cloned().collect(), server: None });
        }
        let is_selected = |server: &Server| daemons.iter().any(|name| name == server.daemon());
        let server = Server::ALL.into_iter().find(is_selected);
        let server = server.ok_or_else(|| NobodyServes(daemons.to_vec()))?;
        Ok(Self { daemons: daemons.to_vec(), server: Some(server) })
    }

    /// The same where no daemon but the gateway can be run; `on` is that backend.
    ///
    /// Who selects pipelock or gitleaks wants what leaves to be looked through: to run the gateway instead, and say so, is not
    /// enough.
    pub fn gateway_alone(plan: &Plan, on: &str) -> Result<Self, String> {
        let run = Self::of(&plan.daemons, &plan.egress).map_err(|error| error.to_string())?;
        let others = run.daemons.iter().filter(|name| *name != Server::Gateway.daemon());
        let others: Vec<_> = others.map(String::as_str).collect();
        if others.is_empty() {
            return Ok(run);
        }
        Err(format!(
            "{on} runs no daemon but `gateway`, and the manifest selects {} for the bottle `{}`: start it with --backend docker, or let \
             `daemons` be `gateway`",
            others.join(", "),
            plan.bottle
        ))
    }
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::daemons::KNOWN;

    use super::*;
    use crate::bundle::pipelock::{Source, Wanted, classify};

    fn run(daemons: &[&str], host: Option<&str>) -> Result<Run, NobodyServes> {
        let daemons: Vec<_> = daemons.iter().map(ToString::to_string).collect();
        let wanted =
            host.map(|host| Wanted::web(Source::Egress { line: 1 }, classify(host).unwrap()));
        Run::of(&daemons, &Allowlist::of(wanted))
    }

    #[test]
    fn one_of_two_serves_where_something_may_be_reached() {
        for (daemons, server) in [
            (&["gateway"][..], Server::Gateway),
            (&["gitleaks", "gateway"], Server::Gateway),
            (&["pipelock", "egress", "supervise"], Server::Pipelock),
        ] {
            let run = run(daemons, Some("a.test")).unwrap();
            assert_eq!((run.daemons.as_slice(), run.server), (&owned(daemons)[..], Some(server)));
        }
        let error = run(&["egress", "gitleaks"], Some("a.test")).unwrap_err().to_string();
        assert!(error.contains("of its daemons (egress, gitleaks) none lets it out"), "{error}");
    }

    #[test]
    fn where_nothing_may_be_reached_nothing_that_lets_out_is_run() {
        let all: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
        let run = run(&all, None).unwrap();
        assert_eq!((run.daemons, run.server), (owned(&["gitleaks", "supervise"]), None));
    }

    /// Whoever the bottle can reach at all is a server.
    #[test]
    fn the_servers_are_those_that_listen_for_the_bottle() {
        let open = KNOWN
            .iter()
            .filter(|known| known.listens.is_some_and(|address| address.ip().is_unspecified()));
        let open: Vec<_> = open.map(|known| known.name).collect();
        assert_eq!(open, Server::ALL.map(Server::daemon));
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }
}
