//! From definitions to what is tried in this lab: every attempt with its nonce, its target and its listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{Action, Attempt, Batch, Change, Fuse, Sweep};
use claude_bottle_protocol::witness::Transport;
use rand::RngExt as _;

use super::action;
use super::definition::{AttemptDefinition, Expect, Method, Probe, RunsOn, Site, To};
use super::outside::Look;
use crate::lab::{Listening, Sites, Target, Unserved};

/// How long a denial is waited for: longer than the 1.0 s that some rejections and a first IPv6 contact take.
pub const DENY_WINDOW: Duration = Duration::from_millis(1500);

/// How long what must arrive may take, controls among it: it comes at once, unless the machine is busy with other things.
const ANSWER: Duration = Duration::from_secs(5);

/// How long all ports of an address may take. Refused ones take about a second.
const SWEEP: Duration = Duration::from_secs(30);

/// How long all files may take that a socket may be among. It ends with the last of them.
const WALK: Duration = Duration::from_secs(5);

/// How long an attempt holds that the outside has to see to: it is released as soon as that is done.
const HOLD: Duration = Duration::from_secs(5);

/// Why something is not tried that may be reached.
const ALLOWED: &str = "it may be reached there, as --allow says";

/// A nonce that was never used before.
pub fn fresh_nonce() -> Nonce {
    Nonce::from_bits(rand::rng().random())
}

/// One attempt as it is made.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its number in the batch.
    pub id: u32,
    /// The index of its probe among the selected ones.
    pub probe: usize,
    /// What is tried, for a reader.
    pub what: String,
    /// Its definition, as it is on this backend.
    pub definition: AttemptDefinition,
    /// How it is made.
    pub means: Means,
}

/// How an attempt is made.
#[derive(Debug, Clone)]
pub enum Means {
    /// By the prober, in the batch.
    Prober {
        /// The token to deliver.
        nonce: Nonce,
        /// What the prober does.
        action: Action,
        /// Who would see it.
        listeners: Vec<Listening>,
    },
    /// By the prober, in the batch; the outside looks what came of it.
    Outside {
        /// The token to deliver, where the attempt gets anywhere.
        nonce: Nonce,
        /// What the prober does.
        action: Action,
        /// What is looked at.
        look: Look,
    },
    /// By a command of its own.
    Exec,
    /// Not at all, here.
    Skipped(String),
}

/// All attempts of the selected probes on one backend.
pub fn plan(probes: &[Probe], backend: &str, sites: &Sites) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (index, probe) in probes.iter().enumerate() {
        let RunsOn::Runs { attempts, .. } = probe.runs_on(backend) else { continue };
        for definition in attempts {
            for (what, means) in means(&definition, sites) {
                // 0 is the sign of life.
                let id = u32::try_from(planned.len() + 1).expect("fewer attempts than that");
                planned.push(Planned {
                    id,
                    probe: index,
                    what,
                    definition: definition.clone(),
                    means,
                });
            }
        }
    }
    planned
}

fn means(definition: &AttemptDefinition, sites: &Sites) -> Vec<(String, Means)> {
    let method = definition.method;
    if let Some(why) = sites.untried.get(&method) {
        return vec![(method.to_string(), Means::Skipped((*why).to_owned()))];
    }
    let Some(to) = &definition.to else {
        return vec![(method.to_string(), goes_nowhere(method, sites))];
    };
    let spelled = to.spelled.as_ref().map(|s| format!(" as {s}")).unwrap_or_default();
    let untried = |why: &str| {
        let means = action::means(definition);
        (format!("{means} to {}:{}{spelled}", to.site, to.port), Means::Skipped(why.to_owned()))
    };
    let made = match action::made(definition, to, sites) {
        Ok(made) => made,
        Err(unserved) => return vec![untried(&unserved.why)],
    };
    let made = made.into_iter().map(|(what, action, listeners)| {
        if definition.expect != Expect::Reached && sites.allows(&listeners) {
            return (what, Means::Skipped(ALLOWED.into()));
        }
        (what, Means::Prober { nonce: fresh_nonce(), action, listeners })
    });
    // An address of the site at which nobody could listen is not passed over in silence.
    let absent = sites.absent(to, action::transport(method)).map(untried);
    made.chain(absent.filter(|_| to.spelled.is_none())).collect()
}

/// How an attempt without a target is made.
fn goes_nowhere(method: Method, sites: &Sites) -> Means {
    let outside = |action, look| Means::Outside { nonce: fresh_nonce(), action, look };
    let change = |change| outside(Action::Reconfigure(change), Look::Change(change));
    match method {
        Method::Exec => Means::Exec,
        Method::AddAddress => change(Change::Address),
        Method::AddRoute => change(Change::Route),
        Method::AddLink => change(Change::Link),
        Method::AddFirewallTable => change(Change::Firewall),
        Method::SweepBundle => match gateway(sites) {
            Ok(targets) => {
                let host = targets.into_iter().map(|target| target.dial.host).next();
                let except = planned_ports(sites).into_iter().collect();
                let sweep = Sweep { host: host.unwrap_or_default(), except };
                outside(Action::Sweep(sweep), Look::BundleListeners)
            }
            Err(unserved) => Means::Skipped(unserved.why),
        },
        Method::ForeignSockets => outside(Action::ForeignSockets, Look::Sockets),
        Method::Unshare => outside(Action::Unshare, Look::Strays),
        Method::Inbound => outside(Action::Listen, Look::Inbound),
        Method::ListenOnHost => outside(Action::Listen, Look::HostListeners),
        _ => unreachable!("has a target, as the parser has checked"),
    }
}

