//! A daemon's output as lines that cannot harm whoever reads them.

use std::fmt::Write as _;

/// The longest line of the log in bytes, name, note and line feed included.
pub(crate) const MAX_LINE: usize = 16 * 1024;
/// What is left of [`MAX_LINE`] for the text: names have at most 32 bytes, the note about a cut at most 40.
const MAX_TEXT: usize = MAX_LINE - 80;
/// A buffer that has grown beyond this is given back once its line is done.
const KEEP: usize = 1024;

/// Splits a stream of bytes into lines and keeps the beginning of the unfinished one.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// Bytes of the unfinished line that were thrown away.
    cut: u64,
}

impl Lines {
    /// Takes `bytes` and hands every finished line on, with the number of its bytes that were thrown away.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8], u64)) {
        let mut pieces = bytes.split(|&byte| byte == b'\n');
        let unfinished = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            if self.held.is_empty() && self.cut == 0 && piece.len() <= MAX_TEXT {
                line(piece, 0);
            } else {
                self.hold(piece);
                self.finish(&mut line);
            }
        }
        self.hold(unfinished);
    }

    /// Hands on what is held, if anything is: no line feed will follow.
    pub(crate) fn end(&mut self, line: impl FnMut(&[u8], u64)) {
        if !self.held.is_empty() || self.cut > 0 {
            self.finish(line);
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(MAX_TEXT - self.held.len());
        self.held.extend_from_slice(&bytes[..room]);
        self.cut += (bytes.len() - room) as u64;
    }

    fn finish(&mut self, mut line: impl FnMut(&[u8], u64)) {
        line(&self.held, self.cut);
        self.held.clear();
        self.cut = 0;
        if self.held.capacity() > KEEP {
            self.held = Vec::new();
        }
    }
}

/// Appends a line as it may be shown: UTF-8, control characters and those that reorder text escaped, cut so that
/// the whole fits into [`MAX_LINE`]. `cut` bytes of it are missing already.
pub(crate) fn render(line: &[u8], cut: u64, out: &mut String) {
    let line = if cut == 0 { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    let limit = out.len() + MAX_TEXT;
    let mut rest = line.len();
    'line: for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !push(c, limit, out) {
                break 'line;
            }
            rest -= c.len_utf8();
        }
        let invalid = chunk.invalid();
        let cut_in_two = cut > 0 && invalid.len() == rest;
        if !invalid.is_empty() && (cut_in_two || !push(char::REPLACEMENT_CHARACTER, limit, out)) {
            break;
        }
        rest -= invalid.len();
    }
    let cut = cut + rest as u64;
    if cut > 0 {
        let _ = write!(out, "… [{cut} bytes cut]");
    }
}

/// Appends one character, unless `out` would grow beyond `limit` bytes.
fn push(c: char, limit: usize, out: &mut String) -> bool {
    let before = out.len();
    match c {
        '\t' => out.push(c),
        c if c.is_ascii_control() => drop(write!(out, "\\x{:02x}", u32::from(c))),
        // Line and paragraph separators; marks, embeddings, overrides and isolates of the bidirectional algorithm
        // (Unicode Standard Annex 9), with which a line can be made to read as another; tags, which are invisible.
        '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => drop(write!(out, "{}", c.escape_unicode())),
        c if c.is_control() => drop(write!(out, "{}", c.escape_unicode())),
        c => out.push(c),
    }
    let fits = out.len() <= limit;
    if !fits {
        out.truncate(before);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(line: &[u8], cut: u64) -> String {
        let mut out = String::new();
        render(line, cut, &mut out);
        out
    }

    /// The lines that come out when `bytes` go in by pieces of `step` bytes.
    fn lines(bytes: &[u8], step: usize) -> Vec<(Vec<u8>, u64)> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for piece in bytes.chunks(step) {
            lines.feed(piece, |line, cut| seen.push((line.to_vec(), cut)));
        }
        lines.end(|line, cut| seen.push((line.to_vec(), cut)));
        seen
    }

    #[test]
    fn lines_are_the_same_whatever_the_pieces() {
        let mut bytes = b"one\n\ntwo\r\n".to_vec();
        bytes.extend(vec![b'x'; MAX_TEXT + 3]);
        bytes.extend(b"\n\xff\x00\nunfinished");
        let whole = lines(&bytes, bytes.len());
        let expected: [(Vec<u8>, u64); 6] = [
            (b"one".to_vec(), 0),
            (Vec::new(), 0),
            (b"two\r".to_vec(), 0),
            (vec![b'x'; MAX_TEXT], 3),
            (b"\xff\x00".to_vec(), 0),
            (b"unfinished".to_vec(), 0),
        ];
        assert_eq!(whole, expected);
        for step in [1, 2, 3, 7, 4096] {
            assert_eq!(lines(&bytes, step), whole, "step {step}");
        }
        assert_eq!(lines(b"", 1), []);
        assert_eq!(lines(b"\n", 1), [(Vec::new(), 0)]);
    }

    #[test]
    fn a_long_line_leaves_no_memory_behind() {
        let mut lines = Lines::default();
        lines.feed(&vec![b'x'; 1 << 20], |_, _| panic!("no line is finished"));
        assert!(lines.held.len() <= MAX_TEXT);
        lines.feed(b"\n", |_, cut| assert_eq!(cut, (1 << 20) - MAX_TEXT as u64));
        assert_eq!(lines.held.capacity(), 0);
    }

    #[test]
    fn what_could_harm_is_escaped() {
        assert_eq!(rendered("plain äöü\t🍾".as_bytes(), 0), "plain äöü\t🍾");
        assert_eq!(rendered(b"\x00\x1b[2J\x7f\rx\r", 0), r"\x00\x1b[2J\x7f\x0dx");
        assert_eq!(rendered("\u{9b}2J\u{202e}\u{2028}".as_bytes(), 0), r"\u{9b}2J\u{202e}\u{2028}");
        assert_eq!(rendered(b"a\xff\xfeb\xc3", 0), "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn a_cut_line_says_so_and_never_exceeds_the_limit() {
        assert_eq!(rendered(b"ab", 7), "ab… [7 bytes cut]");
        assert_eq!(
            rendered(b"ab\xc3", 7),
            "ab… [8 bytes cut]",
            "a character cut in two is cut whole"
        );
        let nuls = rendered(&[0; MAX_TEXT], 1);
        assert!(nuls.starts_with(r"\x00\x00") && nuls.len() < MAX_TEXT + 45, "{}", nuls.len());
        assert!(nuls.ends_with(&format!("… [{} bytes cut]", 1 + MAX_TEXT - MAX_TEXT / 4)));
        let longest = rendered(&[b'x'; MAX_TEXT], u64::MAX - 1);
        assert!(longest.len() + 32 + " | \n".len() <= MAX_LINE, "{}", longest.len());
    }
}
