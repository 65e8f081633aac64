//! What a host is that a person wrote.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::nearest::quote;

/// The longest name in characters, without a final dot (RFC 1035, section 2.3.4, less the root and its length).
const LONGEST_NAME: usize = 253;
/// The longest part of a name in characters (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// A host, or several, as an allow-list names them.
///
/// Ordered as a list shows them: names, wildcards, addresses, ranges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// One name.
    Name(Name),
    /// Every name that ends in a dot and this one, but not this one itself: `*.example.com`.
    Wildcard(Name),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// A range of addresses, none of its host bits set.
    Net(IpNet),
}

/// A host's name as it goes over the wire: lower case, A-labels, no final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Wildcard(name) => f.pad(&format!("*.{name}")),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => address.fmt(f),
            Self::Net(net) => f.pad(&net.to_string()),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotAHost {
    /// There is nothing.
    #[error("a host is missing")]
    Empty,
    /// It has more than a host: a scheme, a port, a user, a path, brackets.
    #[error("{} has {what}{}", quote(text), instead(better.as_ref()))]
    More {
        /// The text.
        text: String,
        /// What it has besides.
        what: &'static str,
        /// The host alone, if that is one.
        better: Option<String>,
    },
    /// It means an address, but not every reader takes it for the same one.
    #[error("{} is an address in an unusual form{}", quote(text), instead(better.as_ref()))]
    Unusual {
        /// The text.
        text: String,
        /// The address in its usual form.
        better: Option<String>,
    },
    /// It is neither an address nor a range.
    #[error("{} is no address", quote(text))]
    NotAnAddress {
        /// The text.
        text: String,
    },
    /// A range's address is not its first one.
    #[error("{} is no range: bits are set beyond its prefix, did you mean `{first}`?", quote(text))]
    HostBits {
        /// The text.
        text: String,
        /// The range that this address is in.
        first: IpNet,
    },
    /// A range of everything.
    #[error("{} allows every address there is", quote(text))]
    Everything {
        /// The text.
        text: String,
    },
    /// A wildcard that is not the first part of a name.
    #[error("{}: a wildcard is the whole first part of a name, as in `*.example.com`", quote(text))]
    Wildcard {
        /// The text.
        text: String,
    },
    /// A wildcard above a whole top-level domain.
    #[error(
        "{} allows a whole top-level domain; write two parts behind the star at least",
        quote(text)
    )]
    TooWide {
        /// The text.
        text: String,
    },
    /// It is no name.
    #[error("{} is no host name: {why}", quote(text))]
    NotAName {
        /// The text.
        text: String,
        /// Why not.
        why: &'static str,
    },
}

fn instead(better: Option<&String>) -> String {
    better.map(|better| format!(", did you mean {}?", quote(better))).unwrap_or_default()
}

