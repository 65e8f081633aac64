//! What the outside does and sees while an attempt in the bottle holds: it looks at networks, and dials in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use claude_bottle_protocol::prober::{Action, Batch, Change, Fuse, How, Target, Word};
use futures_util::future::join_all;

use super::attempt::{attempt, fresh_nonce};
use super::judge::{Arrival, Control};
use super::verdict::Evidence;
use crate::lab::{Fixture, Observation, View};

/// How often the host is looked at again where a listener is new there, while what a bottle has opened surely stands.
const LOOKS_AT_HOST: usize = 5;
/// How often the bundle is looked at again where a listener is not planned. What listens there stands as long as the bundle does.
const LOOKS_AT_BUNDLE: usize = 50;
/// How long is waited in between: longer than a control takes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What is looked at to judge an attempt that no witness could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// One part of the bottle's network, its packet filter included: the same before and after.
    Change(Change),
    /// Processes in net namespaces that nobody made for them.
    Strays,
    /// The host's table of listeners: the same before and while the bottle listens.
    HostListeners,
    /// Connections from the outside into the bottle.
    Inbound,
    /// The bundle's table of listeners: none but those that are planned.
    BundleListeners,
    /// The sockets that the bottle's processes hold: none that a net namespace does not hold.
    Sockets,
}

impl Look {
    /// Whose network it is about.
    fn view(self) -> View {
        match self {
            Self::Change(_) | Self::Strays | Self::Inbound | Self::Sockets => View::Bottle,
            Self::HostListeners => View::Host,
            Self::BundleListeners => View::Bundle,
        }
    }

    /// Whether the attempt holds until it has been seen to.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Strays | Self::HostListeners | Self::Inbound | Self::Sockets)
    }
}

/// Networks at one moment.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    bottle: Option<Observation>,
    host: Option<Observation>,
    bundle: Option<Observation>,
}

/// What was seen while one attempt held.
#[derive(Debug, Clone, Default)]
pub struct Held {
    scene: Scene,
    dialled: Vec<Dialled>,
}

/// One try to get in from outside.
#[derive(Debug, Clone)]
struct Dialled {
    place: String,
    is_control: bool,
    address: IpAddr,
    what: String,
    word: Option<Word>,
}

/// All that the outside saw in one window.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Before the attempts.
    pub before: Scene,
    /// After them.
    pub after: Scene,
    /// The ports that the bundle may listen on.
    pub planned: BTreeSet<u16>,
    /// While an attempt held.
    pub held: BTreeMap<u32, Held>,
}

impl Scene {
    /// Looks now at all that `looks` are about, at the same time.
    pub async fn look(lab: &dyn Fixture, looks: impl IntoIterator<Item = Look>) -> Self {
        let views: BTreeSet<View> = looks.into_iter().map(Look::view).collect();
        let seen = views.into_iter().map(|view| async move {
            // What cannot be seen is judged as such.
            (view, lab.observe(view).await.ok().flatten())
        });
        let mut scene = Self::default();
        for (view, seen) in join_all(seen).await {
            match view {
                View::Bottle => scene.bottle = seen,
                View::Host => scene.host = seen,
                View::Bundle => scene.bundle = seen,
            }
        }
        scene
    }

    /// Forgets listeners of the bundle that are not planned and do not stand: a gateway that waits for a resolver's answer has an
    /// unconnected socket for it.
    pub async fn settle(&mut self, lab: &dyn Fixture, planned: &BTreeSet<u16>) {
        let odd = |seen: &Observation| seen.unplanned_listeners(planned).is_some();
        let again = async || lab.observe(View::Bundle).await.ok().flatten();
        self.bundle = standing(self.bundle.take(), LOOKS_AT_BUNDLE, odd, again).await;
    }
}

/// An attempt that holds, and the port that it listens on, if it does.
#[derive(Debug, Clone, Copy)]
pub struct Holding {
    /// Its number.
    pub id: u32,
    /// What is looked at.
    pub look: Look,
    /// The port.
    pub port: Option<u16>,
}

