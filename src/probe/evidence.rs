//! From what the witness logged and the probers said to the judge's cases.

use std::collections::BTreeMap;
use std::time::Duration;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Word};
use claude_bottle_protocol::witness::Sighting;

use super::definition::Expect;
use super::judge::{self, Arrival, Case, Control, Prober, Reliance};
use super::outside::{Look, Outside, Seen};
use super::verdict::{Evidence, Verdict};
use crate::lab::{Address, Answers, Listening, Log, Sites};

/// One round of controls: what was sent to each listener, and what its prober said.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    /// The nonce sent to each listener.
    pub nonces: BTreeMap<u32, Nonce>,
    /// What the prober said of it.
    pub words: BTreeMap<u32, (Word, Duration)>,
    /// What went wrong with the round as a whole.
    pub trouble: Option<String>,
}

/// All that was gathered in one window.
#[derive(Debug)]
pub struct Evidences {
    /// The witness's log at the end of the window.
    pub log: Log,
    /// The controls before the attempts.
    pub leading: Controls,
    /// Those after.
    pub trailing: Controls,
    /// The sign of life: its nonce, and the listener that must have seen it.
    pub life: Option<(Nonce, u32)>,
    /// What the prober in the bottle said.
    pub answers: Answers,
    /// What the outside saw by looking.
    pub outside: Outside,
    /// What each listener stands for, for a reader.
    pub names: BTreeMap<u32, String>,
    /// Whether something on the bottle's way accepts connections for others; see [`Case::accepts`].
    pub accepts: bool,
}

impl Evidences {
    /// What is known of the attempt with number `id`.
    pub fn case<'a>(
        &'a self,
        id: u32,
        expect: Expect,
        how: &'a [How],
        nonce: &Nonce,
        listeners: &[Listening],
    ) -> Case<'a> {
        let ids: Vec<u32> = listeners.iter().map(|listening| listening.id).collect();
        Case {
            expect,
            how,
            control: self.control(listeners),
            arrival: self.arrival(nonce, &ids, listeners),
            witness: self.reliance(&ids),
            prober: self.prober(),
            word: self.answers.words.get(&id).map(|(word, _)| word),
            accepts: self.accepts,
        }
    }

    /// The verdict on an attempt that no witness could see.
    pub fn judge_by_looking(
        &self,
        id: u32,
        expect: Expect,
        how: &[How],
        nonce: &Nonce,
        look: Look,
    ) -> Verdict {
        let Seen { control, arrival, word } = self.outside.seen(look, id);
        // Where it got to a witness, that is the better evidence.
        let arrival = match self.arrival(nonce, &[], &[]) {
            Arrival::Nothing => arrival,
            arrived => arrived,
        };
        let told = self.answers.words.get(&id).map(|(word, _)| word);
        judge::judge(&Case {
            expect,
            how,
            control,
            arrival,
            witness: Reliance::Sound,
            prober: self.prober(),
            word: word.as_ref().or(told),
            accepts: self.accepts,
        })
    }

    /// The control behind a verdict, for a reader.
    pub fn control_in_words(&self, listeners: &[Listening]) -> Option<String> {
        let said: Vec<_> = listeners
            .iter()
            .filter_map(|listening| {
                let from = |round: &Controls| {
                    self.log.reached(round.nonces.get(&listening.key)?, listening.id)
                };
                let (before, after) = (from(&self.leading)?, from(&self.trailing)?);
                let (place, address) = (&listening.control, &listening.address);
                let place = match &listening.control_dials {
                    Address::Gateway(_) => format!("{place}, by way of the gateway,"),
                    _ => place.clone(),
                };
                Some(match (before, after) {
                    (Some(before), Some(after)) => {
                        format!("{place} reached {address} from {before} and {after}")
                    }
                    // A Unix socket's client has no address, and a frame no sender of that kind.
                    _ => format!("{place} reached {address} before and after"),
                })
            })
            .collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Every listener concerned must have been reached before and after.
    fn control(&self, listeners: &[Listening]) -> Control {
        for Listening { key, id, .. } in listeners {
            let reached = |round: &Controls| {
                round.nonces.get(key).is_some_and(|nonce| self.log.reached(nonce, *id).is_some())
            };
            if !reached(&self.leading) {
                return Control::Failed(why(&self.leading, *key));
            }
            if !reached(&self.trailing) {
                return Control::Lost(why(&self.trailing, *key));
            }
        }
        if listeners.is_empty() {
            return Control::Failed("no witness listens there".into());
        }
        Control::Reached
    }

    fn arrival(&self, nonce: &Nonce, ids: &[u32], listeners: &[Listening]) -> Arrival {
        // At whichever listener: a nonce has no business at any of them.
        if let Some(sighting) = self.log.seen.get(nonce).and_then(|seen| seen.first()) {
            return Arrival::Nonce(self.evidence(sighting, listeners, format!("nonce {nonce}")));
        }
        match self.log.silent_accept(ids) {
            Some(sighting) => {
                let saw = "a connection without a nonce".into();
                Arrival::Accept(self.evidence(sighting, listeners, saw))
            }
            None => Arrival::Nothing,
        }
    }

    fn evidence(&self, sighting: &Sighting, listeners: &[Listening], saw: String) -> Evidence {
        let Sighting { listener, peer, at_us } = sighting;
        let witness = match listeners.iter().find(|listening| listening.id == *listener) {
            Some(listening) => named(listening),
            None => {
                self.names.get(listener).cloned().unwrap_or_else(|| format!("listener {listener}"))
            }
        };
        Evidence { witness, peer: *peer, saw, at: Duration::from_micros(*at_us) }
    }

    fn reliance(&self, listeners: &[u32]) -> Reliance {
        match &self.log.broken {
            Some(error) => Reliance::Broken(error.to_string()),
            None if self.log.lossy(listeners) => Reliance::Lossy,
            None => Reliance::Sound,
        }
    }

    fn prober(&self) -> Prober {
        let Answers { greeted, finished, trouble, .. } = &self.answers;
        if !greeted || !finished {
            let why = trouble.clone().unwrap_or_else(|| "it did not finish".into());
            return Prober::Silent(why);
        }
        match &self.life {
            Some((nonce, listener)) if self.log.reached(nonce, *listener).is_none() => {
                Prober::CutOff
            }
            _ => Prober::Alive,
        }
    }
}

/// What each listener stands for. One that stands for several sites goes by the first of them.
pub(super) fn names(sites: &Sites) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for (.., listening) in sites.all() {
        names.entry(listening.id).or_insert_with(|| named(listening));
    }
    names
}

/// What a listener stands for, and where it is.
fn named(listening: &Listening) -> String {
    format!("{} at {}", listening.name, listening.address)
}

fn why(round: &Controls, listener: u32) -> String {
    let said = round.words.get(&listener).map(|(word, _)| format!("it was {}", word.how));
    round.trouble.clone().or(said).unwrap_or_else(|| "none was sent".into())
}
