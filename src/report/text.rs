//! Text that a guest had a hand in, made harmless.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthChar as _;

/// The longest [`Untrusted`] in bytes: 64 KiB. What is longer keeps its head and its tail.
pub const CAP: usize = 64 * 1024;
const HEAD: usize = CAP / 2;
/// The line between head and tail takes less than the 64 bytes that this leaves.
const TAIL: usize = CAP - HEAD - 64;

/// Text from inside a bottle, decoded lossily, escaped and bounded: the only form in which it enters a report.
///
/// | what the guest wrote | what a reader sees |
/// |---|---|
/// | bytes that are not UTF-8 | U+FFFD |
/// | control characters but newline and tab, what turns the direction of writing, what is invisible, what XML 1.0 forbids | `\u{1b}` |
/// | `]]>`, which ends a CDATA section | `\u{5d}]>` |
/// | what a CI server obeys in a log or report: `[[ATTACHMENT\|…`, `##vso[…`, `##teamcity[…`, `::error …` | its first character escaped |
/// | more than [`CAP`] bytes | head and tail, and a line that says how much is cut |
///
/// A backslash stays as it is, so a guest may write `\u{1b}` in plain letters: harmless, and making a harmless text
/// harmless again changes nothing.
///
/// ```
/// use claude_bottle::report::text::Untrusted;
/// assert_eq!(Untrusted::new("\x1b[31mred\n").as_str(), "\\u{1b}[31mred\n");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Untrusted(String);

