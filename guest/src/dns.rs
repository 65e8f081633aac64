//! As much of DNS (RFC 1035) as a look-up of one IPv4 address takes: a static program has no resolver of its own.

use std::net::{IpAddr, Ipv4Addr};

/// The length of a message's header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// The longest label (§2.3.4).
const LONGEST_LABEL: usize = 63;
/// The longest name as it is written in a message (§2.3.4).
const LONGEST_NAME: usize = 255;
/// `QTYPE` A and `QCLASS` IN.
const A_IN: [u8; 4] = [0, 1, 0, 1];
/// `QTYPE` AAAA (RFC 3596) and `QCLASS` IN.
const AAAA_IN: [u8; 4] = [0, 28, 0, 1];

/// Which addresses a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

/// A query for one name's IPv4 addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Copied into the answer.
    pub(crate) id: u16,
    /// The name, without a dot at its end.
    pub(crate) name: String,
}

impl Query {
    /// The query as a message; none for a name that DNS cannot have.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut message = header(self.id, 0x0100, 0);
        self.encode_question(&mut message)?;
        Some(message)
    }

    fn encode_question(&self, message: &mut Vec<u8>) -> Option<()> {
        let begin = message.len();
        for label in self.name.split('.') {
            let length = u8::try_from(label.len()).ok()?;
            if label.is_empty() || label.len() > LONGEST_LABEL {
                return None;
            }
            message.push(length);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        if message.len() - begin > LONGEST_NAME {
            return None;
        }
        message.extend_from_slice(&A_IN);
        Some(())
    }

    /// Reads a message that is a query for addresses.
    pub(crate) fn decode(message: &[u8]) -> Option<(Self, Kind)> {
        let (id, flags, counts) = read_header(message)?;
        // Not an answer, and of the standard kind.
        if flags & 0xf800 != 0 || counts[0] != 1 {
            return None;
        }
        let (name, end) = read_question(message)?;
        let asked: [u8; 4] = message.get(end..end + 4)?.try_into().ok()?;
        let kind = match asked {
            A_IN => Kind::A,
            AAAA_IN => Kind::Aaaa,
            _ => return None,
        };
        Some((Self { id, name }, kind))
    }

    /// The answer to a query of this kind, to be forgotten at once: the address if it is of that kind, else that there is
    /// none.
    pub(crate) fn answer(&self, kind: Kind, address: IpAddr) -> Option<Vec<u8>> {
        let (asked, data) = match (kind, address) {
            (Kind::A, IpAddr::V4(v4)) => (A_IN, v4.octets().to_vec()),
            (Kind::Aaaa, IpAddr::V6(v6)) => (AAAA_IN, v6.octets().to_vec()),
            (Kind::A, IpAddr::V6(_)) => (A_IN, Vec::new()),
            (Kind::Aaaa, IpAddr::V4(_)) => (AAAA_IN, Vec::new()),
        };
        // An answer, authoritative, recursion desired and available.
        let mut message = header(self.id, 0x8580, u16::from(!data.is_empty()));
        self.encode_question(&mut message)?;
        let end = message.len();
        message[end - asked.len()..].copy_from_slice(&asked);
        if !data.is_empty() {
            // The name is the one in the question (§4.1.4).
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&asked);
            message.extend_from_slice(&0_u32.to_be_bytes());
            message.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
            message.extend_from_slice(&data);
        }
        Some(message)
    }

    /// The addresses in `message` if it answers this query; none if it answers another one, or says that it failed.
    pub(crate) fn answered_by(&self, message: &[u8]) -> Option<Vec<Ipv4Addr>> {
        let (id, flags, [questions, answers, ..]) = read_header(message)?;
        let (is_answer, code) = (flags & 0x8000 != 0, flags & 0x000f);
        if id != self.id || !is_answer || code != 0 || questions != 1 {
            return None;
        }
        let (name, end) = read_question(message)?;
        if !name.eq_ignore_ascii_case(&self.name) {
            return None;
        }
        let mut at = end + 4;
        let mut addresses = Vec::new();
        for _ in 0..answers {
            at = skip_name(message, at)?;
            let fixed = message.get(at..at + 10)?;
            let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            let data = message.get(at + 10..at + 10 + length)?;
            if let (true, Ok(octets)) = (fixed[..4] == A_IN, <[u8; 4]>::try_from(data)) {
                addresses.push(octets.into());
            }
            at += 10 + length;
        }
        Some(addresses)
    }
}

/// A message as TCP carries it: after its length in two bytes (§4.2.2).
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

