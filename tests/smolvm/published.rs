//! Bundles that this host does not reach, as with Docker Desktop: refused, or published on loopback where somebody has said so.
//!
//! On a real engine, of the test's own. The machine is a stand-in's, which shows nothing of what a machine reaches.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use claude_bottle::backend::smolmachines::launch::LaunchFailed;
use claude_bottle::backend::smolmachines::plan::{Spec, Way};
use claude_bottle::bottle::Bottle as _;
use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::gateway::{Config, Limits};
use libtest_mimic::Trial;

use crate::place::{LABELS, Place, beside_a_stand_in, name};
use crate::site::{Site, by_way_of};
use crate::trials::trials;

/// `LISTEN`, as `/proc/net/tcp` has it.
const LISTEN: &str = "0A";

fn spec(name: &str, site: SocketAddr, loopback: bool) -> Spec {
    let allow = vec![site.to_string()];
    let gateway = Config { allow, listen: None, resolver: None, limits: Limits::default() };
    Spec { name: name.to_owned(), gateway: Some(gateway), loopback, ..Spec::default() }
}

/// Where somebody listens on the engine's host, over TCP: addresses as the kernel writes them.
fn listeners(place: &Place) -> BTreeSet<String> {
    let tables = place.in_net(|| {
        ["tcp", "tcp6"].map(|table| {
            let table = format!("/proc/thread-self/net/{table}");
            std::fs::read_to_string(table).unwrap_or_default()
        })
    });
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let rows = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == LISTEN).map(|row| row[1].to_owned()).collect()
}

#[tokio::main]
async fn a_bundle_that_this_host_does_not_reach_is_refused_with_its_reason() {
    beside_a_stand_in(LABELS, async |place| {
        let far = Place { reached: false, ..place.clone() };
        let (name, site, before) = (name(), Site::of(place).await, listeners(place));
        let spec = spec(&name, site.address, false);
        let error = far.launch_as(&spec, &|_| {}).await.unwrap_err();
        assert!(matches!(error, LaunchFailed::NotReached(_)), "{error}");
        let said = error.to_string();
        assert!(said.contains("CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1"), "{said}");
        assert!(said.contains("opens every port of that to the machine"), "{said}");
        assert_eq!((far.parts(&name).await, listeners(place)), ((0, false), before));
    })
    .await;
}

#[tokio::main]
async fn where_somebody_has_said_so_it_is_published_on_loopback_and_nowhere_else() {
    beside_a_stand_in(LABELS, async |place| {
        let far = Place { reached: false, ..place.clone() };
        let (name, site) = (name(), Site::of(place).await);
        let before = listeners(place);
        let spec = spec(&name, site.address, true);
        let launched = far.launch_as(&spec, &|_| {}).await.unwrap();
        let Way::Loopback(port) = launched.plan.way else { panic!("{:?}", launched.plan.way) };
        // Of all that listens on the engine's host one thing is new.
        let new: Vec<_> = listeners(place).difference(&before).cloned().collect();
        assert_eq!(new, [format!("0100007F:{port:04X}")]);
        // It is the gateway, with the bottle's list.
        let proxy = (Ipv4Addr::LOCALHOST, port).into();
        let nonce = Nonce::from_bits(rand::random()).to_string();
        let answer = by_way_of(place, proxy, &site.address.to_string(), &nonce);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(site.asked().iter().any(|request| request.contains(&nonce)));
        let answer = by_way_of(place, proxy, "denied.test", &nonce);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert_eq!(site.asked(), [""; 0]);

        // The machine may reach its host's loopback, and is told where.
        let machine = far.ground().await.tools().smolvm.machine(&name).await.unwrap().unwrap();
        assert_eq!(machine.allowed_cidrs.unwrap(), ["100.96.0.1/32"]);
        let at = ("http_proxy".to_owned(), format!("http://100.96.0.1:{port}"));
        assert!(launched.plan.env.contains(&at), "{:?}", launched.plan.env);
        let notes = launched.bottle.notes();
        assert!(notes[0].contains("every other port of this host's loopback is open"), "{notes:?}");

        launched.bottle.teardown().await.unwrap();
        let remarks = launched.bottle.remarks();
        assert_eq!(remarks, ["refused: denied.test:80: the host is not allowed"]);
        assert_eq!((far.parts(&name).await, listeners(place)), ((0, false), before));
    })
    .await;
}

/// Nobody has to say anything where the bundle is reached, and nothing is published then.
#[tokio::main]
async fn a_bundle_that_is_reached_is_not_published_whatever_somebody_has_said() {
    beside_a_stand_in(LABELS, async |place| {
        let (name, site, before) = (name(), Site::of(place).await, listeners(place));
        let spec = spec(&name, site.address, true);
        let launched = place.launch_as(&spec, &|_| {}).await.unwrap();
        let bundle = launched.bundle.plan.bundle_address;
        assert_eq!(launched.plan.way, Way::Direct(bundle));
        assert_eq!(listeners(place), before);
        let nonce = Nonce::from_bits(rand::random()).to_string();
        let proxy = SocketAddr::from(launched.plan.way.gateway());
        let answer = by_way_of(place, proxy, &site.address.to_string(), &nonce);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let machine = place.ground().await.tools().smolvm.machine(&name).await.unwrap().unwrap();
        assert_eq!(machine.allowed_cidrs.unwrap(), [format!("{bundle}/32")]);
        assert_eq!(launched.bottle.notes(), [""; 0]);
        launched.bottle.teardown().await.unwrap();
        assert_eq!(place.parts(&name).await, (0, false));
    })
    .await;
}

/// As of an engine on another machine: what it publishes on its host's loopback is not on this one's.
#[tokio::main]
async fn what_is_published_on_another_machine_is_refused() {
    beside_a_stand_in(LABELS, async |place| {
        let elsewhere = Place { reached: false, net: "/proc/self/ns/net".into(), ..place.clone() };
        let (name, site) = (name(), Site::of(place).await);
        let error = elsewhere.launch_as(&spec(&name, site.address, true), &|_| {}).await;
        let error = error.unwrap_err();
        assert!(matches!(error, LaunchFailed::NotPublished(_)), "{error}");
        assert_eq!(place.parts(&name).await, (0, false));
    })
    .await;
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_bundle_that_this_host_does_not_reach_is_refused_with_its_reason,
        where_somebody_has_said_so_it_is_published_on_loopback_and_nowhere_else,
        a_bundle_that_is_reached_is_not_published_whatever_somebody_has_said,
        what_is_published_on_another_machine_is_refused,
    ]
}
