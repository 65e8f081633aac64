//! One run: a bottle, a lab, one batch of attempts between two rounds of controls, and the verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::attempt::{self, DENY_WINDOW, Means, Planned};
use super::definition::{AttemptDefinition, Expect, Probe, RunsOn};
use super::evidence::{self, Controls, Evidences};
use super::outcome::{AttemptOutcome, Cost, ProbeOutcome, RunOutcome};
use super::outside::{Held, Holding, Look, Outside, Scene};
use super::verdict::{Said, Verdict};
use super::{exec, judge};
use crate::backend::{Arena, Backend, LaunchError};
use crate::bottle::{Bottle, BottleError, Command, Running};
use crate::breach::Breach;
use crate::lab::{Answers, Fixture, Heard, Listening, View, batch_line, converse};
use crate::report::text::Untrusted;

/// How much longer than its most patient attempt the batch may take before it is cut off.
const BATCH_GRACE: Duration = Duration::from_secs(10);

/// How long those that hold are waited for, so that one look is enough for all, and the first controls, so that nothing of
/// theirs is seen: a fraction of the time that they hold.
const TOGETHER: Duration = Duration::from_millis(250);

/// `ENETUNREACH` and `EADDRNOTAVAIL`, as the guest's Linux numbers them: there was no way out of the bottle, or nothing to be
/// sent from. Nothing is under way then that could come late.
const NO_WAY: [i32; 2] = [101, 99];

/// Who wants to know how far a run has come.
pub trait Watch: Send + Sync {
    /// A phase begins.
    fn phase(&self, name: &str);
    /// So many attempts have ended.
    fn attempts(&self, done: usize, total: usize);
}

/// Nobody does.
impl Watch for () {
    fn phase(&self, _: &str) {}
    fn attempts(&self, _: usize, _: usize) {}
}

/// Who wants to see bottle and lab before they go.
#[async_trait]
pub trait BeforeTeardown: Send + Sync {
    /// They go when this returns.
    async fn hold(&self, arena: &dyn Arena);
}

/// Nobody does.
#[async_trait]
impl BeforeTeardown for () {
    async fn hold(&self, _: &dyn Arena) {}
}

/// Launches a bottle on `backend`, with the hole of `breach` if one is given, makes every attempt of `probes`, and
/// judges them. Bottle and lab are gone when this returns, also when it fails.
pub async fn run(
    backend: &dyn Backend,
    probes: &[Probe],
    breach: Option<Breach>,
    watch: &dyn Watch,
    before_teardown: &dyn BeforeTeardown,
) -> Result<RunOutcome, LaunchError> {
    let mut cost = Cost::default();
    let mut notes = Vec::new();
    watch.phase("launching a bottle");
    let begun = Instant::now();
    let arena = backend.launch(breach).await?;
    cost.launch = begun.elapsed();
    let (wiring, made_of) = (arena.lab().wiring(), arena.made_of());
    let expected = arena.expected(probes);

    let found = probe(arena.as_ref(), backend.defined_as(), probes, watch, &mut cost).await;

    before_teardown.hold(arena.as_ref()).await;
    watch.phase("tearing down");
    let begun = Instant::now();
    if let Err(error) = arena.teardown().await {
        notes.push(error.to_string());
    }
    cost.teardown = begun.elapsed();
    Ok(RunOutcome {
        backend: backend.name().into(),
        breach: breach.map(|breach| breach.name().into()),
        probes: found,
        cost,
        notes,
        wiring,
        made_of,
        expected,
    })
}

/// What the outside has to do with attempts that hold.
struct Watching<'a> {
    /// What is looked at for each attempt that no witness sees.
    looks: &'a BTreeMap<u32, Look>,
    /// What was seen before any attempt.
    before: &'a Scene,
    /// The first round of controls is over: nothing of theirs is on its way out of the host any more.
    quiet: oneshot::Receiver<()>,
}

