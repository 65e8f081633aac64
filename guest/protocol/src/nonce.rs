//! The token whose arrival at a witness is the evidence of a leak.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Every nonce starts with these bytes, so that a witness can find one in any payload: a raw datagram, an HTTP
/// header or a DNS label.
pub const PREFIX: &str = "cb0n";
/// How many hexadecimal digits follow the [`PREFIX`]: 112 bits.
pub const DIGITS: usize = 28;
/// The length of a nonce in bytes: 32, short enough for one DNS label (63, RFC 1035 §2.3.4).
pub const LEN: usize = PREFIX.len() + DIGITS;

/// One attempt's own token: `cb0n` and 28 lower-case hexadecimal digits.
///
/// ```
/// use claude_bottle_protocol::Nonce;
/// let nonce = Nonce::from_bits(42);
/// assert_eq!(nonce.as_str().len(), 32);
/// let payload = format!("GET /{} HTTP/1.1", nonce.as_str().to_uppercase());
/// assert_eq!(Nonce::scan(payload.as_bytes()).next(), Some(nonce));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    /// The nonce made of the lowest 112 bits of `bits`.
    pub fn from_bits(bits: u128) -> Self {
        let digits = format!("{bits:032x}");
        Self(format!("{PREFIX}{}", &digits[32 - DIGITS..]))
    }

    /// The nonce as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Every nonce in `payload`, whatever surrounds it and in either case: resolvers may change the case of a
    /// name on its way ("0x20 encoding").
    pub fn scan(payload: &[u8]) -> impl Iterator<Item = Self> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            while at + LEN <= payload.len() {
                let window = &payload[at..at + LEN];
                if let Some(nonce) = Self::parse(window) {
                    at += LEN;
                    return Some(nonce);
                }
                at += 1;
            }
            None
        })
    }

    fn parse(window: &[u8]) -> Option<Self> {
        let (prefix, digits) = window.split_at_checked(PREFIX.len())?;
        let whole = digits.len() == DIGITS
            && prefix.eq_ignore_ascii_case(PREFIX.as_bytes())
            && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(window).ok().filter(|_| whole)?;
        Some(Self(text.to_ascii_lowercase()))
    }
}

/// How many bytes of a stream are searched for nonces; the rest is not looked at.
const SEARCHED: usize = 256 * 1024;

/// Finds the nonces in a stream that comes in pieces, each once.
#[derive(Debug, Default)]
pub struct Search {
    /// The end of what has come, in case a nonce was cut in two: one byte short of one, so that none is found twice.
    tail: Vec<u8>,
    searched: usize,
}

impl Search {
    /// The nonces that end in the next piece, and the text that they were found in: that piece, behind the end of those before it.
    pub fn take(&mut self, bytes: &[u8]) -> (Vec<Nonce>, Vec<u8>) {
        if self.searched > SEARCHED {
            return (Vec::new(), Vec::new());
        }
        self.searched += bytes.len();
        let mut text = std::mem::take(&mut self.tail);
        text.extend_from_slice(bytes);
        self.tail = text[text.len().saturating_sub(LEN - 1)..].to_vec();
        (Nonce::scan(&text).collect(), text)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

/// The text is not `cb0n` and 28 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotANonce;

impl fmt::Display for NotANonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a nonce: {PREFIX} and {DIGITS} hexadecimal digits are")
    }
}

impl std::error::Error for NotANonce {}

impl TryFrom<String> for Nonce {
    type Error = NotANonce;

    fn try_from(text: String) -> Result<Self, NotANonce> {
        text.parse()
    }
}

impl FromStr for Nonce {
    type Err = NotANonce;

    fn from_str(text: &str) -> Result<Self, NotANonce> {
        Self::parse(text.as_bytes()).ok_or(NotANonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_searched_whatever_it_is_cut_into_and_to_its_bound() {
        let (a, b) = (Nonce::from_bits(1), Nonce::from_bits(2));
        let stream = format!("{a}{b} and {a}").into_bytes();
        for size in 1..=stream.len() {
            let mut search = Search::default();
            let found = stream.chunks(size).flat_map(|piece| search.take(piece).0);
            assert_eq!(found.collect::<Vec<_>>(), [a.clone(), b.clone(), a.clone()], "{size}");
        }
        let mut search = Search::default();
        assert_eq!(search.take(&vec![0; SEARCHED + 1]).0, []);
        assert_eq!(search.take(&stream).0, []);
    }

    #[test]
    fn a_payload_may_hold_several_and_broken_ones() {
        let (a, b) = (Nonce::from_bits(1), Nonce::from_bits(u128::MAX));
        let mut payload = format!("cb0n12 {a}{b} cb0n").into_bytes();
        payload.insert(0, 0xff);
        assert_eq!(Nonce::scan(&payload).collect::<Vec<_>>(), [a, b]);
        assert_eq!(Nonce::scan(b"").next(), None);
        assert_eq!(Nonce::scan(&[b'c'; 31]).next(), None);
    }

    #[test]
    fn text_that_is_no_nonce_is_refused() {
        let good = Nonce::from_bits(7).to_string();
        assert_eq!(good.parse::<Nonce>().map(String::from), Ok(good.clone()));
        for bad in ["", "cb0n", &good[1..], &format!("{good}0"), &good.replace('0', "g")] {
            assert_eq!(bad.parse::<Nonce>(), Err(NotANonce), "{bad}");
        }
    }
}
