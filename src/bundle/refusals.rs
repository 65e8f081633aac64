//! What was refused to a bottle, and how often.

use std::collections::BTreeMap;

/// How many different refusals are remembered.
const MOST: usize = 50;

/// One thing that was refused. What a client asked for is the guest's word: nothing of it has been made harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The destination; empty where none was understood.
    pub target: String,
    /// Why it was refused.
    pub why: String,
}

/// What was refused, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    counts: BTreeMap<(String, String), u64>,
    /// How many were not remembered.
    more: u64,
}

impl Refusals {
    /// Counts one.
    pub fn add(&mut self, Refusal { target, why }: Refusal) {
        let key = (target, why);
        if self.counts.len() < MOST || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        } else {
            self.more += 1;
        }
    }

    /// For a person, a line each; nothing if nothing was refused. It has still to be made harmless.
    pub fn lines(&self) -> Vec<String> {
        let one = |((target, why), count): (&(String, String), &u64)| {
            let target = if target.is_empty() { "a request" } else { target };
            let times = if *count == 1 { String::new() } else { format!(" ×{count}") };
            format!("refused: {target}: {why}{times}")
        };
        let mut lines: Vec<_> = self.counts.iter().map(one).collect();
        if self.more > 0 {
            lines.push(format!("refused: {} more", self.more));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_counted_and_bounded() {
        let mut refusals = Refusals::default();
        let mut add = |target: &str, why: &str| {
            refusals.add(Refusal { target: target.to_owned(), why: why.to_owned() });
            refusals.lines()
        };
        add("a.test:443", "no");
        add("a.test:443", "no");
        let lines = add("", "malformed");
        assert_eq!(lines, ["refused: a request: malformed", "refused: a.test:443: no ×2"]);
        let lines = (0..100).map(|n| add(&format!("{n}.test:1"), "no")).last().unwrap();
        assert_eq!(lines.len(), MOST + 1);
        assert_eq!(lines.last().unwrap(), "refused: 52 more");
    }
}
