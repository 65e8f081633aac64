//! Which probe notices which breach.

use super::layout::{Hue, Page, Piece, piece, words};
use super::prose::{clean, count};
use super::terminal::Style;
use super::text::{Untrusted, width};

/// The most columns that the eye can follow.
const COLUMNS: usize = 12;

/// What came of every breach on one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachMatrix {
    /// The backend.
    pub backend: String,
    /// How many attempts the catalogue has: as many were made in each bottle.
    pub attempts: usize,
    /// The methods of attempts that noticed no breach at all.
    pub unproven_methods: Vec<String>,
    /// A row per breach.
    pub rows: Vec<BreachRow>,
}

/// What came of one breach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachRow {
    /// The breach.
    pub breach: String,
    /// The probes that were run under it.
    pub cells: Vec<Cell>,
}

/// What one probe said under one breach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The probe.
    pub probe: String,
    /// Whether it declares that the breach flips it.
    pub expected_flip: bool,
    /// Whether it flipped: reported a leak, or that what must be reached is not.
    pub flipped: bool,
    /// Its verdict's word, such as `contained`.
    pub verdict: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Flipped,
    Unchanged,
    Missed,
    Surprise,
}

impl Mark {
    const ALL: [Self; 4] = [Self::Flipped, Self::Unchanged, Self::Missed, Self::Surprise];

    fn sign(self) -> &'static str {
        match self {
            Self::Flipped => "✓",
            Self::Unchanged => "·",
            Self::Missed => "✗",
            Self::Surprise => "!",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Flipped => "flipped as declared",
            Self::Unchanged => "unchanged as declared",
            Self::Missed => "did not flip",
            Self::Surprise => "not declared",
        }
    }

    fn hue(self) -> Hue {
        match self {
            Self::Flipped => Hue::Good,
            Self::Unchanged => Hue::Faint,
            Self::Missed | Self::Surprise => Hue::Bad,
        }
    }
}

impl Cell {
    fn mark(&self) -> Mark {
        match (self.expected_flip, self.flipped) {
            (true, true) => Mark::Flipped,
            (false, false) => Mark::Unchanged,
            (true, false) => Mark::Missed,
            (false, true) => Mark::Surprise,
        }
    }
}

impl BreachMatrix {
    /// The probes, in the order in which they are met.
    fn probes(&self) -> Vec<&str> {
        let mut probes: Vec<&str> = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.cells) {
            if !probes.contains(&cell.probe.as_str()) {
                probes.push(&cell.probe);
            }
        }
        probes
    }

    /// The probes that no breach has flipped as declared: nothing shows that they can fail.
    pub fn unproven(&self) -> Vec<&str> {
        let cells = || self.rows.iter().flat_map(|row| &row.cells);
        let proves = |cell: &Cell| cell.mark() == Mark::Flipped;
        let mut unproven = self.probes();
        unproven.retain(|probe| !cells().any(|cell| cell.probe == *probe && proves(cell)));
        unproven
    }

    /// 0: every probe is proven, and exactly the declared ones flipped under each breach; 1: not so; 3: nothing was
    /// tried.
    pub fn exit_code(&self) -> u8 {
        let mut cells = self.rows.iter().flat_map(|row| &row.cells);
        let is_surprising = cells.any(|cell| cell.expected_flip != cell.flipped);
        match self.probes().len() {
            0 => 3,
            _ if is_surprising
                || !self.unproven().is_empty()
                || !self.unproven_methods.is_empty() =>
            {
                1
            }
            _ => 0,
        }
    }
}

/// A row per breach, a column per probe, and below it what is missing. Where that would be too many columns, each
/// row names the probes that flipped, or should have.
pub fn render_breaches(matrix: &BreachMatrix, style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    page.line(0, 2, words(0, Hue::Heading, &clean(&matrix.backend)));
    let probes = matrix.probes();
    let label = matrix.rows.iter().map(|row| width(&clean(&row.breach))).max().unwrap_or(0);
    let names = probes.iter().map(|probe| width(&clean(probe))).max().unwrap_or(0);

    // The last column's name needs its width behind the column.
    let fits = 2 + label + 2 + 2 * probes.len() + names <= page.width();
    if fits && probes.len() <= COLUMNS {
        table(&mut page, matrix, &probes, label);
    } else {
        list(&mut page, matrix, label);
    }
    if !probes.is_empty() {
        page.gap();
        legend(&mut page);
        surprises(&mut page, matrix);
    }
    closing(&mut page, matrix, probes.len());
    page.finish()
}

