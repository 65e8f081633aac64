//! One run for each of several bottles, some of them at the same time.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use futures_util::stream::{self, StreamExt as _};

use super::interrupt::Keep;
use crate::backend::Backend;
use crate::breach::Breach;
use crate::error_chain;
use crate::probe::definition::Probe;
use crate::probe::outcome::RunOutcome;
use crate::probe::run::{self, Watch};
use crate::report::progress::Progress;

/// The most bottles at a time. A run waits more than it computes: for processes that start, and where an attempt is
/// not answered, for the deny window.
const MOST: usize = 4;

/// Probes a bottle for each of `breaches`, none of which means a sound one. The outcomes are in the same order.
pub(super) async fn each(
    backend: &dyn Backend,
    probes: &[Probe],
    breaches: &[Option<Breach>],
    progress: &Progress,
    keep: &Keep<'_>,
) -> Vec<RunOutcome> {
    let total = breaches.len();
    let begun = AtomicUsize::new(0);
    let runs = breaches.iter().map(|breach| {
        let begun = &begun;
        async move {
            let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
            match breach {
                Some(breach) if total > 1 => {
                    progress.phase(&format!("breach {number}/{total} {breach}"));
                }
                Some(breach) => progress.phase(&format!("breach {breach}: {}", breach.title())),
                None => progress.phase("the sound bottle"),
            }
            one(backend, probes, *breach, &(), keep).await
        }
    });
    stream::iter(runs).buffered(at_a_time(keep.wanted)).collect().await
}

/// Probes one bottle.
pub(super) async fn one(
    backend: &dyn Backend,
    probes: &[Probe],
    breach: Option<Breach>,
    watch: &dyn Watch,
    keep: &Keep<'_>,
) -> RunOutcome {
    run::run(backend, probes, breach, watch, keep).await.unwrap_or_else(|error| {
        let breach = breach.map(Breach::name);
        RunOutcome::launch_failed(backend.name(), breach, probes, &error_chain(&error))
    })
}

/// Twice as many as there are processors. One alone is kept for a person to look at.
fn at_a_time(kept: bool) -> usize {
    let processors = available_parallelism().map_or(1, NonZero::get);
    if kept { 1 } else { (2 * processors).min(MOST) }
}
