//! The nearest right word to one that a person wrote.

use std::fmt;

/// Longer words than this are no misspelling of ours; comparing them would only cost time.
const LONGEST: usize = 64;
/// How many near words [`near`] lists at most.
const MOST: usize = 3;
/// How many right words a [`Suggestion`] shows where none is near.
const LISTED: usize = 16;
/// How much of a word [`quote`] shows, in characters.
const SHOWN: usize = 60;

/// The nearest of the right words, if one is near.
///
/// ```
/// use claude_bottle::nearest::nearest;
/// assert_eq!(nearest("contaned", ["contained", "reached"]), Some("contained"));
/// assert_eq!(nearest("Proven_By", ["proven-by", "needs"]), Some("proven-by"));
/// assert_eq!(nearest("blue", ["contained", "reached"]), None);
/// ```
pub fn nearest<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(word, right).into_iter().next()
}

/// The right words near to `word`, the nearest first, three at most.
///
/// Near is a misspelling: a third of its letters differ or are swapped (one at least may). Behind those come
/// words that contain it or are contained in it (three letters or more), or of which one part is spelled much like it
/// (`lopback` and `loopback-reach`, four letters or more). Case does not count, and `_` is as good as `-`.
pub fn near<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word = folded(word);
    let length = word.chars().count();
    if length == 0 || length > LONGEST {
        return Vec::new();
    }
    let mut near: Vec<(usize, &str)> = right
        .into_iter()
        .filter_map(|candidate| {
            let right = folded(candidate);
            if let Some(distance) = misspelling(&word, &right) {
                return Some((distance, candidate));
            }
            let shorter = length.min(right.chars().count());
            let within = shorter >= 3 && (right.contains(&word) || word.contains(&right));
            let part = || {
                let mut parts = right.split('-').filter(|part| part.len() >= 4);
                length >= 4 && parts.any(|part| misspelling(&word, part).is_some())
            };
            (within || part()).then(|| (LONGEST + strsim::osa_distance(&word, &right), candidate))
        })
        .collect();
    // Stable: words equally near stay in the order in which they are declared.
    near.sort_by_key(|&(distance, _)| distance);
    near.into_iter().map(|(_, candidate)| candidate).take(MOST).collect()
}

/// How many letters are wrong, if it is only a few.
fn misspelling(word: &str, right: &str) -> Option<usize> {
    let longest = word.chars().count().max(right.chars().count());
    let distance = strsim::osa_distance(word, right);
    (distance <= (longest / 3).max(1) && distance < longest).then_some(distance)
}

fn folded(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

/// What to write instead of a wrong word: the nearest right one, or else all right ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suggestion {
    /// These are near, the nearest first; never empty.
    DidYouMean(Vec<String>),
    /// None is near; these are right.
    OneOf(Vec<String>),
}

impl Suggestion {
    /// The nearest word to `word`, or else all that are right.
    pub fn new<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Self {
        let mut suggestion = Self::several(word, right);
        if let Self::DidYouMean(near) = &mut suggestion {
            near.truncate(1);
        }
        suggestion
    }

    /// The words near to `word`, or else all that are right.
    pub fn several<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Self {
        let right: Vec<&str> = right.into_iter().collect();
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
        match near(word, right.iter().copied()) {
            near if near.is_empty() => Self::OneOf(owned(right)),
            near => Self::DidYouMean(owned(near)),
        }
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |words: &[String], between| {
            words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(between)
        };
        match self {
            Self::DidYouMean(near) => write!(f, "did you mean {}?", quoted(near, " or ")),
            Self::OneOf(right) => match right.as_slice() {
                [] => f.write_str("there is none"),
                [_] => write!(f, "expected {}", quoted(right, "")),
                [..] if right.len() <= LISTED => {
                    write!(f, "expected one of {}", quoted(right, ", "))
                }
                [..] => {
                    let (first, all) = (quoted(&right[..LISTED], ", "), right.len());
                    write!(f, "expected one of {first}, … ({all} in all)")
                }
            },
        }
    }
}

