//! What was expected beside what was seen, and why.

use super::layout::{Hue, Page, cell, piece, words};
use super::prose::{clean, count};
use super::terminal::Style;
use super::text::width;
use crate::expected::{Comparison, Row};

/// One run beside its expectations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The backend.
    pub backend: String,
    /// The breach; none: the sound bottle.
    pub breach: Option<String>,
    /// The rows.
    pub comparison: Comparison,
}

/// Attempts of one probe that are told in one line, since they have the same end for the same reason.
struct Group<'a> {
    first: &'a Row,
    more: usize,
}

/// A block per run: each attempt, what was expected, what was seen, and the way; differences are marked with `✗`.
/// Attempts that differ in nothing but their destination are told once, unless `style` is verbose.
pub fn render_explained(all: &[Explained], style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    for one in all {
        page.gap();
        let under = match &one.breach {
            Some(breach) => format!("{} under {breach}", one.backend),
            None => format!("{}, sound", one.backend),
        };
        page.line(0, 2, words(0, Hue::Heading, &clean(&under)));
        if let Some(trouble) = &one.comparison.trouble {
            page.line(2, 4, words(0, Hue::Bad, &format!("✗ {}", clean(trouble))));
        }
        rows(&mut page, &one.comparison, style);
    }
    page.gap();
    closing(&mut page, all);
    page.finish()
}

fn rows(page: &mut Page, comparison: &Comparison, style: Style) {
    let groups = groups(comparison, style);
    let most = |of: fn(&Row) -> String| groups.iter().map(|g| width(&of(g.first))).max();
    let (expects, sees) = (most(expected).unwrap_or(0), most(actual).unwrap_or(0));
    let mut probe = None;
    for Group { first, more } in &groups {
        if probe != Some(&first.probe) {
            page.line(2, 4, [piece(0, Hue::Heading, clean(&first.probe))]);
            probe = Some(&first.probe);
        }
        let (mark, hue) = if first.agrees { (" ", Hue::Faint) } else { ("✗", Hue::Bad) };
        let mut line = vec![
            cell(0, Hue::Bad, mark, 1),
            cell(1, Hue::Plain, expected(first), expects),
            cell(2, if first.agrees { Hue::Plain } else { hue }, actual(first), sees),
        ];
        line.extend(words(2, Hue::Plain, &clean(&first.what)));
        if *more > 0 {
            line.extend(words(1, Hue::Faint, &format!("and {more} more")));
        }
        if let Some(expected) = &first.expected {
            line.extend(words(1, Hue::Faint, &format!("— {}", clean(&expected.why))));
        }
        page.line(3, 9, line);
    }
}

fn groups(comparison: &Comparison, style: Style) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in &comparison.rows {
        let same = |other: &Row| {
            (&other.probe, &other.expected, other.actual) == (&row.probe, &row.expected, row.actual)
        };
        let known = groups.iter_mut().find(|group| style.verbose == 0 && same(group.first));
        match known {
            Some(group) => group.more += 1,
            None => groups.push(Group { first: row, more: 0 }),
        }
    }
    groups
}

fn expected(row: &Row) -> String {
    row.expected.as_ref().map_or_else(|| "no expectation".to_owned(), ToString::to_string)
}

fn actual(row: &Row) -> String {
    row.actual.map_or_else(|| "not made".to_owned(), |kind| kind.to_string())
}

fn closing(page: &mut Page, all: &[Explained]) {
    let attempts: usize = all.iter().map(|one| one.comparison.rows.len()).sum();
    let differ: usize = all.iter().map(|one| one.comparison.differences().count()).sum();
    let (hue, text) = match (attempts, differ) {
        (0, _) => (Hue::Unclear, "nothing was tried".to_owned()),
        (_, 0) => (Hue::Good, format!("{}: all as expected", count(attempts, "attempt"))),
        _ => {
            let attempts = count(attempts, "attempt");
            (Hue::Bad, format!("{attempts}: {differ} not as expected, marked with ✗"))
        }
    };
    page.line(0, 2, words(0, hue, &text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expected::{Expected, Kind};

    fn row(what: &str, expected: &[Kind], actual: Option<Kind>) -> Row {
        let expected = Expected { kinds: expected.to_vec(), why: "in eth0 → out: closed".into() };
        Row {
            probe: "host-gateway".to_owned(),
            what: format!("tcp to host-gateway:discard as {what}"),
            agrees: actual.is_some_and(|actual| expected.agrees(actual)),
            expected: Some(expected),
            actual,
        }
    }

    fn explained() -> Explained {
        use Kind::{Contained, Inconclusive, Leaked};
        let mut rows = vec![
            row("10.0.0.1", &[Contained], Some(Contained)),
            row("10.0.0.2", &[Contained], Some(Contained)),
            row("10.0.0.3", &[Contained], Some(Leaked)),
            row("10.0.0.4", &[Leaked, Inconclusive], None),
            row("\x1b[2J", &[], Some(Contained)),
        ];
        rows.push(Row { probe: "b".into(), expected: None, ..rows[4].clone() });
        Explained {
            backend: "namespace".to_owned(),
            breach: Some("link-to-host".to_owned()),
            comparison: Comparison { rows, trouble: Some("no bottle".to_owned()) },
        }
    }

    #[test]
    fn differences_are_marked() {
        let text = render_explained(&[explained()], Style::default());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn nothing_is_not_as_expected() {
        let none =
            Explained { comparison: Comparison { rows: Vec::new(), trouble: None }, ..explained() };
        let text = render_explained(&[none], Style::default());
        assert!(text.ends_with("nothing was tried\n"), "{text}");
    }
}