async fn probe(
    arena: &dyn Arena,
    backend: &str,
    probes: &[Probe],
    watch: &dyn Watch,
    cost: &mut Cost,
) -> Vec<ProbeOutcome> {
    let lab = arena.lab();
    let planned = attempt::plan(probes, backend, lab.sites());
    let life = attempt::sign_of_life(lab.sites());
    let listeners = listeners(&planned, life.as_ref().map(|(_, listening)| listening));

    watch.phase("probing");
    let begun = Instant::now();
    let life_attempt = life.as_ref().map(|(attempt, _)| attempt);
    let mut batch = attempt::batch(&planned, life_attempt, lab.fuse());
    for attempt in &mut batch.attempts {
        attempt.patience_ms *= lab.slowness();
    }
    let looks = attempt::looks(&planned);
    // An attempt may change the bottle's own net, and no backend runs a command in one that has changed.
    let (before, started, execs) = tokio::join!(
        Scene::look(lab, looks.values().copied()),
        start_prober(arena, &batch),
        run_commands(arena.bottle(), &planned),
    );
    let (over, quiet) = oneshot::channel();
    let outside = Watching { looks: &looks, before: &before, quiet };
    let leading = async {
        let round = control_round(lab, &listeners).await;
        // Nobody waits for it where nothing holds.
        let _ = over.send(());
        round
    };
    let (leading, (answers, held)) =
        tokio::join!(leading, make(arena, started, &batch, outside, watch));
    let not_held = looks.iter().filter(|(id, _)| !held.contains_key(id));
    let mut after = Scene::look(lab, not_held.map(|(_, look)| *look)).await;
    let planned_ports = attempt::planned_ports(lab.sites());
    after.settle(lab, &planned_ports).await;
    if must_wait(&planned, &answers, lab).await {
        tokio::time::sleep(DENY_WINDOW.saturating_sub(begun.elapsed())).await;
    }
    cost.attempts = begun.elapsed();

    watch.phase("closing the window");
    let begun = Instant::now();
    let trailing = control_round(lab, &listeners).await;
    let log = lab.witness().drain().await;
    cost.controls = begun.elapsed();

    watch.phase("judging");
    let begun = Instant::now();
    let evidences = Evidences {
        accepts: lab.accepts_for_others(),
        log,
        leading,
        trailing,
        life: life.map(|(attempt, listening)| (attempt.nonce, listening.id)),
        answers,
        outside: Outside { before, after, planned: planned_ports, held },
        names: evidence::names(lab.sites()),
    };
    let outcomes = judge_all(probes, backend, &planned, &evidences, &execs, &lab.gone());
    cost.judge = begun.elapsed();
    outcomes
}

/// Every listener that an attempt might reach, once.
fn listeners<'a>(
    planned: &'a [Planned],
    life: Option<&'a Listening>,
) -> BTreeMap<u32, &'a Listening> {
    let mut listeners = BTreeMap::new();
    listeners.extend(life.map(|listening| (listening.key, listening)));
    for one in planned {
        if let Means::Prober { listeners: concerned, .. } = &one.means {
            listeners.extend(concerned.iter().map(|listening| (listening.key, listening)));
        }
    }
    listeners
}

/// Sends a control to every listener, from the place that must reach it; all places at the same time.
async fn control_round(lab: &dyn Fixture, listeners: &BTreeMap<u32, &Listening>) -> Controls {
    let (batches, nonces) = attempt::controls(listeners.values().copied());
    let batches: Vec<_> = batches.into_iter().collect();
    let mut words = BTreeMap::new();
    let mut trouble = Vec::new();
    for round in lab.controls(&batches).await {
        match round {
            Ok(answers) => {
                words.extend(answers.words);
                trouble.extend(answers.trouble);
            }
            Err(error) => trouble.push(error.to_string()),
        }
    }
    Controls { nonces, words, trouble: (!trouble.is_empty()).then(|| trouble.join("; ")) }
}

/// A prober that waits for its batch.
struct Begun {
    running: Running,
    /// How many of the bottle's processes had been killed by then because its memory was used up.
    killed: u64,
}

/// Starts the prober in the bottle, which waits for its batch; none where there is nothing to try.
async fn start_prober(
    arena: &dyn Arena,
    batch: &claude_bottle_protocol::prober::Batch,
) -> Option<Result<Begun, BottleError>> {
    if batch.attempts.is_empty() {
        return None;
    }
    let bottle = arena.bottle();
    let killed = bottle.out_of_memory().await;
    let command = Command::new(bottle.toolbox()).arg("prober").stream_stdin();
    Some(bottle.start(command).await.map(|running| Begun { running, killed }))
}

/// Makes the attempts that are a command of their own.
async fn run_commands(bottle: &dyn Bottle, planned: &[Planned]) -> BTreeMap<u32, Verdict> {
    let commands = planned.iter().filter(|one| matches!(one.means, Means::Exec));
    let ran = join_all(commands.map(|one| async { (one.id, exec::attempt(bottle).await) }));
    ran.await.into_iter().collect()
}

/// Makes every other attempt in the bottle, by one prober.
async fn make(
    arena: &dyn Arena,
    started: Option<Result<Begun, BottleError>>,
    batch: &claude_bottle_protocol::prober::Batch,
    outside: Watching<'_>,
    watch: &dyn Watch,
) -> (Answers, BTreeMap<u32, Held>) {
    let begun = match started {
        Some(Ok(begun)) => begun,
        Some(Err(error)) => return (Answers::none(error.to_string()), BTreeMap::new()),
        None => {
            let answers = Answers { greeted: true, finished: true, ..Answers::default() };
            return (answers, BTreeMap::new());
        }
    };
    let run = run_prober(arena, begun, batch, outside, watch);
    let patience = batch.attempts.iter().map(patience).max().unwrap_or_default();
    let grace = BATCH_GRACE * arena.lab().slowness();
    match tokio::time::timeout(patience + grace, run).await {
        Ok(told) => told,
        Err(_) => (Answers::none("it did not finish in time"), BTreeMap::new()),
    }
}

