//! What a client names as its destination, in one spelling only.

use std::fmt;
use std::net::IpAddr;

use url::Host as UrlHost;

/// A destination's host: a name of lower-case A-labels without a trailing dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name.
    Name(String),
    /// An address, however it was spelled; never an IPv4-mapped one.
    Ip(IpAddr),
}

impl Host {
    /// Reads a host as a URL's would be read (WHATWG), so that `127.1`, `0x7f000001` and full-width digits are the address
    /// that a client would dial. An IPv6 address stands in brackets. None: it is no host, or one that hides what it is
    /// (percent-encoding, a zone, user information).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 1024 || text.contains(['%', '@', '/', '\\', '?', '#']) {
            return None;
        }
        match UrlHost::parse(text).ok()? {
            UrlHost::Ipv4(ip) => Some(Self::Ip(ip.into())),
            UrlHost::Ipv6(ip) => Some(Self::Ip(IpAddr::V6(ip).to_canonical())),
            UrlHost::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                is_name(name).then(|| Self::Name(name.to_owned()))
            }
        }
    }
}

/// Labels of letters, digits, `-` and `_` as DNS takes them.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Splits `host:port`; `default` is for a text without a port, and none means that it must have one.
pub(crate) fn authority(text: &str, default: Option<u16>) -> Option<(Host, u16)> {
    let colon = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = match colon {
        Some(at) => {
            let digits = &text[at + 1..];
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            (&text[..at], digits.parse().ok().filter(|port| *port != 0)?)
        }
        None => (text, default?),
    };
    Some((Host::parse(host)?, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_is_the_same_host() {
        for (text, expected) in [
            ("A.Test", "a.test"),
            ("a.test.", "a.test"),
            ("b\u{fc}cher.test", "xn--bcher-kva.test"),
            ("127.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("017700000001", "127.0.0.1"),
            ("0177.0.0.01", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("\u{ff11}\u{ff12}\u{ff17}.0.0.1", "127.0.0.1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("[::ffff:7f00:1]", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
        ] {
            assert_eq!(
                Host::parse(text).map(|host| host.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_hides_what_it_is_is_no_host() {
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "..",
            "a..test",
            "a%2etest",
            "u@a.test",
            "[fe80::1%25lo]",
            "::1",
            "1.2.3.4.5",
            "a.0x7f",
            "a b.test",
            "a\0.test",
            "a\n.test",
            "256.1.1.1",
            "[::1",
            "*.a.test",
            &long,
        ] {
            assert_eq!(Host::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_is_decimal_and_not_zero() {
        let parse = |text| authority(text, None).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parse("a.test:443").as_deref(), Some("a.test 443"));
        assert_eq!(parse("[::1]:8").as_deref(), Some("[::1] 8"));
        for wrong in [
            "a.test",
            "a.test:",
            "a.test:0",
            "a.test:+80",
            "a.test:65536",
            "[::1]",
            "u@a.test:1",
            "::1:443",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_what_was_read_changes_nothing(text in "\\PC{0,40}|[a-z0-9.\\-\\[\\]:x%@]{0,30}") {
            if let Some(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Some(host));
            }
        }
    }
}
