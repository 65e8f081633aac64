//! Bottle, bundle, host, neighbours and world as they were wired, leaks as arrows: inline SVG.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{anchor, short};
use crate::lab::{Place, Role, Wiring};
use crate::probe::definition::{Expect, Site};
use crate::probe::verdict::Verdict;
use crate::report::json::{Probe, Run};
use crate::report::prose::{self, Nonces};

const WIDTH: i32 = 236;
const GAP: i32 = 52;
const LANE: i32 = 36;
const ROW_GAP: i32 = 26;
/// The most addresses of a card.
const ADDRESSES: usize = 4;
/// The most arrows; the list below the drawing has them all.
const ARROWS: usize = 8;

/// A place where it is drawn.
struct Card<'a> {
    place: &'a Place,
    x: i32,
    y: i32,
    height: i32,
}

impl Card<'_> {
    fn middle(&self) -> (i32, i32) {
        (self.x + WIDTH / 2, self.y + self.height / 2)
    }
}

/// The drawing; nothing where the backend did not tell how it was wired.
pub(super) fn draw(run: &Run, index: usize) -> Markup {
    let arrows = arrows(run);
    let lanes = i32::try_from(arrows.len()).unwrap_or(0);
    let top = 20 + LANE * lanes;
    let cards = lay(&run.wiring, top);
    if !cards.iter().any(|card| card.place.role == Role::Bottle) {
        return html! {};
    }
    let right = cards.iter().map(|card| card.x + WIDTH).max().unwrap_or(0) + 4;
    let bottom = cards.iter().map(|card| card.y + card.height).max().unwrap_or(0) + 50;
    let title = format!("drawing-{index}");
    html! {
        div.drawing tabindex="0" role="region" aria-label="How the bottle was wired" {
            svg viewBox=(format!("-4 0 {} {bottom}", right + 4)) role="group" aria-labelledby=(title) {
                title id=(title) { "Bottle and lab as they were wired in this run" }
                defs {
                    marker id=(format!("tip-{index}")) viewBox="0 0 10 10" refX="9" refY="5" markerWidth="5"
                        markerHeight="5" orient="auto-start-reverse" { path.tip d="M0 0 10 5 0 10z" {} }
                }
                @for wire in &run.wiring.wires { (wire_between(&cards, &wire.from, &wire.to)) }
                @for card in &cards { (card_of(card, run)) }
                @for (lane, arrow) in arrows.iter().enumerate() { (drawn(&cards, arrow, lane, index)) }
            }
        }
    }
}

fn lay(wiring: &Wiring, top: i32) -> Vec<Card<'_>> {
    let mut sorted: Vec<_> = wiring.places.iter().collect();
    sorted.sort_by_key(|place| place.role);
    let mut below: BTreeMap<i32, i32> = BTreeMap::new();
    let cards = sorted.into_iter().map(|place| {
        let column = match place.role {
            Role::Bottle => 0,
            Role::Bundle => 1,
            Role::Host | Role::Neighbour => 2,
            Role::World | Role::Machine => 3,
        };
        let y = below.entry(column).or_insert(top);
        let lines = i32::try_from(place.addresses.len().min(ADDRESSES)).unwrap_or(0);
        let sites = i32::try_from(place.sites.len()).unwrap_or(0);
        let height = 54 + 16 * lines + 20 * sites;
        let card = Card { place, x: column * (WIDTH + GAP), y: *y, height };
        *y += height + ROW_GAP;
        card
    });
    cards.collect()
}