/// A word that is none of the right ones.
///
/// ```
/// use claude_bottle::nearest::UnknownWord;
/// let unknown = UnknownWord::new("site", "bundel", ["bundle", "host-loopback"]);
/// assert_eq!(unknown.to_string(), "unknown site `bundel`, did you mean `bundle`?");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {}, {suggestion}", quote(word))]
pub struct UnknownWord {
    /// What kind of word was wanted: `site`, `key`, `breach`, …
    pub what: &'static str,
    /// The word as it was written.
    pub word: String,
    /// What to write instead.
    pub suggestion: Suggestion,
}

impl UnknownWord {
    /// `word` is no `what`, but the `right` words are.
    pub fn new<'a>(
        what: &'static str,
        word: &str,
        right: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self { what, word: word.to_owned(), suggestion: Suggestion::new(word, right) }
    }
}

/// `text` in backquotes, fit for one line of a terminal: control characters escaped, cut after 60 characters.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    for (at, character) in text.chars().enumerate() {
        if at == SHOWN {
            quoted.push('…');
            break;
        }
        push_visible(&mut quoted, character);
    }
    quoted.push('`');
    quoted
}

/// Adds `character` so that it shows and does nothing: no control character, no change of direction (U+202E and the
/// like, CVE-2021-42574).
pub(crate) fn push_visible(text: &mut String, character: char) {
    let steers = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if character.is_control() || steers {
        text.extend(character.escape_default());
    } else {
        text.push(character);
    }
}

/// A text as one line that steers no terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::new();
    text.chars().for_each(|character| push_visible(&mut shown, character));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 6] =
        ["bundle", "host-loopback", "real-loopback", "host-gateway", "tcp", "udp"];

    #[test]
    fn misspellings_find_their_word() {
        for (word, right) in [
            ("bundel", "bundle"),
            ("BUNDLE", "bundle"),
            ("host_loopback", "host-loopback"),
            ("hostloopback", "host-loopback"),
            ("rael-loopback", "real-loopback"),
            ("tpc", "tcp"),
            ("tcpp", "tcp"),
        ] {
            assert_eq!(nearest(word, WORDS), Some(right), "{word}");
        }
    }

    #[test]
    fn words_far_from_all_find_none() {
        for word in ["", "x", "zz", "internet", "metadata", "💣", &"tcp".repeat(1000)] {
            assert_eq!(nearest(word, WORDS), None, "{word}");
        }
        assert_eq!(nearest("anything", []), None);
    }

    #[test]
    fn a_word_within_another_comes_after_misspellings() {
        assert_eq!(near("loopback", WORDS), ["host-loopback", "real-loopback"]);
        assert_eq!(near("lopback", WORDS), ["host-loopback", "real-loopback"]);
        assert_eq!(near("bundle-egress", WORDS), ["bundle"]);
        assert_eq!(near("ab", ["xyab", "ac"]), ["ac"], "two letters are within too many words");
    }

    #[test]
    fn suggestions_read_as_sentences() {
        assert_eq!(Suggestion::new("q", ["a-b"]).to_string(), "expected `a-b`");
        assert_eq!(
            Suggestion::new("q", ["abc", "def"]).to_string(),
            "expected one of `abc`, `def`"
        );
        assert_eq!(Suggestion::new("q", []).to_string(), "there is none");
        let several = Suggestion::several("loopback", WORDS).to_string();
        assert_eq!(several, "did you mean `host-loopback` or `real-loopback`?");
        let many = Suggestion::new("q", ["word"; 17]).to_string();
        assert!(many.ends_with("`word`, … (17 in all)"), "{many}");
    }

    #[test]
    fn quotes_show_what_is_there_and_no_more() {
        assert_eq!(quote("a\u{1b}[31m\n\u{202e}b"), r"`a\u{1b}[31m\n\u{202e}b`");
        assert_eq!(quote("").len(), 2);
        assert_eq!(quote(&"é".repeat(100)).chars().count(), SHOWN + 3);
    }
}