/// What `text` is: a name, a wildcard, an address, or a range of addresses.
///
/// Only the one spelling that every reader understands in the same way is an address: `127.1`, `0x7f000001` and
/// `::ffff:127.0.0.1` are refused. Names are put into the form that goes over the wire.
///
/// ```
/// use claude_bottle::bundle::pipelock::{Host, classify};
/// let text = |text| classify(text).map(|host| host.to_string());
/// assert_eq!(text("Bücher.Example."), Ok("xn--bcher-kva.example".to_owned()));
/// assert!(matches!(classify("*.example.com"), Ok(Host::Wildcard(_))));
/// assert_eq!(
///     text("https://example.com/x").unwrap_err().to_string(),
///     "`https://example.com/x` has a scheme, did you mean `example.com`?",
/// );
/// ```
pub fn classify(text: &str) -> Result<Host, NotAHost> {
    let more = |what, rest: &str| {
        let better = classify(rest).ok().map(|host| host.to_string());
        Err(NotAHost::More { text: text.to_owned(), what, better })
    };
    if text.is_empty() {
        return Err(NotAHost::Empty);
    }
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        let what = "a space or a control character";
        let rest = text.trim();
        return if rest.len() < text.len() { more(what, rest) } else { more(what, "") };
    }
    if let Some((_, rest)) = text.split_once("://") {
        return more("a scheme", rest.split(['/', '?', '#']).next().unwrap_or_default());
    }
    if let Some((_, rest)) = text.rsplit_once('@') {
        return more("a user", rest);
    }
    if let Some((address, _)) = text.split_once('%') {
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => more("a zone", address),
            Err(_) => more("a percent sign", ""),
        };
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        return match bracketed.split_once(']') {
            Some((address, "")) => more("brackets", address),
            Some((address, _)) => more("a port", address),
            None => Err(NotAHost::NotAnAddress { text: text.to_owned() }),
        };
    }
    if let Some((address, prefix)) = text.split_once('/') {
        return match address.parse::<IpAddr>() {
            Ok(address) => range(text, address, prefix).map(Host::Net),
            Err(_) => more("a path", address),
        };
    }
    match text.matches(':').count() {
        0 => {}
        1 => {
            let (host, port) = text.split_once(':').unwrap_or_default();
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
            return more(if is_port { "a port" } else { "a colon" }, host);
        }
        _ => return v6(text),
    }
    if text.contains('*') {
        return wildcard(text);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::V4(address));
    }
    name(text).map(Host::Name)
}

fn v6(text: &str) -> Result<Host, NotAHost> {
    let address: Ipv6Addr =
        text.parse().map_err(|_| NotAHost::NotAnAddress { text: text.to_owned() })?;
    match address.to_ipv4_mapped() {
        Some(mapped) => {
            Err(NotAHost::Unusual { text: text.to_owned(), better: Some(mapped.to_string()) })
        }
        None => Ok(Host::V6(address)),
    }
}

fn range(text: &str, address: IpAddr, prefix: &str) -> Result<IpNet, NotAHost> {
    let not_an_address = || NotAHost::NotAnAddress { text: text.to_owned() };
    let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    // `u8::from_str` takes a sign, and `/08` means something else to some readers.
    if !is_number || (prefix.len() > 1 && prefix.starts_with('0')) {
        return Err(not_an_address());
    }
    let prefix: u8 = prefix.parse().map_err(|_| not_an_address())?;
    let net = match address {
        IpAddr::V4(address) => Ipv4Net::new(address, prefix).map(IpNet::V4),
        IpAddr::V6(address) => Ipv6Net::new(address, prefix).map(IpNet::V6),
    };
    let net = net.map_err(|_| not_an_address())?;
    if prefix == 0 {
        return Err(NotAHost::Everything { text: text.to_owned() });
    }
    if net.trunc() != net {
        return Err(NotAHost::HostBits { text: text.to_owned(), first: net.trunc() });
    }
    if let IpAddr::V6(address) = address
        && address.to_ipv4_mapped().is_some()
    {
        return Err(NotAHost::Unusual { text: text.to_owned(), better: None });
    }
    Ok(net)
}

fn wildcard(text: &str) -> Result<Host, NotAHost> {
    let below = text.strip_prefix("*.").filter(|below| !below.is_empty() && !below.contains('*'));
    let below = below.ok_or_else(|| NotAHost::Wildcard { text: text.to_owned() })?;
    if below.parse::<IpAddr>().is_ok() {
        return Err(NotAHost::Wildcard { text: text.to_owned() });
    }
    let below = name(below)?;
    if !below.0.contains('.') {
        return Err(NotAHost::TooWide { text: text.to_owned() });
    }
    Ok(Host::Wildcard(below))
}

