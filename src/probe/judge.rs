//! The judge: from what the outside saw to a verdict. A pure function.
//!
//! What the guest says is annotation. It can turn a verdict into *inconclusive*, never into a better one.

use claude_bottle_protocol::prober::{How, Word};

use super::definition::Expect;
use super::verdict::{Evidence, Verdict};

/// All that is known of one attempt.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// What the definition expects.
    pub expect: Expect,
    /// How it must fail, if it must fail in a certain way.
    pub how: &'a [How],
    /// Whether a control reached the listeners that would have seen it.
    pub control: Control,
    /// What arrived there.
    pub arrival: Arrival,
    /// Whether the witness can be relied on.
    pub witness: Reliance,
    /// Whether the prober ran at all.
    pub prober: Prober,
    /// What the prober said of it.
    pub word: Option<&'a Word>,
    /// Whether something on the way accepts connections for whomever they are meant: then a connection that was accepted and
    /// brought no answer claims nothing.
    pub accepts: bool,
}

/// What became of the controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// They reached every listener concerned, before and after.
    Reached,
    /// One did not reach its listener.
    Failed(String),
    /// One did before the attempts, and none after.
    Lost(String),
}

/// What the witness saw of the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Its nonce.
    Nonce(Evidence),
    /// A connection at a listener concerned, over which no nonce ever came.
    Accept(Evidence),
    /// Nothing.
    Nothing,
}

/// Whether the witness can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reliance {
    /// It can.
    Sound,
    /// A listener concerned lost something.
    Lossy,
    /// It died, or could not be understood.
    Broken(String),
}

/// Whether the prober proved that it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prober {
    /// It greeted, and reached what the plan allows, if the plan allows anything.
    Alive,
    /// It did not greet, or broke off.
    Silent(String),
    /// It greeted, but did not reach even what the plan allows.
    CutOff,
}

/// The verdict on one attempt.
pub fn judge(case: &Case<'_>) -> Verdict {
    match case.expect {
        Expect::Contained | Expect::Leaks => judge_denial(case),
        Expect::Reached => judge_reach(case),
    }
}

fn judge_denial(case: &Case<'_>) -> Verdict {
    // A leak is a leak, whatever else went wrong and whatever the guest says.
    if let Arrival::Nonce(evidence) = &case.arrival {
        return Verdict::Leaked { evidence: evidence.clone() };
    }
    if let Some(why) = doubt(case) {
        return Verdict::Inconclusive { why };
    }
    if case.prober == Prober::CutOff {
        let why = "the prober reached nothing, not even what the plan allows".into();
        return Verdict::Inconclusive { why };
    }
    let how = match told(case) {
        Ok(word) => word.how,
        Err(why) => return Verdict::Inconclusive { why },
    };
    // Who accepts for others and then finds nobody cuts the connection off, which is its way to refuse.
    let cut_off = case.accepts && how == How::Connected && case.how.contains(&How::Refused);
    if !case.how.is_empty() && !case.how.contains(&how) && !cut_off {
        let demanded: Vec<_> = case.how.iter().map(|how| how.as_str()).collect();
        let demanded = demanded.join(" or ");
        let why = format!("nothing arrived, but it ended as {how} where {demanded} is demanded");
        return Verdict::Inconclusive { why };
    }
    Verdict::Contained { how }
}

fn judge_reach(case: &Case<'_>) -> Verdict {
    if let Arrival::Nonce(_) = &case.arrival {
        return Verdict::Reached;
    }
    if let Some(why) = doubt(case) {
        return Verdict::Inconclusive { why };
    }
    match told(case) {
        Ok(word) => {
            let errno = word.errno.map(|errno| format!(", errno {errno}")).unwrap_or_default();
            Verdict::Unreached { why: format!("nothing arrived: {}{errno}", word.how) }
        }
        Err(why) => Verdict::Inconclusive { why },
    }
}

/// Why no verdict can be built on what the outside saw.
fn doubt(case: &Case<'_>) -> Option<String> {
    match &case.witness {
        Reliance::Sound => {}
        Reliance::Lossy => return Some("the witness lost something while it listened".into()),
        Reliance::Broken(why) => return Some(why.clone()),
    }
    if let Arrival::Accept(evidence) = &case.arrival {
        let from = evidence.peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
        let witness = &evidence.witness;
        return Some(format!(
            "{witness} accepted a connection{from}, though no nonce came over it"
        ));
    }
    match &case.control {
        Control::Reached => {}
        Control::Failed(why) => return Some(format!("no control: {why}")),
        Control::Lost(why) => return Some(format!("the control was lost: {why}")),
    }
    match &case.prober {
        Prober::Silent(why) => Some(format!("the prober did not run: {why}")),
        Prober::Alive | Prober::CutOff => None,
    }
}

