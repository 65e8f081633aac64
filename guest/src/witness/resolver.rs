//! The canary resolver: answers every query, so that whoever asked knows that it came through.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::dns::{Kind, Query};

/// What a name leads to: a documentation address (RFC 5737) that the lab's world has.
const HARMLESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Names below this one lead to [`HARMLESS`] once, and to [`REBOUND`] ever after.
const REBINDING: &str = ".rebind.test";
/// Where clouds serve instance metadata: what a check on the first answer would have refused.
const REBOUND: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Names below this one lead to the address that their first label spells, with `-` for each dot or colon.
const LEADING: &str = ".leads-to.test";
/// Names below this one lead to [`HARMLESS`] once, and to whoever asked ever after.
const FLIPPING: &str = ".flips.test";
/// How many rebinding names are remembered.
const MOST_NAMES: usize = 4096;

/// Which rebinding names have been asked for, and how often.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    asked: BTreeMap<String, u32>,
}

impl Resolver {
    /// The answer to `message`; none if it is no query.
    pub(crate) fn answer(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let (query, kind) = Query::decode(message)?;
        let name = query.name.to_ascii_lowercase();
        // A look-up of both kinds is one.
        let address = if kind == Kind::A { self.address(&name) } else { led_to(&name) };
        query.answer(kind, address)
    }

    fn address(&mut self, name: &str) -> IpAddr {
        let then = [(REBINDING, REBOUND), (FLIPPING, Ipv4Addr::LOCALHOST)];
        let then = then.iter().find(|(below, _)| name.ends_with(below));
        let Some((_, then)) = then.filter(|_| self.asked.len() < MOST_NAMES) else {
            return led_to(name);
        };
        let asked = self.asked.entry(name.to_owned()).or_default();
        *asked += 1;
        if *asked == 1 { HARMLESS.into() } else { (*then).into() }
    }
}

/// The address that a name spells; [`HARMLESS`] if it spells none.
fn led_to(name: &str) -> IpAddr {
    let label = name.strip_suffix(LEADING).unwrap_or_default();
    let spelled = |dash: &str| label.replace('-', dash).parse().ok();
    spelled(".").or_else(|| spelled(":")).unwrap_or(HARMLESS.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(resolver: &mut Resolver, name: &str) -> Vec<Ipv4Addr> {
        let query = Query { id: 9, name: name.into() };
        let answer = resolver.answer(&query.encode().unwrap()).unwrap();
        query.answered_by(&answer).unwrap()
    }

    #[test]
    fn only_rebinding_names_change() {
        let mut resolver = Resolver::default();
        for (name, expected) in [
            ("a.lab.test", HARMLESS),
            ("a.lab.test", HARMLESS),
            ("a.rebind.test", HARMLESS),
            ("A.rebind.test", REBOUND),
            ("b.rebind.test", HARMLESS),
            ("a.flips.test", HARMLESS),
            ("a.flips.test", Ipv4Addr::LOCALHOST),
            ("10-200-1-1.leads-to.test", Ipv4Addr::new(10, 200, 1, 1)),
            ("nowhere.leads-to.test", HARMLESS),
        ] {
            assert_eq!(ask(&mut resolver, name), [expected], "{name}");
        }
        assert_eq!(resolver.answer(b"no query"), None);
        assert_eq!(ask(&mut resolver, "64-ff9b--1.leads-to.test"), [] as [Ipv4Addr; 0]);
        assert_eq!(led_to("64-ff9b--1.leads-to.test"), "64:ff9b::1".parse::<IpAddr>().unwrap());
    }
}
