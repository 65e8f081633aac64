//! The closing matrix for a person.

use super::layout::{Hue, Page, cell, cell_right, piece, words};
use super::prose::{self, Nonces, clean};
use super::tally::Tally;
use super::text::width;
use crate::probe::definition::Severity;
use crate::probe::outcome::{ProbeOutcome, RunOutcome, Standing};
use crate::probe::verdict::Verdict;

/// A name that takes more columns than this pushes the rest of its row to the right.
const NAME: usize = 40;
/// How many attempts of one probe are told below the matrix.
const TOLD: usize = 5;

/// How a report looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether there are colours. The caller looks at `NO_COLOR` and at where the text goes.
    pub colour: bool,
    /// Columns of the terminal; 0: lines are never wrapped. That is right for a pipe, and for the log of a CI server:
    /// some obey a line that starts with `::`, and there no text is moved to the start of one.
    pub width: usize,
    /// 0: the matrix and what is wrong; 1: each attempt, each reason and what the run cost; 2: also the controls, and
    /// what the guest said.
    pub verbose: u8,
}

/// A matrix per run, below it what is wrong, the worst first, and a line that sums all of it up.
pub fn render(runs: &[RunOutcome], style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    for run in runs {
        page.gap();
        matrix(&mut page, run, style);
        findings(&mut page, run, style);
    }
    page.gap();
    let tally = Tally::of(runs);
    let hue = match tally.exit_code() {
        0 if tally.known_leaks > 0 => Hue::Amber,
        0 => Hue::Good,
        1 => Hue::Bad,
        _ => Hue::Unclear,
    };
    page.line(0, 2, words(0, hue, &tally.to_string()));
    page.finish()
}

fn hue(probe: &ProbeOutcome) -> Hue {
    match probe.standing() {
        Standing::Pass => Hue::Good,
        Standing::KnownLeak => Hue::Amber,
        Standing::Fail => Hue::Bad,
        Standing::Error => Hue::Unclear,
        Standing::Skip => Hue::Faint,
    }
}

/// A row per probe: its name, its verdict, its time and how its attempts ended.
fn matrix(page: &mut Page, run: &RunOutcome, style: Style) {
    page.line(0, 2, words(0, Hue::Heading, &clean(&prose::against(run))));
    let rows: Vec<_> = run
        .probes
        .iter()
        .map(|probe| (probe, clean(&probe.name), prose::duration(probe.took)))
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = &str>| texts.map(width).max().unwrap_or(0);
    let names = widest(&mut rows.iter().map(|(_, name, _)| name.as_str())).min(NAME);
    let verdicts = widest(&mut run.probes.iter().map(prose::word));
    let times = widest(&mut rows.iter().map(|(.., time)| time.as_str()));

    for (probe, name, time) in &rows {
        let mut row = vec![
            cell(0, Hue::Plain, name, names),
            cell(2, hue(probe), prose::word(probe), verdicts),
        ];
        if probe.standing() != Standing::Skip {
            row.push(cell_right(2, Hue::Faint, time, times));
            row.extend(words(2, Hue::Plain, &prose::how(probe)));
        }
        page.line(2, 2 + names + 2 + verdicts + 2 + times + 2, row);
        if style.verbose > 0 {
            attempts(page, probe, style);
        }
    }
    if style.verbose > 0 {
        page.line(2, 4, words(0, Hue::Faint, &prose::cost(&run.cost)));
    }
    for note in &run.notes {
        page.line(2, 4, words(0, Hue::Faint, &format!("note: {}", clean(note))));
    }
}

fn attempts(page: &mut Page, probe: &ProbeOutcome, style: Style) {
    for attempt in &probe.attempts {
        let hue = if matches!(attempt.verdict, Verdict::Reached | Verdict::Contained { .. }) {
            Hue::Faint
        } else {
            hue(probe)
        };
        let mut line = words(0, Hue::Plain, &clean(&attempt.what));
        line.push(piece(2, hue, attempt.verdict.word()));
        line.extend(words(2, Hue::Faint, &clean(&prose::attempt(attempt, style.verbose > 1))));
        page.line(6, 10, line);
    }
}

/// What is not as it should be: leaks, the worst first, then what cannot be told, what was not reached, leaks that
/// are known, and what was skipped.
fn findings(page: &mut Page, run: &RunOutcome, style: Style) {
    let mut found: Vec<_> = run
        .probes
        .iter()
        .filter(|probe| !matches!(probe.standing(), Standing::Pass | Standing::Skip))
        .collect();
    found.sort_by_key(|probe| (urgency(probe), std::cmp::Reverse(probe.severity), &probe.name));
    let skips = skips(run);
    if !found.is_empty() || !skips.is_empty() {
        page.gap();
    }
    for probe in found {
        finding(page, probe, style);
    }
    for (reason, names) in skips {
        let mut line = vec![piece(0, Hue::Faint, "skipped")];
        line.extend(words(2, Hue::Plain, &format!("{reason}: {}", names.join(", "))));
        page.line(2, 4, line);
    }
}

fn urgency(probe: &ProbeOutcome) -> u8 {
    match (probe.standing(), &probe.verdict) {
        (Standing::Fail, Verdict::Leaked { .. }) => 0,
        (Standing::Error, _) => 2,
        (Standing::Fail, Verdict::Unreached { .. }) => 3,
        (Standing::Fail, _) => 1,
        (Standing::KnownLeak | Standing::Pass | Standing::Skip, _) => 4,
    }
}