/// Runs the prober. Where an attempt holds, the outside acts; once every such attempt has been seen to, or has ended,
/// the end of the prober's input releases them all.
async fn run_prober(
    arena: &dyn Arena,
    begun: Begun,
    batch: &claude_bottle_protocol::prober::Batch,
    outside: Watching<'_>,
    watch: &dyn Watch,
) -> (Answers, BTreeMap<u32, Held>) {
    let (bottle, lab) = (arena.bottle(), arena.lab());
    let Begun { mut running, killed } = begun;
    let Watching { looks, before, quiet } = outside;
    let mut quiet = Some(quiet);
    // No attempt begins before this, so that each of those holds at least until then.
    let hold_until: BTreeMap<u32, Instant> =
        batch.attempts.iter().map(|one| (one.id, Instant::now() + patience(one))).collect();
    let mut stdin = running.take_stdin();
    if let Some(stdin) = &mut stdin {
        // A prober that does not read shows as one that does not answer.
        let _ = stdin.write(&batch_line(batch)).await;
    }
    let holds = looks.iter().filter(|(_, look)| look.holds());
    let mut waited_for: BTreeSet<u32> = holds.map(|(id, _)| *id).collect();
    let (tell, mut told) = mpsc::unbounded_channel();
    let (total, mut done) = (batch.attempts.len(), 0);
    let mut lines = running.lines();
    let conversation = async move {
        // The end of the conversation is the end of what is told.
        converse(batch, &mut lines, move |heard| {
            if let Heard::Done { .. } = heard {
                done += 1;
                watch.attempts(done, total);
            }
            // Without a receiver nothing holds any more.
            let _ = tell.send(heard);
        })
        .await
    };
    let seeing_to = async {
        let mut held = BTreeMap::new();
        while let Some(holding) = holding(&mut told, &mut waited_for, looks).await {
            let quiet = quiet.take();
            let quiet = async {
                if let Some(quiet) = quiet {
                    // Later than this, what holds might hold no more.
                    let _ = tokio::time::timeout(TOGETHER, quiet).await;
                }
            };
            let seen = Held::act(lab, &holding, before, quiet).await;
            let in_time =
                |id: &u32| hold_until.get(id).is_some_and(|until| Instant::now() < *until);
            // Too late is as good as not seen.
            held.extend(seen.into_iter().map(|(id, seen)| {
                let seen = if in_time(&id) { seen } else { Held::default() };
                (id, seen)
            }));
        }
        drop(stdin);
        held
    };
    let (mut answers, held) = tokio::join!(conversation, seeing_to);
    if !answers.finished && bottle.out_of_memory().await > killed {
        answers.trouble = Some(BottleError::OutOfMemory.to_string());
    }
    (answers, held)
}

/// The attempts that hold by now: all that are waited for, or those that were ready in time. None at the end.
async fn holding(
    told: &mut mpsc::UnboundedReceiver<Heard>,
    waited_for: &mut BTreeSet<u32>,
    looks: &BTreeMap<u32, Look>,
) -> Option<Vec<Holding>> {
    if waited_for.is_empty() {
        return None;
    }
    let mut ready = Vec::new();
    let all = async {
        while !waited_for.is_empty() {
            match told.recv().await {
                Some(Heard::Ready { id, port }) if waited_for.remove(&id) => {
                    ready.extend(looks.get(&id).map(|look| Holding { id, look: *look, port }));
                }
                Some(Heard::Done { id }) => {
                    waited_for.remove(&id);
                }
                Some(Heard::Ready { .. }) => {}
                // Nothing holds any more.
                None => waited_for.clear(),
            }
        }
    };
    // Those that were ready are seen to, and the others next time.
    let _ = tokio::time::timeout(TOGETHER, all).await;
    Some(ready)
}

fn patience(attempt: &claude_bottle_protocol::prober::Attempt) -> Duration {
    Duration::from_millis(u64::from(attempt.patience_ms))
}