fn wire_between(cards: &[Card<'_>], from: &str, to: &str) -> Markup {
    let at = |name: &str| cards.iter().find(|card| card.place.name == name);
    let (Some(a), Some(b)) = (at(from), at(to)) else { return html! {} };
    let ((ax, ay), (bx, by)) = (a.middle(), b.middle());
    let path = if (a.x - b.x).abs() > WIDTH + GAP {
        // Round the cards that are between.
        let ((left, x, y), right) = if a.x < b.x { ((a, ax, ay), b) } else { ((b, bx, by), a) };
        let end = right.y + right.height - 24;
        let low = end.max(left.y + left.height) + 90;
        format!("M{x} {y}C{x} {low} {} {low} {} {end}", right.x - 40, right.x)
    } else if a.x == b.x {
        format!("M{ax} {ay}V{by}")
    } else {
        let (left, right) = if a.x < b.x { (a, b) } else { (b, a) };
        let y = left.y.max(right.y) + 28;
        format!("M{} {y}H{}", left.x + WIDTH, right.x)
    };
    html! { path.wire d=(path) {} }
}

fn card_of(card: &Card<'_>, run: &Run) -> Markup {
    let Card { place, x, y, height } = card;
    let (left, first) = (x + 16, y + 44);
    let below = first + 16 * i32::try_from(place.addresses.len().min(ADDRESSES)).unwrap_or(0);
    let class = if place.role == Role::Bottle { "card bottle" } else { "card" };
    let title = match place.role {
        Role::Bottle => "Bottle",
        Role::Bundle => "Bundle",
        Role::Host => "Host",
        Role::Neighbour => "Neighbour",
        Role::World => "World",
        Role::Machine => "This machine",
    };
    html! {
        @if place.role == Role::Bottle {
            // Its neck: the one way out.
            rect.bottle x=(x + WIDTH - 10) y=(y + 14) width="34" height="28" rx="5" {}
        }
        rect class=(class) x=(x) y=(y) width=(WIDTH) height=(height) rx="14" {}
        text.name x=(left) y=(y + 26) { (title) }
        @for (n, address) in (0..).zip(place.addresses.iter().take(ADDRESSES)) {
            text.address x=(left) y=(first + 16 * n) { (short(address, 32)) }
        }
        @for (n, site) in (0..).zip(&place.sites) {
            @let (class, told) = standing(run, *site);
            circle class=(class) cx=(left + 4) cy=(below + 20 * n + 5) r="4" {}
            text.site x=(left + 16) y=(below + 20 * n + 9) { (site.as_str()) tspan.told { " " (told) } }
        }
    }
}

/// What came of all attempts at a site.
fn standing(run: &Run, site: Site) -> (&'static str, String) {
    let attempts = run.probes.iter().flat_map(|probe| &probe.outcome.attempts);
    let here: Vec<_> = attempts.filter(|one| one.site == Some(site)).collect();
    let known = here
        .iter()
        .filter(|one| one.expect == Expect::Leaks && matches!(one.verdict, Verdict::Leaked { .. }));
    let known = known.count();
    let here: Vec<_> = here.into_iter().map(|one| &one.verdict).collect();
    let of = |is: fn(&&&Verdict) -> bool| here.iter().filter(is).count();
    let leaked = of(|verdict| matches!(verdict, Verdict::Leaked { .. }));
    let unclear =
        of(|verdict| matches!(verdict, Verdict::Inconclusive { .. } | Verdict::Unreached { .. }));
    let contained = of(|verdict| matches!(verdict, Verdict::Contained { .. }));
    let reached = of(|verdict| matches!(verdict, Verdict::Reached));
    match (leaked, unclear, contained, reached) {
        (1.., ..) if leaked == known => ("dot amber", format!("{known} leak as known")),
        (1.., ..) => ("dot bad", format!("{leaked} leaked")),
        (0, 1.., ..) => ("dot unclear", format!("{unclear} unclear")),
        (0, 0, 0, 0) => ("dot", "not tried".to_owned()),
        (0, 0, 0, _) => ("dot good", format!("{reached} reached")),
        (0, 0, _, 0) => ("dot good", format!("{contained} contained")),
        _ => ("dot good", format!("{contained} contained, {reached} reached")),
    }
}

/// One leak: the probe, and the site that it got to.
struct Arrow<'a> {
    probe: &'a Probe,
    site: Option<Site>,
    evidence: String,
}

/// The worst leaks.
fn arrows(run: &Run) -> Vec<Arrow<'_>> {
    let mut arrows: Vec<_> = run.probes.iter().filter_map(arrow).collect();
    arrows.sort_by_key(|arrow| std::cmp::Reverse(arrow.probe.outcome.severity));
    arrows.truncate(ARROWS);
    arrows
}

fn arrow(probe: &Probe) -> Option<Arrow<'_>> {
    let outcome = &probe.outcome;
    let leaks = |verdict: &Verdict| matches!(verdict, Verdict::Leaked { .. });
    let first = outcome.attempts.iter().find(|one| leaks(&one.verdict));
    let evidence = prose::reason(&outcome.verdict, Nonces::Short);
    leaks(&outcome.verdict).then(|| Arrow { probe, site: first.and_then(|one| one.site), evidence })
}

/// Up from the bottle, along a lane of its own, and down beside the column of where it goes.
fn drawn(cards: &[Card<'_>], arrow: &Arrow<'_>, lane: usize, index: usize) -> Markup {
    let Some(bottle) = cards.iter().find(|card| card.place.role == Role::Bottle) else {
        return html! {};
    };
    let target =
        arrow.site.and_then(|site| cards.iter().find(|card| card.place.sites.contains(&site)));
    let lane = i32::try_from(lane).unwrap_or(0);
    let (start, y) = (bottle.x + 20 + 8 * lane, 24 + LANE * lane);
    let path = match target {
        Some(card) => {
            let (x, down) =
                (card.x - GAP / 2 + 3 * lane - 12, card.y + card.height / 2 + 6 * lane - 14);
            format!("M{start} {}V{y}H{x}V{down}H{}", bottle.y, card.x - 2)
        }
        None => format!("M{start} {}V{y}H{}V{}", bottle.y, bottle.x + WIDTH - 20, bottle.y - 2),
    };
    let name = short(&arrow.probe.outcome.name, 40);
    html! {
        a href=(format!("#{}", anchor(index, arrow.probe))) {
            title { (name) ": " (arrow.evidence) }
            path.leak d=(path) marker-end=(format!("url(#tip-{index})")) {}
            text.leaks x=(start + 10) y=(y - 7) { tspan.probe { (name) } " " (short(&arrow.evidence, 84)) }
        }
    }
}