/// The first message in `bytes`, if it is there as a whole.
pub(crate) fn unframed(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

fn header(id: u16, flags: u16, answers: u16) -> Vec<u8> {
    [id, flags, 1, answers, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// The id, the flags, and how many questions, answers and other records there are.
fn read_header(message: &[u8]) -> Option<(u16, u16, [u16; 4])> {
    let header = message.get(..HEADER)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some((word(0), word(2), [word(4), word(6), word(8), word(10)]))
}

/// The name in the question and where it ends. A question has no pointers.
fn read_question(message: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return Some((labels.join("."), at)),
            length if length <= LONGEST_LABEL && at - HEADER <= LONGEST_NAME => {
                let label = message.get(at..at + length)?;
                labels.push(std::str::from_utf8(label).ok()?.to_owned());
                at += length;
            }
            _ => return None,
        }
    }
}

/// Where a name that begins at `at` ends; a pointer ends it.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length if length <= LONGEST_LABEL => at += 1 + length,
            pointer if pointer >= 0xc0 => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query { id: 0x1234, name: "cb0n.lab.test".into() }
    }

    #[test]
    fn a_query_is_written_as_the_rfc_says() {
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04cb0n\x03lab\x04test\x00\
                         \x00\x01\x00\x01";
        let message = query().encode().unwrap();
        assert_eq!(message, expected);
        assert_eq!(Query::decode(&message), Some((query(), Kind::A)));
    }

    #[test]
    fn names_that_dns_cannot_have_are_not_asked_for() {
        let long = ["a"; 128].join(".");
        for name in ["", ".", "a..b", &"a".repeat(64), &long] {
            assert_eq!(Query { id: 0, name: name.into() }.encode(), None, "{name}");
        }
        for name in [&*"a".repeat(63), &["a"; 127].join(".")] {
            assert!(Query { id: 0, name: name.into() }.encode().is_some(), "{name}");
        }
    }

    #[test]
    fn an_answer_belongs_to_its_query() {
        let address = Ipv4Addr::new(203, 0, 113, 10);
        let answer = query().answer(Kind::A, address.into()).unwrap();
        assert_eq!(query().answered_by(&answer), Some(vec![address]));
        assert_eq!(Query { id: 1, ..query() }.answered_by(&answer), None);
        assert_eq!(Query { name: "other.test".into(), ..query() }.answered_by(&answer), None);
        assert_eq!(query().answered_by(&query().encode().unwrap()), None, "an echo is no answer");
        assert_eq!(Query::decode(&answer), None);
        let mut refused = answer.clone();
        refused[3] |= 5;
        assert_eq!(query().answered_by(&refused), None);
        let mut other_case = answer;
        other_case[HEADER + 1] = b'C';
        assert_eq!(query().answered_by(&other_case), Some(vec![address]));
    }

    #[test]
    fn who_asks_for_the_other_kind_of_address_is_told_that_there_is_none() {
        let v6: IpAddr = "64:ff9b::cb00:710a".parse().unwrap();
        let told = |kind, address| query().answer(kind, address).unwrap();
        assert_eq!(query().answered_by(&told(Kind::A, v6)), Some(Vec::new()));
        let answer = told(Kind::Aaaa, v6);
        assert!(
            answer.ends_with(&[
                0, 16, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0xcb, 0, 0x71, 10
            ])
        );
        let none = told(Kind::Aaaa, Ipv4Addr::LOCALHOST.into());
        assert_eq!(none[6..8], [0, 0], "no answer in it");
    }

    #[test]
    fn whatever_is_cut_short_is_no_message() {
        let answer = query().answer(Kind::A, Ipv4Addr::LOCALHOST.into()).unwrap();
        for end in 0..answer.len() {
            assert_eq!(query().answered_by(&answer[..end]), None, "{end}");
        }
        let asked = query().encode().unwrap();
        for end in 0..asked.len() {
            assert_eq!(Query::decode(&asked[..end]), None, "{end}");
        }
        // Any single byte may be anything: no panic.
        for at in 0..answer.len() {
            for byte in [0, 1, 63, 64, 0xc0, 0xff] {
                let mut broken = answer.clone();
                broken[at] = byte;
                let _ = (query().answered_by(&broken), Query::decode(&broken));
            }
        }
    }

    #[test]
    fn over_tcp_a_message_comes_after_its_length() {
        let bytes = framed(b"abc");
        assert_eq!(bytes, b"\0\x03abc");
        assert_eq!(unframed(&bytes), Some(&b"abc"[..]));
        assert_eq!(unframed(b"\0\x03abcdef"), Some(&b"abc"[..]));
        for short in [&b""[..], b"\0", b"\0\x03ab"] {
            assert_eq!(unframed(short), None);
        }
    }
}