/// Whether a denial may still turn out to be none: where an attempt got no answer at all, or left over IPv6 or a
/// real bridge, the window stays open.
async fn must_wait(planned: &[Planned], answers: &Answers, lab: &dyn Fixture) -> bool {
    use claude_bottle_protocol::prober::{Action, How};
    if lab.has_real_bridge() {
        return true;
    }
    let has_v6 = async {
        let observed = lab.observe(View::Bottle).await.ok().flatten();
        observed.is_none_or(|seen| seen.addresses_v6.iter().any(|(ip, _)| !ip.is_loopback()))
    };
    let left_over_v6 = planned.iter().any(|one| {
        let Some((word, _)) = answers.words.get(&one.id) else { return false };
        let never_left = word.errno.is_some_and(|errno| NO_WAY.contains(&errno));
        word.dialled.filter(|_| !never_left).is_some_and(|ip| {
            let stays = ip.to_canonical().is_loopback() || ip.is_unspecified();
            ip.to_canonical().is_ipv6() && !stays
        })
    });
    // What goes to a group waits neither for a neighbour nor for a router: it is there at once, or it never is.
    let may_come_late = |one: &&Planned| match &one.means {
        Means::Prober { action, .. } => !matches!(action, Action::Multicast(_)),
        _ => false,
    };
    let unanswered = planned.iter().filter(may_come_late).any(|one| {
        let word = answers.words.get(&one.id).map(|(word, _)| word.how);
        matches!(word, Some(How::Sent | How::TimedOut))
    });
    unanswered || (left_over_v6 && has_v6.await)
}

fn judge_all(
    probes: &[Probe],
    backend: &str,
    planned: &[Planned],
    evidences: &Evidences,
    execs: &BTreeMap<u32, Verdict>,
    gone: &BTreeSet<IpAddr>,
) -> Vec<ProbeOutcome> {
    let mut outcomes = Vec::new();
    for (index, probe) in probes.iter().enumerate() {
        let mut attempts = Vec::new();
        let mut took = Duration::ZERO;
        for one in planned.iter().filter(|one| one.probe == index) {
            let (verdict, control) = match &one.means {
                Means::Skipped(why) => (Verdict::Skipped { why: why.clone() }, None),
                Means::Exec => {
                    let silent = Verdict::Inconclusive { why: "the command was not run".into() };
                    (execs.get(&one.id).cloned().unwrap_or(silent), None)
                }
                Means::Prober { nonce, listeners, .. } => {
                    let AttemptDefinition { expect, how, .. } = &one.definition;
                    let case = evidences.case(one.id, *expect, how, nonce, listeners);
                    let verdict = judge::judge(&case);
                    let verdict = match expect {
                        Expect::Reached => verdict,
                        _ => unless_gone(verdict, listeners, gone),
                    };
                    (verdict, evidences.control_in_words(listeners))
                }
                Means::Outside { nonce, look, .. } => {
                    let AttemptDefinition { expect, how, .. } = &one.definition;
                    (evidences.judge_by_looking(one.id, *expect, how, nonce, *look), None)
                }
            };
            let said = evidences.answers.words.get(&one.id).map(|(word, took)| Said {
                how: word.how,
                errno: word.errno,
                detail: word.detail.as_ref().map(|text| Untrusted::new(text.as_bytes())),
                took: *took,
            });
            took = took.max(said.as_ref().map_or(Duration::ZERO, |said| said.took));
            attempts.push(AttemptOutcome {
                what: one.what.clone(),
                site: one.definition.to.as_ref().map(|to| to.site),
                expect: one.definition.expect,
                verdict,
                control,
                said,
            });
        }
        outcomes.push(outcome(probe, backend, attempts, took));
    }
    outcomes
}

/// What cannot be told of an address because that address is gone was not tried, after all. What was seen stays.
fn unless_gone(verdict: Verdict, listeners: &[Listening], gone: &BTreeSet<IpAddr>) -> Verdict {
    let at = listeners.iter().filter_map(|listening| listening.address.inet());
    let lost = at.map(|address| address.ip()).find(|ip| gone.contains(ip));
    match (lost, verdict) {
        (Some(ip), Verdict::Inconclusive { .. }) => {
            Verdict::Skipped { why: format!("this machine has lost the address {ip} meanwhile") }
        }
        (_, verdict) => verdict,
    }
}

fn outcome(
    probe: &Probe,
    backend: &str,
    attempts: Vec<AttemptOutcome>,
    took: Duration,
) -> ProbeOutcome {
    let (known_leak, skipped) = match probe.runs_on(backend) {
        RunsOn::Runs { known_leak, .. } => (known_leak.map(str::to_owned), String::new()),
        RunsOn::Skipped { because } => (None, because.into_owned()),
    };
    let worst = attempts.iter().map(|attempt| &attempt.verdict).max_by_key(|v| v.badness());
    let verdict = worst.cloned().unwrap_or(Verdict::Skipped { why: skipped });
    ProbeOutcome {
        name: probe.name.clone(),
        title: probe.title.clone(),
        why: probe.why.clone(),
        severity: probe.severity,
        verdict,
        known_leak,
        attempts,
        took,
    }
}
