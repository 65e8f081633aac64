//! From definitions to what is tried in this lab: every attempt with its nonce, its target and its listeners.

use std::collections::BTreeMap;
use std::time::Duration;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{
    Action, Attempt, Batch, Fuse, Inherited, Lookup, Paths, Server, Target as Dial,
};
use claude_bottle_protocol::witness::{Service, Transport};
use rand::RngExt as _;

use super::definition::{AttemptDefinition, Method, Probe, RunsOn, Site, To};
use crate::lab::{Address, Listening, Sites, Unserved};

/// How long a denial is waited for: longer than the 1.0 s that some rejections and a first IPv6 contact take.
pub const DENY_WINDOW: Duration = Duration::from_millis(1500);

/// How a definition spells "whomever the bottle is configured to ask".
const CONFIGURED: &str = "resolv.conf";
/// How the names go on that are looked up. `.test` is nobody's (RFC 6761 §6.2): no real resolver would ask further.
const LOOKED_UP: &str = "lab.test";
/// Below this name the canary resolver changes its mind after the first answer.
const REBINDING: &str = "rebind.test";
/// Where metadata services listen.
const HTTP_PORT: u16 = 80;

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
    let Some(to) = &definition.to else {
        return vec![(format!("{method} a command"), Means::Exec)];
    };
    let transport = transport(method);
    let place = format!("{method} to {}:{}", to.site, to.port);
    let made = match method {
        Method::UnixAbstract | Method::UnixPath => through_sockets(method, to, sites),
        _ => sites.targets(to, transport).map(|targets| {
            targets
                .into_iter()
                .map(|target| {
                    let as_what = format!("{place} as {}", target.dial.host);
                    (as_what, action(method, target.dial, sites), target.listeners)
                })
                .collect()
        }),
    };
    match made {
        Err(unserved) => {
            let spelled = to.spelled.as_ref().map(|s| format!(" as {s}")).unwrap_or_default();
            vec![(format!("{place}{spelled}"), Means::Skipped(unserved.why))]
        }
        Ok(made) => made
            .into_iter()
            .map(|(what, action, listeners)| {
                (what, Means::Prober { nonce: fresh_nonce(), action, listeners })
            })
            .collect(),
    }
}

/// What a method's listeners listen with.
fn transport(method: Method) -> Transport {
    match method {
        Method::Tcp | Method::DnsTcp | Method::InheritedTcp => Transport::Tcp,
        Method::Udp | Method::DnsUdp | Method::Rebind | Method::InheritedUdp => Transport::Udp,
        Method::UnixAbstract | Method::UnixPath => Transport::Unix,
        Method::Exec => unreachable!("goes nowhere, as the parser has checked"),
    }
}

/// What the prober does to get to `dial`.
fn action(method: Method, dial: Dial, sites: &Sites) -> Action {
    let inherited = |target| Inherited { target, namespaces: sites.namespaces.clone() };
    match method {
        Method::Udp => Action::Udp(dial),
        Method::DnsUdp => Action::DnsUdp(lookup(dial)),
        Method::DnsTcp => Action::DnsTcp(lookup(dial)),
        Method::Rebind => Action::DnsUdp(Lookup {
            below: REBINDING.into(),
            then_connect: Some(HTTP_PORT),
            ..lookup(dial)
        }),
        Method::InheritedTcp => Action::InheritedTcp(inherited(dial)),
        Method::InheritedUdp => Action::InheritedUdp(inherited(dial)),
        Method::Tcp | Method::UnixAbstract | Method::UnixPath | Method::Exec => Action::Tcp(dial),
    }
}

fn lookup(dial: Dial) -> Lookup {
    let server = if dial.host == CONFIGURED { Server::Configured } else { Server::At(dial) };
    Lookup { server, below: LOOKED_UP.into(), then_connect: None }
}

type Made = (String, Action, Vec<Listening>);