/// The sign of life: an attempt to reach what every plan allows. Its number is 0.
pub fn sign_of_life(sites: &Sites) -> Option<(Attempt, Listening)> {
    let targets = match &sites.sign_of_life {
        Some((to, transport)) => sites.targets(to, *transport),
        None => gateway(sites),
    };
    let target = targets.ok()?.into_iter().next()?;
    let by_udp = matches!(sites.sign_of_life, Some((_, Transport::Udp)));
    let action = if by_udp { Action::Udp(target.dial) } else { Action::Tcp(target.dial) };
    Some((answered(0, fresh_nonce(), action), target.listeners.into_iter().next()?))
}

fn gateway(sites: &Sites) -> Result<Vec<Target>, Unserved> {
    let to = To { site: Site::Bundle, port: "gateway".into(), spelled: None };
    sites.targets(&to, Transport::Tcp)
}

/// The ports that the bundle may listen on.
pub(super) fn planned_ports(sites: &Sites) -> BTreeSet<u16> {
    let targets = gateway(sites).unwrap_or_default();
    let proxy = sites.proxy.iter().map(|proxy| proxy.address.port());
    targets.into_iter().map(|target| target.dial.port).chain(proxy).collect()
}

/// What is looked at for each attempt that no witness sees, by its number.
pub fn looks(planned: &[Planned]) -> BTreeMap<u32, Look> {
    let look = |one: &Planned| match &one.means {
        Means::Outside { look, .. } => Some((one.id, *look)),
        _ => None,
    };
    planned.iter().filter_map(look).collect()
}

/// The batch for the prober in the bottle. What holds comes first: the outside can see to it while all else is tried.
pub fn batch(planned: &[Planned], sign_of_life: Option<&Attempt>, fuse: Fuse) -> Batch {
    let mut attempts: Vec<_> = sign_of_life.cloned().into_iter().collect();
    let (outside, others): (Vec<_>, Vec<_>) =
        planned.iter().partition(|one| matches!(one.means, Means::Outside { .. }));
    for one in outside.into_iter().chain(others) {
        let made = if one.definition.expect == Expect::Reached { answered } else { attempt };
        match &one.means {
            Means::Prober { nonce, action, .. } | Means::Outside { nonce, action, .. } => {
                attempts.push(made(one.id, nonce.clone(), action.clone()));
            }
            Means::Exec | Means::Skipped(_) => {}
        }
    }
    Batch { token: fresh_nonce(), fuse, attempts }
}

/// The controls for `listeners`, by the place that they come from; and each listener's nonce.
pub fn controls<'a>(
    listeners: impl Iterator<Item = &'a Listening>,
) -> (BTreeMap<String, Batch>, BTreeMap<u32, Nonce>) {
    let mut batches: BTreeMap<String, Batch> = BTreeMap::new();
    let mut nonces = BTreeMap::new();
    for listening in listeners {
        let action = action::control(listening);
        let nonce = fresh_nonce();
        nonces.insert(listening.key, nonce.clone());
        let batch = batches.entry(listening.control.clone()).or_insert_with(|| Batch {
            token: fresh_nonce(),
            fuse: Fuse::Namespaces(Vec::new()),
            attempts: Vec::new(),
        });
        batch.attempts.push(answered(listening.key, nonce, action));
    }
    (batches, nonces)
}

pub(crate) fn attempt(id: u32, nonce: Nonce, action: Action) -> Attempt {
    let patience = match &action {
        Action::Sweep(_) => SWEEP,
        Action::UnixPath(wanted) if wanted.paths.is_empty() => WALK,
        Action::Listen | Action::Unshare | Action::ForeignSockets => HOLD,
        _ => DENY_WINDOW,
    };
    within(patience, id, nonce, action)
}

/// An attempt that must arrive.
fn answered(id: u32, nonce: Nonce, action: Action) -> Attempt {
    within(ANSWER, id, nonce, action)
}

fn within(patience: Duration, id: u32, nonce: Nonce, action: Action) -> Attempt {
    let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    Attempt { id, nonce, patience_ms, action }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use claude_bottle_protocol::witness::Service;

    use super::*;
    use crate::probe::catalogue::Catalogue;
    use crate::probe::parse::Known;

    /// Else a probe would be green that left out the very address at which somebody else listens.
    #[test]
    fn an_address_at_which_nobody_could_listen_is_told_beside_those_that_are_tried() {
        let address: SocketAddr = "192.0.2.1:2375".parse().unwrap();
        let listening = Listening {
            key: 0,
            id: 1,
            name: "control-plane tcp/2375".into(),
            transport: Transport::Tcp,
            address: address.into(),
            service: Service::Http,
            dialled_as: vec![address.ip()],
            control: "host".into(),
            control_dials: address.into(),
        };
        let mut sites = Sites::default();
        sites.add(Site::ControlPlane, "2375", Transport::Tcp, listening);
        sites.lacks(Site::ControlPlane, "2375", Transport::Tcp, "192.0.2.2:2375 is taken".into());
        let catalogue = Catalogue::embedded(Known::all()).unwrap();
        let named = |probe: &&Probe| probe.name == "control-plane-api";
        let probe = catalogue.probes().iter().find(named).unwrap().clone();
        let planned = plan(&[probe], "namespace", &sites);
        let at_2375 = planned.iter().filter(|one| one.what.ends_with("control-plane:2375"));
        let skipped = |one: &&Planned| matches!(&one.means, Means::Skipped(why) if why == "192.0.2.2:2375 is taken");
        assert_eq!(at_2375.filter(skipped).count(), 1);
        let tried = planned.iter().filter(|one| matches!(one.means, Means::Prober { .. }));
        assert!(tried.count() > 0);
    }
}