fn name(text: &str) -> Result<Name, NotAHost> {
    let no = |why| NotAHost::NotAName { text: text.to_owned(), why };
    // Beyond this nothing fits: an A-label is never shorter than its characters.
    if text.chars().count() > LONGEST_NAME + 1 {
        return Err(no("it is longer than 253 characters"));
    }
    let ascii = idna::domain_to_ascii(text)
        .map_err(|_| no("it cannot be written in the form that goes over the wire (IDNA)"))?;
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    if name.len() > LONGEST_NAME {
        return Err(no("it is longer than 253 characters"));
    }
    for label in name.split('.') {
        // Names with underscores are none of hosts (RFC 952), but hosts have them.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let why = match label {
            "" => "a part of it is empty",
            _ if label.len() > LONGEST_LABEL => "a part of it is longer than 63 characters",
            _ if label.starts_with('-') || label.ends_with('-') => {
                "a part of it begins or ends with a hyphen"
            }
            _ if !label.bytes().all(allowed) => "it has a character that names do not have",
            _ => continue,
        };
        return Err(no(why));
    }
    if is_number(name.rsplit('.').next().unwrap_or_default()) {
        // As browsers and C libraries read it: https://url.spec.whatwg.org/#concept-ipv4-parser
        let better = loose_v4(name).map(|address| address.to_string());
        return Err(NotAHost::Unusual { text: text.to_owned(), better });
    }
    Ok(Name(name.to_owned()))
}

/// Whether a name's last part makes many readers take the whole for an address.
fn is_number(label: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = label.strip_prefix("0x");
    let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits(label) || hexadecimal.is_some_and(is_hexadecimal)
}