impl Held {
    /// Looks once for all of `holding`, and dials in where one of them is about that. `before` is what was seen before any
    /// attempt; the host is looked at once it is `quiet`.
    pub async fn act(
        lab: &dyn Fixture,
        holding: &[Holding],
        before: &Scene,
        quiet: impl Future<Output = ()>,
    ) -> BTreeMap<u32, Self> {
        let (at_host, elsewhere): (Vec<Look>, Vec<Look>) =
            holding.iter().map(|one| one.look).partition(|look| look.view() == View::Host);
        let mut scene = Scene::look(lab, elsewhere).await;
        let mut dialled = BTreeMap::new();
        for Holding { id, look, port } in holding {
            if let (Look::Inbound, Some(port), Some(bottle)) = (look, port, &scene.bottle) {
                dialled.insert(*id, dial_in(lab, bottle, *port).await);
            }
        }
        if !at_host.is_empty() {
            quiet.await;
            let host = Scene::look(lab, at_host).await.host;
            // A control that is on its way out of the host has an unconnected socket there for a moment; what a bottle opens
            // stands as long as the attempt holds.
            scene.host = match &before.host {
                Some(before) => {
                    let odd = |seen: &Observation| seen.new_listeners_since(before).is_some();
                    let again = async || lab.observe(View::Host).await.ok().flatten();
                    standing(host, LOOKS_AT_HOST, odd, again).await
                }
                None => None,
            };
        }
        let held = holding.iter().map(|Holding { id, .. }| {
            let dialled = dialled.remove(id).unwrap_or_default();
            (*id, Self { scene: scene.clone(), dialled })
        });
        held.collect()
    }
}

