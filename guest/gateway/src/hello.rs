//! The first message of a TLS client: for which server it is.

use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, TlsMessage, TlsMessageHandshake,
    parse_tls_client_hello_extensions, parse_tls_message_handshake,
};

use crate::host::Host;
use crate::refusal::Refusal;

/// The most bytes of a first message, its records' headers included.
pub(crate) const LONGEST: usize = 32 * 1024;
/// `encrypted_client_hello` (RFC 9849).
const ENCRYPTED_HELLO: u16 = 0xfe0d;

/// Whether `bytes` begin as TLS does: the type of a record for a handshake.
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22)
}

/// The handshake's bytes out of as many records as they take; none while some are missing.
fn handshake(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let mut message = Vec::new();
    loop {
        if let Some([_, a, b, c]) = message.first_chunk::<4>() {
            let length = 4 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c));
            if message.len() >= length {
                message.truncate(length);
                return Ok(Some(message));
            }
        }
        let Some([kind, major, _, high, low]) = bytes.first_chunk::<5>() else { return Ok(None) };
        let length = usize::from(*high) << 8 | usize::from(*low);
        if *kind != 22 || *major != 3 || length == 0 || length > 16 * 1024 {
            return Err(Refusal::Tunnel("no TLS hello"));
        }
        let Some(payload) = bytes.get(5..5 + length) else { return Ok(None) };
        message.extend_from_slice(payload);
        bytes = &bytes[5 + length..];
    }
}

/// Whether the hello in `bytes` is for `host`; none while it is not there as a whole.
///
/// A hello without a name, or one that may hide another name (an encrypted hello, also one that is only grease), cannot be
/// compared and is refused. To an address, no name may be sent (RFC 6066 §3).
pub(crate) fn check(bytes: &[u8], host: &Host) -> Result<Option<()>, Refusal> {
    let Some(message) = handshake(bytes)? else {
        let longest = bytes.len() >= LONGEST;
        return if longest { Err(Refusal::Tunnel("the TLS hello is too long")) } else { Ok(None) };
    };
    let no_hello = Refusal::Tunnel("no TLS hello");
    let Ok(([], TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)))) =
        parse_tls_message_handshake(&message)
    else {
        return Err(no_hello);
    };
    let extensions = match hello.ext.map(parse_tls_client_hello_extensions) {
        None => Vec::new(),
        Some(Ok(([], extensions))) => extensions,
        Some(_) => return Err(no_hello),
    };
    let mut names = Vec::new();
    for extension in &extensions {
        match extension {
            TlsExtension::SNI(list) => match list[..] {
                [(SNIType::HostName, name)] => names.push(name),
                _ => return Err(Refusal::Tunnel("not one server name")),
            },
            other if TlsExtensionType::from(other).0 == ENCRYPTED_HELLO => {
                return Err(Refusal::Tunnel("an encrypted TLS hello"));
            }
            _ => {}
        }
    }
    match (&names[..], host) {
        ([], Host::Ip(_)) => Ok(Some(())),
        ([], Host::Name(_)) => Err(Refusal::Tunnel("no server name")),
        ([name], Host::Name(_)) => {
            let told = std::str::from_utf8(name).ok().and_then(Host::parse);
            let same = told.as_ref() == Some(host);
            if same {
                Ok(Some(()))
            } else {
                Err(Refusal::Tunnel("another server name than the destination"))
            }
        }
        _ => Err(Refusal::Tunnel("another server name than the destination")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized<const N: usize>(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[4 - N..], bytes].concat()
    }

    fn extension(kind: u16, payload: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &sized::<2>(payload)].concat()
    }

    fn server_name(name: &str) -> Vec<u8> {
        name_of_type(0, name)
    }

    fn name_of_type(kind: u8, name: &str) -> Vec<u8> {
        extension(0, &sized::<2>(&[&[kind][..], &sized::<2>(name.as_bytes())].concat()))
    }

    /// A hello with these extensions, in records of `record` bytes.
    fn hello(extensions: &[Vec<u8>], record: usize) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &sized::<2>(&[0x13, 0x01]),
            &[1, 0],
            &sized::<2>(&extensions.concat()),
        ]
        .concat();
        let message = [&[1][..], &sized::<3>(&body)].concat();
        message
            .chunks(record)
            .flat_map(|part| [&[22, 3, 1][..], &sized::<2>(part)].concat())
            .collect()
    }

    fn told(extensions: &[Vec<u8>], host: &str) -> String {
        match check(&hello(extensions, 9000), &Host::parse(host).unwrap()) {
            Ok(Some(())) => "same".into(),
            Ok(None) => "more".into(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn the_server_name_is_the_destination() {
        assert_eq!(told(&[server_name("A.test")], "a.test"), "same");
        assert_eq!(told(&[], "203.0.113.1"), "same");
        let other = "in the tunnel: another server name than the destination";
        assert_eq!(told(&[server_name("b.test")], "a.test"), other);
        assert_eq!(told(&[server_name("a.test")], "203.0.113.1"), other);
        assert_eq!(told(&[server_name("a.test"), server_name("b.test")], "a.test"), other);
        assert_eq!(told(&[], "a.test"), "in the tunnel: no server name");
        // A server that does not know the type takes it for none, and answers as whoever it is by default.
        assert_eq!(
            told(&[name_of_type(1, "a.test")], "a.test"),
            "in the tunnel: not one server name"
        );
        let encrypted = [server_name("a.test"), extension(0xfe0d, &[0; 8])];
        assert_eq!(told(&encrypted, "a.test"), "in the tunnel: an encrypted TLS hello");
    }

    #[test]
    fn a_hello_may_come_in_pieces() {
        let host = Host::parse("a.test").unwrap();
        let whole = hello(&[server_name("a.test")], 10);
        for length in 0..whole.len() {
            assert_eq!(check(&whole[..length], &host), Ok(None), "{length}");
        }
        assert_eq!(check(&whole, &host), Ok(Some(())));
        assert!(check(b"GET / HTTP/1.1\r\n", &host).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..80, byte: u8, cut in 0_usize..90) {
            let mut bytes = hello(&[server_name("a.test")], 40);
            let last = bytes.len() - 1;
            bytes[at.min(last)] = byte;
            bytes.truncate(cut);
            let _ = check(&bytes, &Host::parse("a.test").unwrap());
        }
    }
}