/// The address that `inet_aton` makes of it.
fn loose_v4(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None => part.parse().ok(),
    };
    let parts = text.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut bits = 0;
    for (at, part) in first.iter().enumerate() {
        let byte = u8::try_from(*part).ok()?;
        bits |= u32::from(byte) << (24 - 8 * at);
    }
    let room = 32 - 8 * u32::try_from(first.len()).ok()?;
    (u64::from(*last) < 1 << room).then(|| Ipv4Addr::from_bits(bits | last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a text is, in one word, and as what it is shown; or why it is none.
    fn told(text: &str) -> String {
        match classify(text) {
            Ok(host) => {
                let kind = match host {
                    Host::Name(_) => "name",
                    Host::Wildcard(_) => "wildcard",
                    Host::V4(_) => "IPv4",
                    Host::V6(_) => "IPv6",
                    Host::Net(_) => "range",
                };
                format!("{kind} {host}")
            }
            Err(error) => format!("no: {error}"),
        }
    }

    #[track_caller]
    fn table(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            assert_eq!(told(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        table(&[
            ("127.0.0.1", "IPv4 127.0.0.1"),
            ("255.255.255.255", "IPv4 255.255.255.255"),
            ("::1", "IPv6 ::1"),
            ("2001:DB8:0::0010", "IPv6 2001:db8::10"),
            ("64:ff9b::1.2.3.4", "IPv6 64:ff9b::102:304"),
            ("1:2:3", "no: `1:2:3` is no address"),
            (
                "::ffff:1.2.3.4",
                "no: `::ffff:1.2.3.4` is an address in an unusual form, did you mean `1.2.3.4`?",
            ),
            ("fe80::1%eth0", "no: `fe80::1%eth0` has a zone, did you mean `fe80::1`?"),
            ("[::1]", "no: `[::1]` has brackets, did you mean `::1`?"),
            ("[::1]:443", "no: `[::1]:443` has a port, did you mean `::1`?"),
            ("[::1", "no: `[::1` is no address"),
        ]);
    }

    #[test]
    fn addresses_that_readers_do_not_agree_on() {
        let unusual = |text: &str, better: &str| {
            let expected =
                format!("no: `{text}` is an address in an unusual form, did you mean `{better}`?");
            assert_eq!(told(text), expected);
        };
        unusual("127.1", "127.0.0.1");
        unusual("2130706433", "127.0.0.1");
        unusual("0x7f000001", "127.0.0.1");
        unusual("0x7F.1", "127.0.0.1");
        unusual("0177.0.0.1", "127.0.0.1");
        unusual("127.0.0.1.", "127.0.0.1");
        unusual("010.0.0.1", "8.0.0.1");
        unusual("１２７.0.0.1", "127.0.0.1");
        unusual("127。0。0。1", "127.0.0.1");
        table(&[
            ("1.2.3.4.5", "no: `1.2.3.4.5` is an address in an unusual form"),
            ("256.1.1.1", "no: `256.1.1.1` is an address in an unusual form"),
            ("example.0x", "no: `example.0x` is an address in an unusual form"),
            ("example.1", "no: `example.1` is an address in an unusual form"),
            ("1.example", "name 1.example"),
            ("0x7f.example", "name 0x7f.example"),
        ]);
    }

    #[test]
    fn ranges() {
        table(&[
            ("10.0.0.0/8", "range 10.0.0.0/8"),
            ("192.0.2.7/32", "range 192.0.2.7/32"),
            ("2001:db8::/32", "range 2001:db8::/32"),
            (
                "10.0.0.1/8",
                "no: `10.0.0.1/8` is no range: bits are set beyond its prefix, did you mean `10.0.0.0/8`?",
            ),
            ("10.0.0.0/33", "no: `10.0.0.0/33` is no address"),
            ("10.0.0.0/", "no: `10.0.0.0/` is no address"),
            ("10.0.0.0/+8", "no: `10.0.0.0/+8` is no address"),
            ("10.0.0.0/08", "no: `10.0.0.0/08` is no address"),
            ("10.0.0.0/8/8", "no: `10.0.0.0/8/8` is no address"),
            ("0.0.0.0/0", "no: `0.0.0.0/0` allows every address there is"),
            ("::/0", "no: `::/0` allows every address there is"),
            ("::ffff:10.0.0.0/104", "no: `::ffff:10.0.0.0/104` is an address in an unusual form"),
        ]);
    }

    #[test]
    fn names() {
        table(&[
            ("example.com", "name example.com"),
            ("API.Example.COM", "name api.example.com"),
            ("example.com.", "name example.com"),
            ("localhost", "name localhost"),
            ("a_b.example.com", "name a_b.example.com"),
            ("_acme.example.com", "name _acme.example.com"),
            ("r3---sn.example.com", "name r3---sn.example.com"),
            ("bücher.example", "name xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "name xn--bcher-kva.example"),
            ("例え.テスト", "name xn--r8jz45g.xn--zckzah"),
            ("ｅｘａｍｐｌｅ.com", "name example.com"),
            ("", "no: a host is missing"),
            (".", "no: `.` is no host name: a part of it is empty"),
            ("a..b", "no: `a..b` is no host name: a part of it is empty"),
            (".example.com", "no: `.example.com` is no host name: a part of it is empty"),
            ("example.com..", "no: `example.com..` is no host name: a part of it is empty"),
            (
                "-a.example",
                "no: `-a.example` is no host name: a part of it begins or ends with a hyphen",
            ),
            (
                "a-.example",
                "no: `a-.example` is no host name: a part of it begins or ends with a hyphen",
            ),
            (
                "a!b.example",
                "no: `a!b.example` is no host name: it has a character that names do not have",
            ),
            (
                "xn--a.example",
                "no: `xn--a.example` is no host name: it cannot be written in the form that goes over the wire (IDNA)",
            ),
        ]);
    }

    #[test]
    fn what_is_more_than_a_host() {
        table(&[
            (
                "https://example.com",
                "no: `https://example.com` has a scheme, did you mean `example.com`?",
            ),
            (
                "https://example.com/a?b",
                "no: `https://example.com/a?b` has a scheme, did you mean `example.com`?",
            ),
            ("example.com/a", "no: `example.com/a` has a path, did you mean `example.com`?"),
            ("example.com:8443", "no: `example.com:8443` has a port, did you mean `example.com`?"),
            ("example.com:", "no: `example.com:` has a port, did you mean `example.com`?"),
            ("example.com:x", "no: `example.com:x` has a colon, did you mean `example.com`?"),
            ("me@example.com", "no: `me@example.com` has a user, did you mean `example.com`?"),
            ("a.test@evil.test", "no: `a.test@evil.test` has a user, did you mean `evil.test`?"),
            (
                " example.com",
                "no: ` example.com` has a space or a control character, did you mean `example.com`?",
            ),
            ("exa mple.com", "no: `exa mple.com` has a space or a control character"),
            ("a\u{0}.com", r"no: `a\u{0}.com` has a space or a control character"),
            ("example%2ecom", "no: `example%2ecom` has a percent sign"),
        ]);
    }

    #[test]
    fn wildcards() {
        table(&[
            ("*.example.com", "wildcard *.example.com"),
            ("*.Bücher.example.", "wildcard *.xn--bcher-kva.example"),
            (
                "*.com",
                "no: `*.com` allows a whole top-level domain; write two parts behind the star at least",
            ),
            ("*", "no: `*`: a wildcard is the whole first part of a name, as in `*.example.com`"),
            ("*.", "no: `*.`: a wildcard is the whole first part of a name, as in `*.example.com`"),
            (
                "a*.example.com",
                "no: `a*.example.com`: a wildcard is the whole first part of a name, as in `*.example.com`",
            ),
            (
                "a.*.com",
                "no: `a.*.com`: a wildcard is the whole first part of a name, as in `*.example.com`",
            ),
            (
                "*.*.com",
                "no: `*.*.com`: a wildcard is the whole first part of a name, as in `*.example.com`",
            ),
            (
                "*.1.2.3.4",
                "no: `*.1.2.3.4`: a wildcard is the whole first part of a name, as in `*.example.com`",
            ),
            ("*.127.1", "no: `127.1` is an address in an unusual form, did you mean `127.0.0.1`?"),
        ]);
    }

    #[test]
    fn lengths_are_bounded() {
        let label = "a".repeat(LONGEST_LABEL);
        let longest = [label.as_str(), &label, &label, &label[..61]].join(".");
        assert_eq!(longest.len(), LONGEST_NAME);
        assert!(classify(&longest).is_ok());
        assert!(classify(&format!("{longest}.")).is_ok());
        for too_long in [format!("{longest}a"), format!("{label}a.example"), "é.".repeat(130)] {
            let error = classify(&too_long).unwrap_err();
            assert!(matches!(error, NotAHost::NotAName { .. }), "{error}");
            assert!(error.to_string().contains("longer than"), "{error}");
        }
        assert!(classify(&"a".repeat(1 << 20)).is_err());
    }

    proptest! {
        /// Whatever is a host is one in the form that it is shown in, and the same.
        #[test]
        fn a_host_is_read_back(text in "\\PC{0,40}|[a-z0-9.*:/_-]{0,20}|(\\*\\.)?([a-zé0-9-]{1,5}\\.){1,4}[a-z]{1,3}\\.?") {
            if let Ok(host) = classify(&text) {
                let shown = host.to_string();
                prop_assert!(shown.is_ascii() && shown == shown.to_lowercase(), "{shown}");
                prop_assert_eq!(classify(&shown), Ok(host));
            }
        }

        /// What C libraries and browsers take for an address is never a name.
        #[test]
        fn no_address_passes_for_a_name(address: u32, form in 0_usize..7) {
            let [a, b, c, d] = address.to_be_bytes();
            let text = match form {
                0 => format!("{address}"),
                1 => format!("{address:#x}"),
                2 => format!("{a:#o}.{b}.{c}.{d}").replace("0o", "0"),
                3 => format!("{a}.{}", address & 0xff_ffff),
                4 => format!("{a}.{b}.{}", address & 0xffff),
                5 => format!("{a:#X}.{b:#x}.{c}.{d}."),
                _ => format!("::ffff:{a}.{b}.{c}.{d}"),
            };
            match classify(&text) {
                Err(NotAHost::Unusual { better, .. }) => {
                    prop_assert_eq!(better, Some(Ipv4Addr::from_bits(address).to_string()));
                }
                // Without a leading zero or with a single digit it is the usual form.
                Ok(Host::V4(usual)) => prop_assert_eq!(usual.to_bits(), address),
                other => prop_assert!(false, "{text}: {other:?}"),
            }
        }
    }
}