fn finding(page: &mut Page, probe: &ProbeOutcome, style: Style) {
    let nonces = if style.verbose > 0 { Nonces::Whole } else { Nonces::Short };
    let mut line =
        vec![piece(0, hue(probe), prose::word(probe)), piece(2, Hue::Heading, clean(&probe.name))];
    if matches!(probe.verdict, Verdict::Leaked { .. }) {
        line.push(piece(1, Hue::Plain, format!("({})", severity(probe.severity))));
    }
    line.extend(words(1, Hue::Plain, &format!("— {}", clean(&prose::probe_reason(probe, nonces)))));
    page.line(2, 4, line);

    page.line(6, 6, words(0, Hue::Faint, &clean(&probe.title)));
    if style.verbose > 0 && !probe.why.is_empty() {
        page.line(6, 6, words(0, Hue::Faint, &clean(&probe.why)));
    }
    if let (Some(reference), Standing::KnownLeak) = (&probe.known_leak, probe.standing()) {
        page.line(6, 6, words(0, Hue::Plain, &format!("known: {}", clean(reference))));
    }
    for line in prose::culprits(probe, nonces, TOLD) {
        page.line(6, 10, words(0, Hue::Plain, &clean(&line)));
    }
}

/// Reasons, and the probes that were skipped for each.
fn skips(run: &RunOutcome) -> Vec<(String, Vec<String>)> {
    let mut skips: Vec<(String, Vec<String>)> = Vec::new();
    for probe in &run.probes {
        let Verdict::Skipped { why } = &probe.verdict else {
            continue;
        };
        let (why, name) = (clean(why), clean(&probe.name));
        match skips.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => skips.push((why, vec![name])),
        }
    }
    skips
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    const PLAIN: Style = Style { colour: false, width: 100, verbose: 0 };

    fn visible(text: &str) -> String {
        text.replace('\x1b', "␛")
    }

    #[test]
    fn one_of_everything() {
        insta::assert_snapshot!(render(&[samples::everything()], PLAIN));
    }

    #[test]
    fn one_of_everything_verbose() {
        insta::assert_snapshot!(render(&[samples::everything()], Style { verbose: 2, ..PLAIN }));
    }

    #[test]
    fn one_of_everything_on_a_narrow_terminal() {
        insta::assert_snapshot!(render(&[samples::everything()], Style { width: 44, ..PLAIN }));
    }

    #[test]
    fn one_of_everything_in_colour() {
        let text = render(&[samples::everything()], Style { colour: true, ..PLAIN });
        insta::assert_snapshot!(visible(&text));
    }

    #[test]
    fn colours_change_nothing_but_the_colours() {
        let runs = [samples::everything(), samples::hostile()];
        let mut colour = render(&runs, Style { colour: true, ..PLAIN });
        while let Some(start) = colour.find('\x1b') {
            let end = start + colour[start..].find('m').unwrap();
            colour.replace_range(start..=end, "");
        }
        assert_eq!(colour, render(&runs, PLAIN));
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let text = render(&[samples::hostile()], Style { width: 0, verbose: 2, ..PLAIN });
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn two_backends() {
        let docker = RunOutcome {
            backend: "docker".to_owned(),
            breach: Some("default-route".to_owned()),
            ..samples::run(vec![samples::probe("smoke-echo", samples::reached())])
        };
        let runs = [samples::run(vec![samples::probe("metadata", samples::contained())]), docker];
        insta::assert_snapshot!(render(&runs, PLAIN), @r"
        namespace
          metadata  contained  3.1 ms  refused ×1

        docker under default-route
          smoke-echo  reached  3.1 ms  answered ×1

        2 probes, 2 attempts: 2 contained or reached
        ");
    }

    #[test]
    fn nothing_but_skips() {
        let skip = |name| samples::probe(name, samples::skipped("no docker"));
        insta::assert_snapshot!(render(&[samples::run(vec![skip("a"), skip("b")])], PLAIN), @r"
        namespace
          a  skipped
          b  skipped

          skipped  no docker: a, b

        2 probes, 0 attempts: 2 skipped; nothing was tried, so nothing is proven
        ");
    }

    #[test]
    fn no_probe_at_all() {
        insta::assert_snapshot!(render(&[], PLAIN), @r"0 probes, 0 attempts: nothing was tried, so nothing is proven");
        insta::assert_snapshot!(render(&[samples::run(vec![])], PLAIN), @r"
        namespace

        0 probes, 0 attempts: nothing was tried, so nothing is proven
        ");
    }

    #[test]
    fn many_leaks_of_one_probe_are_counted() {
        let leak =
            |i| samples::attempt(&format!("tcp to host-loopback:random as {i}"), samples::leaked());
        let probe = samples::probe_of("loopback", samples::leaked(), (0..9).map(leak).collect());
        insta::assert_snapshot!(render(&[samples::run(vec![probe])], PLAIN), @r"
        namespace
          loopback  LEAKED  3.1 ms  leaked ×9

          LEAKED  loopback (high) — host-loopback tcp/9 at 0.0.0.0:9 saw nonce cb0n1234… from 10.0.0.2:4242
            after 3 ms
              The title of loopback
              tcp to host-loopback:random as 0
              tcp to host-loopback:random as 1
              tcp to host-loopback:random as 2
              tcp to host-loopback:random as 3
              tcp to host-loopback:random as 4
              … and 4 more attempts

        1 probe, 9 attempts: 1 leaked
        ");
    }

    #[test]
    fn no_width_is_too_small() {
        let runs = [samples::everything(), samples::hostile()];
        for width in 0..50 {
            let text = render(&runs, Style { colour: false, width, verbose: 2 });
            let limit = if width == 0 { usize::MAX } else { width.max(2) };
            assert!(text.lines().all(|line| super::width(line) <= limit), "{width}");
        }
    }
}
