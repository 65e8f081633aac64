//! What is wrong in a file, and where.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use unicode_width::UnicodeWidthStr as _;

use crate::nearest::{UnknownWord, push_visible, quote};

/// Bytes of a document.
pub(crate) type Span = Range<usize>;

/// How much of a line is shown with a mistake, in characters.
const WINDOW: usize = 120;

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is not in its format.
    #[error("not valid {format} at {at}: {message}")]
    Syntax {
        /// The format: `TOML`, `JSON`.
        format: &'static str,
        /// The part that cannot be read, quoted, or where it is.
        at: String,
        /// What the parser says.
        message: String,
    },
    /// The file is not text.
    #[error("not UTF-8: byte 0x{byte:02x}")]
    NotUtf8 {
        /// The first byte that is none of a character.
        byte: u8,
    },
    /// Required keys are not there.
    #[error("missing {}", missing(keys, table.as_deref()))]
    Missing {
        /// The keys.
        keys: Vec<String>,
        /// The key of the table where they are missing; none at the top of the file.
        table: Option<String>,
    },
    /// A value has the wrong type.
    #[error("{} is {found}, expected {expected}", quote(key))]
    WrongType {
        /// The key whose value it is.
        key: String,
        /// What it is, such as `an integer`.
        found: &'static str,
        /// What it should be, such as `a string`.
        expected: &'static str,
    },
    /// A value has the right type and is yet not right.
    #[error("{} is {}, expected {expected}", quote(key), quote(value))]
    BadValue {
        /// The key whose value it is.
        key: String,
        /// The value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A text or a list is empty.
    #[error("{} is empty", quote(key))]
    Empty {
        /// The key whose value it is.
        key: String,
    },
    /// A list has the same value twice.
    #[error("{} has {} twice", quote(key), quote(value))]
    Twice {
        /// The key whose value the list is.
        key: String,
        /// The value.
        value: String,
    },
    /// A word is none of those that exist.
    #[error(transparent)]
    UnknownWord(#[from] UnknownWord),
    /// The values do not go together; the rules are those of whoever reads the file.
    #[error(transparent)]
    Rule(Box<dyn Error + Send + Sync>),
}

fn missing(keys: &[String], table: Option<&str>) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| quote(key)).collect();
    let keys = if keys.len() == 1 { "key" } else { "keys" };
    let table = table.map(|table| format!(" in {}", quote(table))).unwrap_or_default();
    format!("{keys} {}{table}", quoted.join(", "))
}

/// One mistake at its place in a file.
///
/// It is shown as compilers show theirs:
///
/// ```text
/// probes/x.toml:7:1: unknown key `exepct`, did you mean `expect`?
///   |
/// 7 | exepct = "contained"
///   | ^^^^^^
/// ```
#[derive(Debug)]
pub struct Mistake {
    /// The file, as it is shown to a person.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters and counted from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
    excerpt: Excerpt,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, problem, excerpt } = self;
        writeln!(f, "{file}:{line}:{column}: {problem}")?;
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(excerpt.before);
        let caret = "^".repeat(excerpt.width);
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{}", format!("{number} | {}", excerpt.line).trim_end())?;
        write!(f, "{gutter} | {indent}{caret}")
    }
}