/// The columns' names as stairs, then the rows.
fn table(page: &mut Page, matrix: &BreachMatrix, probes: &[&str], label: usize) {
    let start = 2 + label + 2;
    for (i, probe) in probes.iter().enumerate() {
        let bars = "│ ".repeat(i);
        let room = page.width().saturating_sub(start + 2 * i + 2).max(1);
        let name = Untrusted::from(*probe).one_line(room);
        page.line(start, start, [piece(0, Hue::Plain, format!("{bars}┌ {name}"))]);
    }
    for row in &matrix.rows {
        let name = clean(&row.breach);
        let pad = label - width(&name);
        let mut line = vec![piece(0, Hue::Plain, name)];
        let mut gap = pad + 2;
        for probe in probes {
            let mark = row.cells.iter().find(|cell| cell.probe == *probe).map(Cell::mark);
            match mark {
                Some(mark) => {
                    line.push(piece(gap, mark.hue(), mark.sign()));
                    gap = 1;
                }
                None => gap += 2,
            }
        }
        page.line(2, 4, line);
    }
}

/// What a breach left unchanged, as most probes, is counted only.
fn list(page: &mut Page, matrix: &BreachMatrix, label: usize) {
    for row in &matrix.rows {
        let name = clean(&row.breach);
        let mut gap = label - width(&name) + 2;
        let mut line = vec![piece(0, Hue::Plain, name)];
        for mark in [Mark::Flipped, Mark::Missed, Mark::Surprise] {
            for cell in row.cells.iter().filter(|cell| cell.mark() == mark) {
                let text = format!("{} {}", mark.sign(), clean(&cell.probe));
                line.push(piece(gap, mark.hue(), text));
                gap = 2;
            }
        }
        let unchanged = row.cells.iter().filter(|cell| cell.mark() == Mark::Unchanged).count();
        if unchanged > 0 {
            let sign = Mark::Unchanged.sign();
            line.push(piece(gap, Mark::Unchanged.hue(), format!("{sign} {unchanged}")));
        }
        page.line(2, 2 + label + 2, line);
    }
}

fn legend(page: &mut Page) {
    let pieces = Mark::ALL.into_iter().flat_map(|mark| -> Vec<Piece> {
        let mut pieces = vec![piece(2, mark.hue(), mark.sign())];
        pieces.extend(words(1, Hue::Faint, mark.meaning()));
        pieces
    });
    page.line(2, 4, pieces);
}

/// What flipped or did not, against its declaration.
fn surprises(page: &mut Page, matrix: &BreachMatrix) {
    let cells = matrix.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
    for (row, cell) in cells {
        let (breach, probe) = (clean(&row.breach), clean(&cell.probe));
        let text = match cell.mark() {
            Mark::Flipped | Mark::Unchanged => continue,
            Mark::Missed => format!("{breach} did not flip {probe}: {}", cell.verdict),
            Mark::Surprise => {
                format!("{breach} flipped {probe}, which does not declare it: {}", cell.verdict)
            }
        };
        let mut line = vec![piece(0, Hue::Bad, cell.mark().sign())];
        line.extend(words(1, Hue::Plain, &text));
        page.line(2, 4, line);
    }
}

