//! Many bottles side by side: how long each takes, how that grows with their number, and how much memory the prober in
//! one of them needs. The figures of `docs/performance.md` come from here:
//!
//! ```text
//! cargo run --release --example bottles
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use claude_bottle::backend::{self, Arena, Backend};
use claude_bottle::bottle::Command;
use claude_bottle::lab::{batch_line, converse};
use claude_bottle::probe::attempt::{DENY_WINDOW, fresh_nonce};
use claude_bottle_protocol::prober::{Action, Attempt, Batch, Target};
use futures_util::future::join_all;

/// How many bottles at once.
const NUMBERS: [u32; 4] = [1, 4, 16, 64];
/// How often each number is measured; the median counts.
const ROUNDS: usize = 5;
/// How many attempts the measured prober makes.
const ATTEMPTS: u32 = 1000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let backend = backend::by_name("namespace").context("this build has no such backend")?;
        // The first one places the toolbox.
        launch(backend.as_ref()).await?.teardown().await?;
        side_by_side(backend.as_ref()).await?;
        memory(backend.as_ref()).await
    })
}

async fn launch(backend: &dyn Backend) -> anyhow::Result<Box<dyn Arena>> {
    Ok(backend.launch(None).await?)
}

async fn side_by_side(backend: &dyn Backend) -> anyhow::Result<()> {
    println!("{:>7}  {:>9}  {:>9}  {:>10}", "bottles", "up", "gone", "per bottle");
    let mut points = Vec::new();
    for number in NUMBERS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(round(backend, number).await?);
        }
        let up = median(rounds.iter().map(|(up, _)| *up));
        let gone = median(rounds.iter().map(|(_, gone)| *gone));
        let each = (up + gone) / number;
        println!("{number:>7}  {:>9}  {:>9}  {:>10}", ms(up), ms(gone), ms(each));
        points.push((f64::from(number), (up + gone).as_secs_f64()));
    }
    println!("slope: {} for each further bottle", ms(Duration::from_secs_f64(slope(&points))));
    Ok(())
}

/// Launches so many bottles at once, each of which answers a command, and tears them down at once.
async fn round(backend: &dyn Backend, number: u32) -> anyhow::Result<(Duration, Duration)> {
    let begun = Instant::now();
    let up = (0..number).map(|_| async {
        let arena = launch(backend).await?;
        let bottle = arena.bottle();
        let said = bottle.exec(Command::new(bottle.toolbox()).arg("version")).await?;
        ensure!(said.end.is_success(), "a command in the bottle failed: {}", said.end);
        Ok(arena)
    });
    let up: Vec<anyhow::Result<_>> = join_all(up).await;
    let took = begun.elapsed();
    let arenas = up.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    for gone in join_all(arenas.into_iter().map(Arena::teardown)).await {
        gone?;
    }
    Ok((took, begun.elapsed()))
}

/// The line of least squares' slope.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.iter().fold(0.0, |count, _| count + 1.0);
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    both / square
}

fn median(all: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<_> = all.collect();
    all.sort();
    all[all.len() / 2]
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// The prober's memory while it makes attempts that are refused, seen from outside the bottle.
async fn memory(backend: &dyn Backend) -> anyhow::Result<()> {
    let arena = launch(backend).await?;
    let bottle = arena.bottle();
    let patience_ms = u32::try_from(DENY_WINDOW.as_millis())?;
    let attempt = |id| Attempt {
        id,
        nonce: fresh_nonce(),
        patience_ms,
        action: Action::Tcp(Target { host: "127.0.0.1".into(), port: 9 }),
    };
    let attempts = (1..=ATTEMPTS).map(attempt).collect();
    let batch = Batch { token: fresh_nonce(), fuse: arena.lab().fuse(), attempts };

    let over = Arc::new(AtomicBool::new(false));
    let (toolbox, until) = (bottle.toolbox().to_owned(), Arc::clone(&over));
    let watcher = thread::spawn(move || watch(&toolbox, &until));
    let begun = Instant::now();
    let command = Command::new(bottle.toolbox()).arg("prober").stdin(batch_line(&batch));
    let running = bottle.start(command).await?;
    let answers = converse(&batch, &mut running.lines(), |_| {}).await;
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let seen = watcher.join();
    arena.teardown().await?;
    if let Some(trouble) = answers.trouble {
        bail!("the prober: {trouble}");
    }
    match seen {
        Ok(Some(Seen { anonymous_kib, looks })) => println!(
            "prober: {anonymous_kib} KiB anonymous at most, in {looks} looks during {ATTEMPTS} \
             attempts ({})",
            ms(took)
        ),
        _ => println!("prober: its memory cannot be read from here ({})", ms(took)),
    }
    Ok(())
}

struct Seen {
    anonymous_kib: u64,
    looks: u32,
}

/// Looks at the prober, again and again; none if it was never seen.
fn watch(toolbox: &str, over: &AtomicBool) -> Option<Seen> {
    let mut seen: Option<Seen> = None;
    let mut found = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        if found.is_empty() {
            found = probers(toolbox);
        }
        for process in &found {
            if let Some(kib) = anonymous_kib(*process) {
                let (most, looks) = seen.map_or((0, 0), |seen| (seen.anonymous_kib, seen.looks));
                seen = Some(Seen { anonymous_kib: most.max(kib), looks: looks + 1 });
            }
        }
    }
    seen
}

/// The processes below this one that run the prober as a bottle starts it. A control's is started by another path.
fn probers(toolbox: &str) -> BTreeSet<u32> {
    let wanted = format!("{toolbox}\0prober\0");
    let mut below = vec![std::process::id()];
    let mut found = BTreeSet::new();
    while let Some(process) = below.pop() {
        let folder = Path::new("/proc").join(process.to_string());
        if fs::read(folder.join("cmdline")).is_ok_and(|own| own == wanted.as_bytes()) {
            found.insert(process);
        }
        for task in fs::read_dir(folder.join("task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            below.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

fn anonymous_kib(process: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.split_whitespace().next()?.parse().ok()
}