impl Error for Mistake {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// A line of the file, harmless and short, and which part of it is meant.
#[derive(Debug)]
struct Excerpt {
    line: String,
    /// Columns before the part that is meant.
    before: usize,
    /// Columns of it, at least one: a missing thing has its caret too.
    width: usize,
}

impl Excerpt {
    fn new(line: &str, meant: Span) -> Self {
        let Span { start, end } = meant;
        let column = line[..start].chars().count();
        // A line too long for a terminal shows its part around the caret.
        let skip =
            if line.chars().count() <= WINDOW { 0 } else { column.saturating_sub(WINDOW / 3) };
        let mut excerpt = Self { line: String::new(), before: 0, width: 0 };
        if skip > 0 {
            excerpt.line.push('…');
            excerpt.before = 1;
        }
        for (at, (offset, character)) in line.char_indices().enumerate().skip(skip) {
            if at >= skip + WINDOW {
                excerpt.line.push('…');
                break;
            }
            let length = excerpt.line.len();
            if character == '\t' {
                excerpt.line.push_str("    ");
            } else {
                push_visible(&mut excerpt.line, character);
            }
            let shown = excerpt.line[length..].width();
            if offset < start {
                excerpt.before += shown;
            } else if offset < end {
                excerpt.width += shown;
            }
        }
        excerpt.width = excerpt.width.max(1);
        excerpt
    }
}

/// A file's name and text, for finding places in it.
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    /// The text of `file`, a name to show.
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let begins = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { file, text, lines: std::iter::once(0).chain(begins).collect() }
    }

    /// `problem` at `span`; a span of several lines is shown by its first.
    pub(crate) fn mistake(&self, span: &Span, problem: Problem) -> Mistake {
        let start = boundary(self.text, span.start);
        let line = self.lines.partition_point(|&begin| begin <= start) - 1;
        let begin = self.lines[line];
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let shown = self.text[begin..end].trim_end_matches('\r');
        // The parser may point at the line's end, which is behind a `\r`.
        let start = (start - begin).min(shown.len());
        let end = boundary(shown, span.end.saturating_sub(begin)).max(start);
        Mistake {
            file: self.file.to_owned(),
            line: line + 1,
            column: shown[..start].chars().count() + 1,
            problem,
            excerpt: Excerpt::new(shown, start..end),
        }
    }
}

/// The last boundary between characters of `text` that is not behind `at`.
fn boundary(text: &str, at: usize) -> usize {
    let end = at.min(text.len());
    (0..=end).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Span) -> String {
        Source::new("f", text).mistake(&span, Problem::Empty { key: "k".to_owned() }).to_string()
    }

    #[test]
    fn the_caret_is_below_what_is_meant() {
        assert_eq!(
            shown("a = 1\nbé = \"\"\r\nc", 12..14),
            "f:2:6: `k` is empty\n  |\n2 | bé = \"\"\n  |      ^^"
        );
        assert_eq!(
            shown("\tk = 1", 5..6),
            "f:1:6: `k` is empty\n  |\n1 |     k = 1\n  |         ^"
        );
    }

    #[test]
    fn the_caret_is_below_what_is_meant_behind_wide_characters() {
        let (told, text) = (shown("\"日本\" = 1", 11..12), "\"日本\" = 1");
        assert_eq!(told, format!("f:1:8: `k` is empty\n  |\n1 | {text}\n  | {}^", " ".repeat(9)));
    }

    #[test]
    fn a_span_over_several_lines_ends_with_its_first() {
        assert_eq!(shown("k = [\n1\n]", 4..9), "f:1:5: `k` is empty\n  |\n1 | k = [\n  |     ^");
    }

    #[test]
    fn the_end_of_a_file_has_a_place_too() {
        assert_eq!(shown("", 0..0), "f:1:1: `k` is empty\n  |\n1 |\n  | ^");
        assert_eq!(shown("a\n", 2..2), "f:2:1: `k` is empty\n  |\n2 |\n  | ^");
        assert_eq!(shown("a\r\n", 2..2), "f:1:2: `k` is empty\n  |\n1 | a\n  |  ^");
        assert_eq!(shown("ab", 70..90), "f:1:3: `k` is empty\n  |\n1 | ab\n  |   ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = shown(&text, 500..501);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "f:1:501: `k` is empty");
        let caret = lines[3].find('^').unwrap();
        let above: Vec<char> = lines[2].chars().collect();
        assert_eq!(above[caret], 'X');
        assert_eq!(above.len(), "1 | ".len() + 1 + WINDOW + 1);
        assert!(lines[2].starts_with("1 | …a") && lines[2].ends_with("b…"));
    }

    #[test]
    fn what_steers_a_terminal_is_shown_instead() {
        let shown = shown("a = \"\u{1b}[2J\"", 4..10);
        assert!(shown.contains(r#"1 | a = "\u{1b}[2J""#), "{shown}");
        assert!(shown.ends_with(&format!("  |     {}", "^".repeat(11))), "{shown}");
    }
}
