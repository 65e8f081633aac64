//! What a host is that a person wrote.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::host::{Host, Name, NotAHost};

/// The longest name in characters, without a final dot (RFC 1035, section 2.3.4, less the root and its length).
const LONGEST_NAME: usize = 253;
/// The longest part of a name in characters (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

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
        let better = classify(rest).map_or_else(NotAHost::better, |host| Some(host.to_string()));
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
            Some((address, rest)) if rest.is_empty() || rest.starts_with('/') => {
                more("brackets", &format!("{address}{rest}"))
            }
            Some((address, rest)) => {
                let port = rest.strip_prefix(':').is_some_and(is_digits);
                more(if port { "a port" } else { "something behind its brackets" }, address)
            }
            None => Err(NotAHost::NotAnAddress { text: text.to_owned() }),
        };
    }
    if let Some((address, prefix)) = text.split_once('/') {
        return match address.parse::<IpAddr>() {
            Ok(address) => match prefix.split_once(':') {
                Some((prefix, port)) if is_digits(port) => {
                    more("a port", &format!("{address}/{prefix}"))
                }
                _ => range(text, address, prefix).map(Host::Net),
            },
            Err(_) => more("a path", address),
        };
    }
    match text.matches(':').count() {
        0 => {}
        1 => {
            let (host, port) = text.split_once(':').unwrap_or_default();
            return more(if is_digits(port) { "a port" } else { "a colon" }, host);
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

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
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
    let is_number = !prefix.is_empty() && is_digits(prefix);
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
    let hexadecimal = label.strip_prefix("0x");
    let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    !label.is_empty() && is_digits(label) || hexadecimal.is_some_and(is_hexadecimal)
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
mod tests;
