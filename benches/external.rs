//! What probing a sandbox of another make costs, against running `true` in the same one.
//!
//! In pairs, alternately, so that whatever else the machine does meets both; what is told is medians, and the median of the
//! pairs' ratios.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often each pair is run.
const PAIRS: usize = 15;

const BWRAP: &str = "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --proc /proc --dev /dev --unshare-net";

fn main() {
    // As `cargo test --benches` runs it: nothing is measured then.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if runs(&format!("{BWRAP} true")).is_some() {
        pairs("bwrap", &format!("{BWRAP} true"), BWRAP);
    } else {
        println!(
            "bwrap: not measured: bubblewrap is not installed, or may not make namespaces here"
        );
    }
    let image = format!("claude-bottle-bench:{}", std::process::id());
    let script = format!(
        "d=$(mktemp -d) && mkdir $d/bin $d/tmp && cp /usr/bin/busybox $d/bin/ && for a in sh head chmod rm true uname; do \
         ln -s busybox $d/bin/$a; done && tar -C $d -c . | docker import - {image} >/dev/null; s=$?; rm -r $d; exit $s"
    );
    let run = format!("docker run --rm -i --network none {image}");
    if runs_shell(&script) && runs(&format!("{run} true")).is_some() {
        pairs("docker", &format!("{run} true"), &run);
    } else {
        println!("docker: not measured: no Docker Engine answers, or there is no static busybox");
    }
    runs_shell(&format!("docker rmi {image}"));
}

fn pairs(name: &str, bare: &str, command: &str) {
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    for number in 0..=PAIRS {
        // The first fills caches.
        if let (Some(alone), Some(probed), true) = (runs(bare), probes(command), number > 0) {
            times.push((alone, probed));
        }
    }
    if times.len() < PAIRS {
        println!("{name}: {} of {PAIRS} pairs failed", PAIRS - times.len());
    }
    if times.is_empty() {
        return;
    }
    let ratios = times.iter().map(|(alone, probed)| probed.as_secs_f64() / alone.as_secs_f64());
    let alone = median(times.iter().map(|(alone, _)| alone.as_secs_f64() * 1000.0));
    let probed = median(times.iter().map(|(_, probed)| probed.as_secs_f64() * 1000.0));
    println!(
        "{name}: `true` {alone:.0} ms, probed {probed:.0} ms; {:.2} times, {:.0} ms more",
        median(ratios),
        probed - alone
    );
    // Where the machine is busy, the best of each tells more of what it takes.
    let least = |times: &mut dyn Iterator<Item = Duration>| times.min().unwrap_or_default();
    println!(
        "{name}, at best: `true` {:.0?}, probed {:.0?}",
        least(&mut times.iter().map(|(alone, _)| *alone)),
        least(&mut times.iter().map(|(_, probed)| *probed)),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long a command takes; none where it fails.
fn runs(command: &str) -> Option<Duration> {
    let words: Vec<_> = command.split(' ').collect();
    time(Command::new(words[0]).args(&words[1..]), &[0])
}

/// How long probing takes: closed is what it must be found.
fn probes(command: &str) -> Option<Duration> {
    time(
        Command::new(env!("CARGO_BIN_EXE_claude-bottle")).args(["probe", "-q", "--in", command]),
        &[0],
    )
}

fn time(command: &mut Command, codes: &[i32]) -> Option<Duration> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let code = command.status().ok()?.code()?;
    codes.contains(&code).then(|| begun.elapsed())
}

fn runs_shell(script: &str) -> bool {
    let command = &mut Command::new("sh");
    time(command.args(["-c", script]), &[0]).is_some()
}