/// What was seen of a network, less those of its listeners that do not stand: where something is `odd`, it is looked at `again`, so
/// many times at most.
async fn standing(
    seen: Option<Observation>,
    looks: usize,
    odd: impl Fn(&Observation) -> bool,
    again: impl AsyncFn() -> Option<Observation>,
) -> Option<Observation> {
    let mut seen = seen?;
    for _ in 0..looks {
        if !odd(&seen) {
            break;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        seen.keep_listeners_of(&again().await?);
    }
    Some(seen)
}

/// Dials every address that the bottle has, from every place.
async fn dial_in(lab: &dyn Fixture, bottle: &Observation, port: u16) -> Vec<Dialled> {
    let Some(inbound) = lab.inbound() else { return Vec::new() };
    let v4 = bottle.addresses_v4.iter().copied().map(IpAddr::from);
    let v6 = bottle.addresses_v6.iter().map(|(address, _)| IpAddr::from(*address));
    let addresses: BTreeSet<_> = v4.chain(v6).filter(|address| is_global(*address)).collect();
    // A control from within gets in by loopback where there is nothing else.
    let loopback = BTreeSet::from([IpAddr::from(Ipv4Addr::LOCALHOST)]);
    let for_control = if addresses.is_empty() { &loopback } else { &addresses };
    let places = inbound.from.iter().map(|place| (place, false));
    let mut rounds = Vec::new();
    let mut tries = Vec::new();
    for (place, is_control) in places.chain([(&inbound.control, true)]) {
        let addresses = if is_control { for_control } else { &addresses };
        let (batch, dialled) = dial_from(place, is_control, addresses, port);
        rounds.push((place.clone(), batch));
        tries.push(dialled);
    }
    for (answers, dialled) in lab.controls(&rounds).await.into_iter().zip(&mut tries) {
        let Ok(answers) = answers else { continue };
        for (id, one) in (0..).zip(dialled) {
            one.word = answers.words.get(&id).map(|(word, _)| word.clone());
        }
    }
    tries.into_iter().flatten().collect()
}

/// What is dialled from one place, in the order of the batch.
fn dial_from(
    place: &str,
    is_control: bool,
    addresses: &BTreeSet<IpAddr>,
    port: u16,
) -> (Batch, Vec<Dialled>) {
    let mut tries = Vec::new();
    let mut attempts = Vec::new();
    for address in addresses {
        let target = Target { host: address.to_string(), port };
        for action in [Action::Tcp(target.clone()), Action::Udp(target.clone())] {
            let id = u32::try_from(attempts.len()).expect("a few dozen tries");
            let transport = if matches!(action, Action::Tcp(_)) { "tcp" } else { "udp" };
            let what = format!("{transport} from {place} to {address}");
            let address = *address;
            tries.push(Dialled { place: place.into(), is_control, address, what, word: None });
            attempts.push(attempt(id, fresh_nonce(), action));
        }
    }
    let fuse = Fuse::Namespaces(Vec::new());
    (Batch { token: fresh_nonce(), fuse, attempts }, tries)
}

/// Whether an address means the same seen from elsewhere.
fn is_global(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !link_local
}

/// What is known of an attempt from looking.
pub struct Seen {
    /// Whether looking could have shown it.
    pub control: Control,
    /// What it showed.
    pub arrival: Arrival,
    /// How the outside's own tries ended, where it made some: it counts instead of the prober's word.
    pub word: Option<Word>,
}

impl Outside {
    /// What `look` showed of the attempt with number `id`.
    pub fn seen(&self, look: Look, id: u32) -> Seen {
        let held = self.held.get(&id);
        let scene = held.map_or(&self.after, |held| &held.scene);
        match look {
            Look::Change(change) => {
                let readable =
                    |scene: &Scene| scene.bottle.clone().filter(|seen| seen.part(change).is_some());
                let before = readable(&self.before);
                // With a bottle that has ended go its wires, which nobody in there has changed.
                let is_whole = |after: &Observation| {
                    before.as_ref().is_some_and(|before| !after.has_lost_since(before))
                };
                let after = readable(&self.after).filter(is_whole);
                compare(
                    "the bottle's network, read from outside",
                    (&before, &after),
                    |after, before| after.change_since(before, change),
                )
            }
            Look::HostListeners => compare(
                "the host's table of listeners",
                (&self.before.host, &scene.host),
                Observation::new_listeners_since,
            ),
            Look::Strays => {
                let seen = |scene: &Option<Observation>| {
                    scene.clone().filter(|seen| seen.strays.is_some())
                };
                compare(
                    "the processes of the lab",
                    (&seen(&self.before.bottle), &seen(&scene.bottle)),
                    Observation::new_strays_since,
                )
            }
            Look::Inbound => inbound(held),
            Look::Sockets => sockets(held),
            Look::BundleListeners => compare(
                "the bundle's table of listeners",
                (&self.before.bundle, &self.after.bundle),
                |after, _| after.unplanned_listeners(&self.planned),
            ),
        }
    }
}

fn compare(
    witness: &str,
    (before, after): (&Option<Observation>, &Option<Observation>),
    difference: impl Fn(&Observation, &Observation) -> Option<String>,
) -> Seen {
    let (Some(before), Some(after)) = (before, after) else {
        let control = Control::Failed(format!("{witness} cannot be seen"));
        return Seen { control, arrival: Arrival::Nothing, word: None };
    };
    let arrival = match difference(after, before) {
        Some(saw) => Arrival::Nonce(evidence(witness, saw)),
        None => Arrival::Nothing,
    };
    Seen { control: Control::Reached, arrival, word: None }
}

/// The attempt holds an ordinary socket as well: who does not see that one sees none.
fn sockets(held: Option<&Held>) -> Seen {
    let witness = "the sockets of the bottle's processes, read from outside";
    let seen = held.and_then(|held| held.scene.bottle.as_ref()).filter(|b| b.holds_ordinary());
    let Some(seen) = seen else {
        let control = Control::Failed(format!("{witness}: not even an ordinary one is seen"));
        return Seen { control, arrival: Arrival::Nothing, word: None };
    };
    let arrival = match seen.foreign_sockets() {
        Some(saw) => Arrival::Nonce(evidence(witness, saw)),
        None => Arrival::Nothing,
    };
    Seen { control: Control::Reached, arrival, word: None }
}

fn inbound(held: Option<&Held>) -> Seen {
    let Some(held) = held else {
        let control = Control::Failed("the bottle's listener never came up".into());
        return Seen { control, arrival: Arrival::Nothing, word: None };
    };
    let answered =
        |dialled: &&Dialled| dialled.word.as_ref().is_some_and(|word| word.how == How::Answered);
    let (controls, tries): (Vec<_>, Vec<_>) = held.dialled.iter().partition(|d| d.is_control);
    let arrival = match tries.iter().copied().find(answered) {
        Some(Dialled { place, address, what, .. }) => {
            let saw = format!("{what}: the bottle's listener on {address} answered");
            Arrival::Nonce(evidence(&format!("the prober at {place}"), saw))
        }
        None => Arrival::Nothing,
    };
    let control = if controls.iter().any(answered) {
        Control::Reached
    } else {
        let place = controls.first().map_or("bundle", |dialled| dialled.place.as_str());
        Control::Failed(format!("not even the {place} reaches the bottle's listener"))
    };
    // Any try that was not made leaves the whole open.
    let untried = tries.iter().any(|dialled| dialled.word.is_none());
    let word = match tries.first() {
        Some(first) => first.word.clone().filter(|_| !untried),
        // It has no address that anybody outside could dial, and within it the listener answered.
        None if control == Control::Reached => Some(Word::new(How::Unreachable)),
        None => None,
    };
    Seen { control, arrival, word }
}

fn evidence(witness: &str, saw: String) -> Evidence {
    Evidence { witness: witness.to_owned(), peer: None, saw, at: Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use claude_bottle_protocol::helper::LISTENING;

    use super::*;

    fn listening(lines: &str) -> Observation {
        Observation::parse(&BTreeMap::from([(LISTENING.to_owned(), lines.to_owned())]))
    }

    /// What is left of the first of these looks, and how many of them were taken.
    async fn stands(looks: &[&str]) -> (Option<String>, usize) {
        let planned = BTreeSet::from([8888]);
        let mut later = looks.iter().map(|lines| listening(lines));
        let first = later.next();
        let (later, taken) = (RefCell::new(later), RefCell::new(1));
        let odd = |seen: &Observation| seen.unplanned_listeners(&planned).is_some();
        let again = async || {
            *taken.borrow_mut() += 1;
            later.borrow_mut().next()
        };
        let seen = standing(first, looks.len() - 1, odd, again).await;
        (seen.and_then(|seen| seen.unplanned_listeners(&planned)), taken.into_inner())
    }

    #[tokio::test]
    async fn a_listener_that_is_not_planned_has_to_stand() {
        let planned = "tcp 0.0.0.0:8888";
        assert_eq!(stands(&[planned, planned]).await, (None, 1), "nothing is odd");
        // Each look finds another socket that waits for a resolver.
        let waits = ["udp 0.0.0.0:40001", "udp 0.0.0.0:40002", "udp 0.0.0.0:40003"];
        assert_eq!(stands(&waits).await, (None, 2));
        let stray = "tcp 0.0.0.0:8888\ntcp 0.0.0.0:6060";
        let seen = stands(&["tcp 0.0.0.0:6060\nudp 0.0.0.0:40001", stray, stray]).await;
        assert_eq!(seen, (Some("tcp 0.0.0.0:6060".to_owned()), 3));
    }

    #[tokio::test]
    async fn what_cannot_be_looked_at_again_is_not_judged() {
        let odd = |_: &Observation| true;
        let seen = standing(Some(listening("tcp 0.0.0.0:6060")), 3, odd, async || None).await;
        assert_eq!(seen, None);
    }
}