impl Untrusted {
    /// Makes `bytes` harmless.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let whole = Front::of(bytes, CAP);
        if whole.raw == bytes.len() {
            return Self(whole.shown);
        }
        let head = Front::of(bytes, HEAD);
        let (tail, start) = back(bytes, head.raw);
        let mut text = head.shown;
        // The tail starts behind a mark of its own: what was in the middle of a line does not become its start.
        let _ = write!(text, "\n… {} bytes cut …\n…{tail}", start - head.raw);
        Self(text)
    }

    /// The harmless text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as one line of at most `max` columns, for a table's cell: `⏎` for a newline, `…` where it is cut.
    pub fn one_line(&self, max: usize) -> String {
        shorten(
            self.0.chars().map(|c| match c {
                '\n' => '⏎',
                '\t' => ' ',
                c => c,
            }),
            max,
        )
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is read back from a file is no more trusted than it was.
impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Untrusted> for String {
    fn from(text: Untrusted) -> Self {
        text.0
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// The columns that a character takes on a terminal; 0 for a combining mark.
pub(super) fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The columns that a text without newlines takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// At most `max` columns of a text. Marks without a width of their own are bounded too.
fn shorten(text: impl Iterator<Item = char>, max: usize) -> String {
    let mut short = String::new();
    // Where the text is to be cut if it turns out to be too long: room for the `…` is kept.
    let (mut cut, mut used) = (0, 0);
    for (at, c) in text.enumerate() {
        used += columns(c);
        if used > max || at >= max.saturating_mul(4) {
            short.truncate(cut);
            if max > 0 {
                short.push('…');
            }
            break;
        }
        short.push(c);
        if used < max {
            cut = short.len();
        }
    }
    short
}

/// The front of some bytes, as it is shown.
struct Front {
    shown: String,
    /// How many bytes of the original it stands for.
    raw: usize,
}

impl Front {
    /// As much of the front as can be shown in `max` bytes.
    fn of(bytes: &[u8], max: usize) -> Self {
        let mut front = Self { shown: String::new(), raw: 0 };
        for piece in pieces(bytes) {
            let before = front.shown.len();
            piece.show(&mut front.shown);
            if front.shown.len() > max {
                front.shown.truncate(before);
                break;
            }
            front.raw += piece.raw;
        }
        front
    }
}

/// As much of the end as can be shown in [`TAIL`] bytes, and where it starts: not before `from`.
fn back(bytes: &[u8], from: usize) -> (String, usize) {
    // A piece is never shown in fewer bytes than it has.
    let mut start = from.max(bytes.len().saturating_sub(TAIL));
    // UTF-8 has at most three continuation bytes.
    start += bytes[start..].iter().take(3).take_while(|b| **b & 0xc0 == 0x80).count();

    let (mut shown, mut starts) = (String::new(), Vec::new());
    let mut raw = start;
    for piece in pieces(&bytes[start..]) {
        starts.push((shown.len(), raw));
        piece.show(&mut shown);
        raw += piece.raw;
    }
    let (cut, start) = starts
        .into_iter()
        .find(|(at, _)| shown.len() - at <= TAIL)
        .unwrap_or((shown.len(), bytes.len()));
    (shown.split_off(cut), start)
}

/// A character of the original.
#[derive(Clone, Copy)]
struct Piece {
    c: char,
    escaped: bool,
    /// How many bytes of the original it stands for.
    raw: usize,
}

impl Piece {
    fn show(self, out: &mut String) {
        if self.escaped {
            out.extend(self.c.escape_unicode());
        } else {
            out.push(self.c);
        }
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece> + '_ {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid();
        let mut before = None;
        let characters = valid.char_indices().map(move |(at, c)| {
            let escaped = !is_harmless(c) || is_order(before, &valid[at..]);
            before = Some(c);
            Piece { c, escaped, raw: c.len_utf8() }
        });
        let invalid = chunk.invalid().len();
        let broken = (invalid > 0).then_some(Piece {
            c: char::REPLACEMENT_CHARACTER,
            escaped: false,
            raw: invalid,
        });
        characters.chain(broken)
    })
}

/// Whether a character may be shown as it is.
fn is_harmless(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        // Turn the direction of writing ("Trojan Source", CVE-2021-42574), or end a line in the eyes of some.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Invisible. The joiners U+200C and U+200D, invisible too, are parts of words.
        | '\u{ad}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        // No characters at all; so are the last two of each plane, of which XML 1.0 forbids the first plane's.
        | '\u{fdd0}'..='\u{fdef}' => false,
        c => !c.is_control() && u32::from(c) & 0xfffe != 0xfffe,
    }
}

/// Whether `rest` starts with what a reader of reports or logs would obey. Every such order is ASCII, so none spans
/// bytes that are not UTF-8.
fn is_order(before: Option<char>, rest: &str) -> bool {
    let letters = |text: &'static str| {
        rest.strip_prefix(text)
            .map(|after| after.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '-'))
    };
    match rest.as_bytes() {
        // The end of a CDATA section.
        [b']', b']', b'>', ..] => true,
        // GitLab and Jenkins publish files that a test's output names: `[[ATTACHMENT|/etc/passwd]]`.
        [b'[', b'[', ..] => letters("[[").is_some_and(|after| after.starts_with('|')),
        // Azure (`##vso[task.complete result=Succeeded]`, `##[error]`) and TeamCity (`##teamcity[…]`).
        [b'#', b'#', ..] => letters("##").is_some_and(|after| after.starts_with('[')),
        // GitHub, at the start of a line: `::error file=…::…`. Not the address `::1`, nor `std::io`.
        [b':', b':', c, ..]
            if c.is_ascii_alphabetic() && before.is_none_or(char::is_whitespace) =>
        {
            letters("::").is_some_and(|after| after.starts_with(' ') || after.starts_with("::"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        Untrusted::new(text).as_str().to_owned()
    }

    /// XML 1.0 §2.2, less the control characters that it allows, but nobody wants to see.
    fn is_xml_char(c: char) -> bool {
        matches!(c, '\n' | '\t' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    }

    #[test]
    fn what_a_guest_may_write_and_what_is_shown() {
        let table = [
            ("plain text\n\tand more ✓ 中文 é", "plain text\n\tand more ✓ 中文 é"),
            ("\0\x07\x08\x1b[2J\r\n\x7f", "\\u{0}\\u{7}\\u{8}\\u{1b}[2J\\u{d}\n\\u{7f}"),
            ("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m"),
            ("\u{202e}txt\u{2066}\u{200f}", "\\u{202e}txt\\u{2066}\\u{200f}"),
            ("a\u{2028}b\u{2029}c\u{feff}d\u{200b}", "a\\u{2028}b\\u{2029}c\\u{feff}d\\u{200b}"),
            ("\u{fffe}\u{ffff}\u{1fffe}\u{fdd0}", "\\u{fffe}\\u{ffff}\\u{1fffe}\\u{fdd0}"),
            ("x]]>y]]]>]]", "x\\u{5d}]>y]\\u{5d}]>]]"),
            ("[[ATTACHMENT|/etc/passwd]]", "\\u{5b}[ATTACHMENT|/etc/passwd]]"),
            ("[[ -f x ]] [[[bin]]", "[[ -f x ]] [[[bin]]"),
            (
                "##vso[task.complete] ###[x] ##teamcity[y",
                "\\u{23}#vso[task.complete] #\\u{23}#[x] \\u{23}#teamcity[y",
            ),
            ("## a title", "## a title"),
            (
                "::error file=a::b\n  ::add-mask::x",
                "\\u{3a}:error file=a::b\n  \\u{3a}:add-mask::x",
            ),
            (
                "to ::1 and std::io::Error and ::ffff:127.0.0.1",
                "to ::1 and std::io::Error and ::ffff:127.0.0.1",
            ),
            ("\\u{1b}", "\\u{1b}"),
        ];
        for (written, seen) in table {
            assert_eq!(shown(written), seen, "{written:?}");
        }
        assert_eq!(Untrusted::new(b"a\xff\xc3(\xf0\x9f").as_str(), "a\u{fffd}\u{fffd}(\u{fffd}");
    }

    #[test]
    fn a_long_text_keeps_head_and_tail() {
        let long = Untrusted::new(format!("start{}end", "é".repeat(CAP)));
        assert!(long.as_str().len() <= CAP);
        let lines: Vec<_> = long.as_str().lines().collect();
        assert!(lines[0].starts_with("starté"), "{}", &lines[0][..8]);
        assert!(lines[2].starts_with("…é") && lines[2].ends_with("éend"));

        let kept = lines[0].len() + lines[2].len() - "…".len();
        let cut = "startend".len() + "é".len() * CAP - kept;
        assert_eq!(lines[1], format!("… {cut} bytes cut …"));
    }

    #[test]
    fn a_text_of_exactly_the_cap_is_whole_and_one_byte_more_is_cut() {
        let whole = "x".repeat(CAP);
        assert_eq!(Untrusted::new(&whole).as_str(), whole);
        assert!(shown(&format!("{whole}x")).contains(" bytes cut …\n"));
    }

    #[test]
    fn escapes_count_towards_the_cap() {
        let hostile = Untrusted::new(vec![0x1b; CAP]);
        assert!(hostile.as_str().len() <= CAP);
        assert!(hostile.as_str().ends_with("\\u{1b}"));
    }

    #[test]
    fn a_cut_does_not_move_an_order_to_the_start_of_a_line() {
        let hostile = shown(&"x::error::y".repeat(CAP));
        assert!(hostile.lines().all(|line| !line.trim_start().starts_with("::")));
    }

    #[test]
    fn one_line_is_bounded_in_columns() {
        let text = Untrusted::new("one\ntwo\tthree 中文");
        let table = [
            (0, ""),
            (1, "…"),
            (4, "one…"),
            (5, "one⏎…"),
            (14, "one⏎two three…"),
            (15, "one⏎two three …"),
            (16, "one⏎two three …"),
            (17, "one⏎two three 中…"),
            (18, "one⏎two three 中文"),
            (80, "one⏎two three 中文"),
        ];
        for (max, line) in table {
            assert_eq!(text.one_line(max), line, "{max}");
        }
        assert!(Untrusted::new("\u{301}".repeat(CAP)).one_line(10).len() < 100);
    }

    /// Any bytes, and those that are most likely to hurt, long enough to be cut now and then.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<[u8; 3]>().prop_map(|b| b.to_vec()),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            "[\\[\\]<>&#:!|\\-a-z \n\t]{0,6}".prop_map(String::into_bytes),
            Just(b"]]>".to_vec()),
            Just(b" ::error x".to_vec()),
            Just(b"\x1b[31m".to_vec()),
            Just("\u{202e}".as_bytes().to_vec()),
        ];
        let times = prop_oneof![9 => Just(1_usize), 1 => 1..8_000_usize];
        (prop::collection::vec(piece, 0..40), times)
            .prop_map(|(pieces, times)| pieces.concat().repeat(times))
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_harmless(bytes in hostile(), max in 0..200_usize) {
            let text = Untrusted::new(&bytes);
            prop_assert!(text.as_str().chars().all(is_xml_char));
            prop_assert!(!text.as_str().contains("]]>"));
            prop_assert!(text.as_str().len() <= CAP);
            prop_assert!(text.as_str().lines().all(|line| !line.trim_start().starts_with("::error ")));

            let again = Untrusted::new(text.as_str());
            prop_assert_eq!(again.as_str(), text.as_str());

            let line = text.one_line(max);
            prop_assert!(width(&line) <= max);
            prop_assert!(!line.contains(['\n', '\t']));
        }
    }
}
