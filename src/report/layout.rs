//! Lines that fit a terminal.

use owo_colors::Style as Paint;

use super::text::{columns, width};

/// What a piece of text means; the colour follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hue {
    Plain,
    Heading,
    Good,
    /// A known leak.
    Amber,
    Bad,
    Unclear,
    Faint,
}

impl Hue {
    fn paint(self) -> Paint {
        let paint = Paint::new();
        match self {
            Self::Plain => paint,
            Self::Heading => paint.bold(),
            Self::Good => paint.green(),
            Self::Amber => paint.yellow(),
            Self::Bad => paint.bold().red(),
            Self::Unclear => paint.magenta(),
            Self::Faint => paint.dimmed(),
        }
    }
}

/// Text that stays on one line if it can.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    text: String,
    hue: Hue,
    /// Spaces before it, unless it starts a line.
    gap: usize,
    /// Columns that it takes at least.
    least: usize,
    right: bool,
}

/// A piece behind `gap` spaces.
pub(super) fn piece(gap: usize, hue: Hue, text: impl Into<String>) -> Piece {
    Piece { text: text.into(), hue, gap, least: 0, right: false }
}

/// A cell that takes at least `least` columns.
pub(super) fn cell(gap: usize, hue: Hue, text: impl Into<String>, least: usize) -> Piece {
    Piece { least, ..piece(gap, hue, text) }
}

/// A cell whose text is on the right.
pub(super) fn cell_right(gap: usize, hue: Hue, text: impl Into<String>, least: usize) -> Piece {
    Piece { right: true, ..cell(gap, hue, text, least) }
}

/// A text's words, the first behind `gap` spaces.
pub(super) fn words(gap: usize, hue: Hue, text: &str) -> Vec<Piece> {
    text.split(' ')
        .filter(|word| !word.is_empty())
        .enumerate()
        .map(|(i, word)| piece(if i == 0 { gap } else { 1 }, hue, word))
        .collect()
}

/// Text that grows line by line.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    colour: bool,
    /// Columns; `usize::MAX` where lines are never wrapped.
    width: usize,
}

impl Page {
    /// An empty page; a `width` of 0 never wraps.
    pub(super) fn new(colour: bool, width: usize) -> Self {
        Self { text: String::new(), colour, width: if width == 0 { usize::MAX } else { width } }
    }

    /// The columns that there are.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// An empty line, unless the page is empty.
    pub(super) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// One line, wrapped where it does not fit: it starts at column `indent`, its continuation lines at `hang`.
    pub(super) fn line(
        &mut self,
        indent: usize,
        hang: usize,
        pieces: impl IntoIterator<Item = Piece>,
    ) {
        // However narrow the terminal is, half of it is left for text.
        let half = (self.width - 1) / 2;
        let (indent, hang) = (indent.min(half), hang.min(half));
        let mut line = Line::at(indent);
        for piece in pieces {
            let taken = width(&piece.text).max(piece.least);
            let gap = if line.is_empty() { 0 } else { piece.gap };
            if line.is_empty() || line.at + gap + taken <= self.width {
                line.skip(gap);
            } else {
                self.end(&mut line, hang);
            }
            self.put(&mut line, hang, &piece);
        }
        self.end(&mut line, 0);
    }

    fn put(&mut self, line: &mut Line, hang: usize, piece: &Piece) {
        let room = self.width.saturating_sub(line.at);
        let padding = piece.least.saturating_sub(width(&piece.text)).min(room);
        if piece.right {
            line.skip(padding);
        }
        for c in piece.text.chars() {
            // A piece that is longer than a line is broken.
            if !line.is_empty() && line.at.saturating_add(columns(c)) > self.width {
                self.end(line, hang);
            }
            line.push(c, piece.hue);
        }
        if !piece.right {
            line.skip(padding);
        }
    }