/// Attempts at Unix sockets: one for each abstract one, and one for all of those that may be found in the file system.
fn through_sockets(method: Method, to: &To, sites: &Sites) -> Result<Vec<Made>, Unserved> {
    let here = sites.listening(to, Transport::Unix)?;
    let place = format!("{method} to {}:{}", to.site, to.port);
    if method == Method::UnixPath {
        let ours = here.iter().filter_map(|one| match &one.address {
            Address::File { file, .. } => Some(*file),
            Address::Inet(_) | Address::Abstract(_) => None,
        });
        let paths = Paths { paths: Vec::new(), ours: ours.collect() };
        return Ok(vec![(place, Action::UnixPath(paths), here.to_vec())]);
    }
    let one_each = here.iter().filter_map(|one| match &one.address {
        Address::Abstract(name) => {
            let action = Action::UnixAbstract(name.clone());
            Some((format!("{place} as {}", one.address), action, vec![one.clone()]))
        }
        Address::Inet(_) | Address::File { .. } => None,
    });
    Ok(one_each.collect())
}

/// The sign of life: an attempt to reach what every plan allows. Its number is 0.
pub fn sign_of_life(sites: &Sites) -> Option<(Attempt, Listening)> {
    let to = To { site: Site::Bundle, port: "gateway".into(), spelled: None };
    let target = sites.targets(&to, Transport::Tcp).ok()?.into_iter().next()?;
    let action = Action::Tcp(target.dial);
    Some((attempt(0, fresh_nonce(), action), target.listeners.into_iter().next()?))
}

/// The batch for the prober in the bottle.
pub fn batch(planned: &[Planned], sign_of_life: Option<&Attempt>, fuse: Fuse) -> Batch {
    let mut attempts: Vec<_> = sign_of_life.cloned().into_iter().collect();
    for one in planned {
        if let Means::Prober { nonce, action, .. } = &one.means {
            attempts.push(attempt(one.id, nonce.clone(), action.clone()));
        }
    }
    Batch { token: fresh_nonce(), fuse, attempts }
}

/// The controls for `listeners`, by the place that they come from; and each listener's nonce.
pub fn controls<'a>(
    listeners: impl Iterator<Item = (u32, (&'a Listening, Transport))>,
) -> (BTreeMap<String, Batch>, BTreeMap<u32, Nonce>) {
    let mut batches: BTreeMap<String, Batch> = BTreeMap::new();
    let mut nonces = BTreeMap::new();
    for (id, (listening, transport)) in listeners {
        let action = control(listening, transport);
        let nonce = fresh_nonce();
        nonces.insert(id, nonce.clone());
        let batch = batches.entry(listening.control.clone()).or_insert_with(|| Batch {
            token: fresh_nonce(),
            fuse: Fuse::Namespaces(Vec::new()),
            attempts: Vec::new(),
        });
        batch.attempts.push(attempt(id, nonce, action));
    }
    (batches, nonces)
}

/// What a control does: the same as the attempts, from a place that must get there.
fn control(listening: &Listening, transport: Transport) -> Action {
    let address = match &listening.control_dials {
        Address::Inet(address) => *address,
        Address::Abstract(name) => return Action::UnixAbstract(name.clone()),
        Address::File { path, file } => {
            return Action::UnixPath(Paths { paths: vec![path.clone()], ours: vec![*file] });
        }
    };
    let dial = Dial { host: address.ip().to_string(), port: address.port() };
    match (transport, listening.service) {
        (Transport::Udp, Service::Resolver) => Action::DnsUdp(lookup(dial)),
        (_, Service::Resolver) => Action::DnsTcp(lookup(dial)),
        (Transport::Udp, Service::Echo) => Action::Udp(dial),
        (Transport::Tcp | Transport::Unix, Service::Echo) => Action::Tcp(dial),
    }
}

fn attempt(id: u32, nonce: Nonce, action: Action) -> Attempt {
    let patience_ms = u32::try_from(DENY_WINDOW.as_millis()).unwrap_or(u32::MAX);
    Attempt { id, nonce, patience_ms, action }
}