fn closing(page: &mut Page, matrix: &BreachMatrix, probes: usize) {
    let counts = format!(
        "{}, {}, {}",
        count(probes, "probe"),
        count(matrix.attempts, "attempt"),
        match matrix.rows.len() {
            1 => "1 breach".to_owned(),
            n => format!("{n} breaches"),
        },
    );
    let mut unproven: Vec<_> = matrix.unproven().into_iter().map(clean).collect();
    let methods = matrix.unproven_methods.iter();
    unproven.extend(methods.map(|method| format!("the method {}", clean(method))));
    let backend = clean(&matrix.backend);
    let (hue, text) = match matrix.exit_code() {
        0 => (Hue::Good, format!("{counts}: every probe proven on {backend}")),
        3 => (
            Hue::Unclear,
            format!("{counts}: nothing was tried, so nothing is proven on {backend}"),
        ),
        _ if unproven.is_empty() => {
            (Hue::Bad, format!("{counts}: not what the probes declare on {backend}"))
        }
        _ => (Hue::Bad, format!("{counts}: not proven on {backend}: {}", unproven.join(", "))),
    };
    page.gap();
    page.line(0, 2, words(0, hue, &text));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, width: 80, verbose: 0 };

    fn cell(probe: &str, sign: char) -> Cell {
        Cell {
            probe: probe.to_owned(),
            expected_flip: matches!(sign, '✓' | '✗'),
            flipped: matches!(sign, '✓' | '!'),
            verdict: if matches!(sign, '✓' | '!') { "LEAKED" } else { "contained" },
        }
    }

    fn matrix(rows: &[(&str, &str)]) -> BreachMatrix {
        const PROBES: [&str; 4] = ["bundle-egress", "loopback-reach", "metadata", "smoke-echo"];
        let rows = rows.iter().map(|(breach, signs)| BreachRow {
            breach: (*breach).to_owned(),
            cells: PROBES
                .iter()
                .zip(signs.chars())
                .filter(|(_, sign)| *sign != ' ')
                .map(|(probe, sign)| cell(probe, sign))
                .collect(),
        });
        BreachMatrix {
            backend: "namespace".to_owned(),
            attempts: 748,
            unproven_methods: Vec::new(),
            rows: rows.collect(),
        }
    }

    fn good() -> BreachMatrix {
        matrix(&[
            ("default-route", "··✓·"),
            ("egress-on-every-address", "✓···"),
            ("no-network-namespace", "·✓ ·"),
            ("no-exec", "···✓"),
        ])
    }

    #[test]
    fn every_probe_is_proven() {
        assert_eq!(good().exit_code(), 0);
        insta::assert_snapshot!(render_breaches(&good(), PLAIN), @r"
        namespace
                                   ┌ bundle-egress
                                   │ ┌ loopback-reach
                                   │ │ ┌ metadata
                                   │ │ │ ┌ smoke-echo
          default-route            · · ✓ ·
          egress-on-every-address  ✓ · · ·
          no-network-namespace     · ✓   ·
          no-exec                  · · · ✓

          ✓ flipped as declared  · unchanged as declared  ✗ did not flip  ! not declared

        4 probes, 748 attempts, 4 breaches: every probe proven on namespace
        ");
    }

    #[test]
    fn what_is_missing_is_named() {
        let bad = matrix(&[("default-route", "··✗!"), ("no-network-namespace", "·✓··")]);
        assert_eq!(bad.exit_code(), 1);
        assert_eq!(bad.unproven(), ["bundle-egress", "metadata", "smoke-echo"]);
        insta::assert_snapshot!(render_breaches(&bad, PLAIN), @r"
        namespace
                                ┌ bundle-egress
                                │ ┌ loopback-reach
                                │ │ ┌ metadata
                                │ │ │ ┌ smoke-echo
          default-route         · · ✗ !
          no-network-namespace  · ✓ · ·

          ✓ flipped as declared  · unchanged as declared  ✗ did not flip  ! not declared
          ✗ default-route did not flip metadata: contained
          ! default-route flipped smoke-echo, which does not declare it: LEAKED

        4 probes, 748 attempts, 2 breaches: not proven on namespace: bundle-egress,
          metadata, smoke-echo
        ");
    }

    #[test]
    fn a_surprise_alone_is_red() {
        let mut surprise = good();
        surprise.rows[0].cells[0] = cell("bundle-egress", '!');
        assert_eq!(surprise.exit_code(), 1);
        assert!(surprise.unproven().is_empty());
        let text = render_breaches(&surprise, PLAIN);
        assert_eq!(
            text.lines().last(),
            Some("4 probes, 748 attempts, 4 breaches: not what the probes declare on namespace"),
        );
    }

    #[test]
    fn nothing_proves_nothing() {
        assert_eq!(matrix(&[]).exit_code(), 3);
        insta::assert_snapshot!(render_breaches(&matrix(&[]), PLAIN), @r"
        namespace

        0 probes, 748 attempts, 0 breaches: nothing was tried, so nothing is proven on
          namespace
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_a_list() {
        insta::assert_snapshot!(render_breaches(&good(), Style { width: 46, ..PLAIN }));
    }

    /// As large as a grown catalogue: 30 probes, 25 breaches, of which each flips the probe of its number.
    fn large() -> BreachMatrix {
        let cells = |breach: usize| {
            (0..30).map(move |probe| {
                let sign = if probe % 25 == breach { '✓' } else { '·' };
                cell(&format!("probe-with-a-long-name-{probe}"), sign)
            })
        };
        let rows = (0..25).map(|breach| BreachRow {
            breach: format!("breach-with-a-name-{breach}"),
            cells: cells(breach).collect(),
        });
        BreachMatrix { rows: rows.collect(), ..good() }
    }

    #[test]
    fn a_large_matrix_fits_a_terminal() {
        for width in [80, 120] {
            let text = render_breaches(&large(), Style { width, ..PLAIN });
            assert!(text.lines().all(|line| super::width(line) <= width));
            assert!(text.lines().count() < 40, "{text}");
        }
        insta::assert_snapshot!(render_breaches(&large(), PLAIN));
    }

    #[test]
    fn no_width_is_too_small() {
        for width in 0..60 {
            let text = render_breaches(&good(), Style { width, ..PLAIN });
            let limit = if width == 0 { usize::MAX } else { width.max(2) };
            assert!(text.lines().all(|line| super::width(line) <= limit), "{width}");
        }
    }
}