    /// Writes a line and starts the next one at column `start`.
    fn end(&mut self, line: &mut Line, start: usize) {
        use std::fmt::Write as _;

        for (hue, text) in std::mem::replace(line, Line::at(start)).runs {
            if self.colour && hue != Hue::Plain {
                let _ = write!(self.text, "{}", hue.paint().style(text));
            } else {
                self.text.push_str(&text);
            }
        }
        self.text.push('\n');
    }
}

/// A line that is being filled.
struct Line {
    /// Its first column.
    start: usize,
    /// The column that comes next.
    at: usize,
    /// Spaces before what comes next. They are kept back so that no line ends in spaces.
    spaces: usize,
    /// What it has, in as few colours as possible.
    runs: Vec<(Hue, String)>,
}

impl Line {
    fn at(start: usize) -> Self {
        Self { start, at: start, spaces: start, runs: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.at == self.start
    }

    fn skip(&mut self, spaces: usize) {
        self.at += spaces;
        self.spaces += spaces;
    }

    fn push(&mut self, c: char, hue: Hue) {
        self.at += columns(c);
        let spaces = " ".repeat(std::mem::take(&mut self.spaces));
        match self.runs.last_mut() {
            Some((last, text)) if *last == hue => {
                text.push_str(&spaces);
                text.push(c);
            }
            _ => {
                if !spaces.is_empty() {
                    self.runs.push((Hue::Plain, spaces));
                }
                self.runs.push((hue, c.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(width: usize, pieces: Vec<Piece>) -> String {
        let mut page = Page::new(false, width);
        page.line(2, 6, pieces);
        page.finish()
    }

    #[test]
    fn cells_are_aligned_and_long_lines_hang() {
        let row = || {
            let mut row =
                vec![cell(0, Hue::Plain, "name", 8), cell_right(2, Hue::Plain, "3 ms", 8)];
            row.extend(words(2, Hue::Plain, "refused ×21, unreachable ×7"));
            row
        };
        insta::assert_snapshot!(page(0, row()), @r"  name          3 ms  refused ×21, unreachable ×7");
        insta::assert_snapshot!(page(32, row()), @r"
        name          3 ms  refused
            ×21, unreachable ×7
        ");
        insta::assert_snapshot!(page(9, row()), @r"
        name
              3
           ms
          refus
          ed
          ×21,
          unrea
          chabl
          e ×7
        ");
        assert_eq!(page(1, words(0, Hue::Plain, "中 ab")), "中\na\nb\n");
    }

    #[test]
    fn colour_surrounds_the_text_alone() {
        let mut page = Page::new(true, 0);
        page.line(
            2,
            2,
            [
                cell(0, Hue::Bad, "LEAKED", 8),
                piece(1, Hue::Faint, "it"),
                piece(1, Hue::Faint, "was"),
                piece(1, Hue::Plain, "it"),
            ],
        );
        let text = page.finish().replace('\x1b', "␛");
        assert_eq!(text, "  ␛[31;1mLEAKED␛[0m   ␛[2mit was␛[0m it\n");
    }

    proptest! {
        #[test]
        fn lines_fit_and_nothing_is_lost(
            texts in prop::collection::vec(("[a-z中é ]{0,30}", 0..12_usize, 0..3_usize, any::<bool>()), 0..8),
            width in 0..60_usize,
            indent in 0..20_usize,
            hang in 0..20_usize,
        ) {
            let pieces: Vec<_> = texts
                .iter()
                .map(|(text, least, gap, right)| Piece { right: *right, ..cell(*gap, Hue::Plain, text.as_str(), *least) })
                .collect();
            let mut page = Page::new(false, width);
            page.line(indent, hang, pieces);
            let text = page.finish();

            let limit = if width == 0 { usize::MAX } else { width.max(2) };
            for line in text.lines() {
                prop_assert!(super::width(line) <= limit, "{line:?}");
            }
            let solid = |text: &str| text.replace([' ', '\n'], "");
            let all: String = texts.iter().map(|(text, ..)| text.as_str()).collect();
            prop_assert_eq!(solid(&text), solid(&all));
        }
    }
}