/// The prober's word, if one can go on from it: it tried, and does not claim what the outside did not see.
fn told<'a>(case: &Case<'a>) -> Result<&'a Word, String> {
    let word = case.word.ok_or("the prober said nothing of this attempt")?;
    let errno = word.errno.map(|errno| format!(" (errno {errno})")).unwrap_or_default();
    match word.how {
        How::Connected if case.accepts => Ok(word),
        how if how.claims_reach() => {
            Err(format!("something intercepts: the prober says {how}, yet nothing arrived"))
        }
        How::Fused => {
            Err("the fuse kept it from dialling: what is there is not this run's, or the net \
                           namespace is not"
                .into())
        }
        How::Failed => Err(format!("the attempt could not be made{errno}")),
        _ => Ok(word),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn evidence() -> Evidence {
        Evidence {
            witness: "host-loopback tcp/9".into(),
            peer: Some("10.0.0.2:4242".parse().unwrap()),
            saw: "a nonce".into(),
            at: Duration::from_millis(3),
        }
    }

    fn controls() -> [Control; 3] {
        [Control::Reached, Control::Failed("refused".into()), Control::Lost("gone".into())]
    }

    fn arrivals() -> [Arrival; 3] {
        [Arrival::Nonce(evidence()), Arrival::Accept(evidence()), Arrival::Nothing]
    }

    fn reliances() -> [Reliance; 3] {
        [Reliance::Sound, Reliance::Lossy, Reliance::Broken("the witness died".into())]
    }

    fn probers() -> [Prober; 3] {
        [Prober::Alive, Prober::Silent("exit code 126".into()), Prober::CutOff]
    }

    /// The verdict's name alone, for tables.
    fn name(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Reached => "reached",
            Verdict::Contained { .. } => "contained",
            Verdict::Unreached { .. } => "unreached",
            Verdict::Inconclusive { .. } => "inconclusive",
            Verdict::Leaked { .. } => "leaked",
            Verdict::Skipped { .. } => "skipped",
        }
    }

    /// Every combination: 3 expectations × 3 controls × 3 arrivals × 3 reliances × 3 probers × 13 words.
    #[test]
    fn every_combination_is_judged_by_the_rule_of_evidence() {
        let words: Vec<Option<Word>> =
            How::ALL.into_iter().map(|how| Some(Word::new(how))).chain([None]).collect();
        let mut judged = 0;
        for expect in [Expect::Contained, Expect::Leaks, Expect::Reached] {
            for control in controls() {
                for arrival in arrivals() {
                    for witness in reliances() {
                        for prober in probers() {
                            for word in &words {
                                let case = Case {
                                    accepts: false,
                                    expect,
                                    how: &[],
                                    control: control.clone(),
                                    arrival: arrival.clone(),
                                    witness: witness.clone(),
                                    prober: prober.clone(),
                                    word: word.as_ref(),
                                };
                                assert_eq!(name(&judge(&case)), expected(&case), "{case:?}");
                                judged += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(judged, 3 * 3 * 3 * 3 * 3 * 13);
    }

    /// The rule of evidence once more, as the table that a person would write.
    fn expected(case: &Case<'_>) -> &'static str {
        let denial = case.expect != Expect::Reached;
        match &case.arrival {
            Arrival::Nonce(_) if denial => return "leaked",
            Arrival::Nonce(_) => return "reached",
            Arrival::Accept(_) => return "inconclusive",
            Arrival::Nothing => {}
        }
        let outside = case.control == Control::Reached && case.witness == Reliance::Sound;
        let inside = match case.prober {
            Prober::Alive => true,
            Prober::CutOff => !denial,
            Prober::Silent(_) => false,
        };
        let tried = matches!(
            case.word.map(|word| word.how),
            Some(
                How::Sent
                    | How::Refused
                    | How::Unreachable
                    | How::Prohibited
                    | How::TimedOut
                    | How::SocketDenied
                    | How::NotResolved
                    | How::DeniedByProxy
            )
        );
        match (outside && inside && tried, denial) {
            (false, _) => "inconclusive",
            (true, true) => "contained",
            (true, false) => "unreached",
        }
    }

    fn sound(how: &[How], word: &Word) -> Verdict {
        judge(&Case {
            accepts: false,
            expect: Expect::Contained,
            how,
            control: Control::Reached,
            arrival: Arrival::Nothing,
            witness: Reliance::Sound,
            prober: Prober::Alive,
            word: Some(word),
        })
    }

    #[test]
    fn a_demanded_way_of_failing_is_demanded() {
        let word = Word::new(How::TimedOut);
        assert_eq!(sound(&[How::TimedOut], &word), Verdict::Contained { how: How::TimedOut });
        let why = "nothing arrived, but it ended as timed-out where refused or unreachable is \
                   demanded";
        let verdict = sound(&[How::Refused, How::Unreachable], &word);
        assert_eq!(verdict, Verdict::Inconclusive { why: why.into() });
    }

    /// Its listener saw nothing, and controls show that it would have.
    fn accepted(accepts: bool, how: &[How], word: How) -> Verdict {
        judge(&Case {
            accepts,
            expect: Expect::Contained,
            how,
            control: Control::Reached,
            arrival: Arrival::Nothing,
            witness: Reliance::Sound,
            prober: Prober::Alive,
            word: Some(&Word::new(word)),
        })
    }

    #[test]
    fn where_something_accepts_for_everybody_an_answer_is_demanded() {
        let name = |accepts, how: &[How], word| name(&accepted(accepts, how, word));
        assert_eq!(name(false, &[], How::Connected), "inconclusive");
        assert_eq!(name(true, &[], How::Connected), "contained");
        assert_eq!(name(true, &[How::Refused], How::Connected), "contained");
        assert_eq!(name(true, &[How::Unreachable], How::Connected), "inconclusive");
        assert_eq!(name(true, &[], How::Answered), "inconclusive");
        assert_eq!(name(true, &[How::Refused], How::TimedOut), "inconclusive");
    }
}
