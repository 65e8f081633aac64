//! The canary resolver: answers every query, so that whoever asked knows that it came through.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::dns::Query;

/// What a name leads to: a documentation address (RFC 5737) that the lab's world has.
const HARMLESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Names below this one lead to [`HARMLESS`] once, and to [`REBOUND`] ever after.
const REBINDING: &str = ".rebind.test";
/// Where clouds serve instance metadata: what a check on the first answer would have refused.
const REBOUND: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
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
        let query = Query::decode(message)?;
        query.answer(self.address(&query.name.to_ascii_lowercase()))
    }

    fn address(&mut self, name: &str) -> Ipv4Addr {
        if !name.ends_with(REBINDING) || self.asked.len() >= MOST_NAMES {
            return HARMLESS;
        }
        let asked = self.asked.entry(name.to_owned()).or_default();
        *asked += 1;
        if *asked == 1 { HARMLESS } else { REBOUND }
    }
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
        ] {
            assert_eq!(ask(&mut resolver, name), [expected], "{name}");
        }
        assert_eq!(resolver.answer(b"no query"), None);
    }
}
