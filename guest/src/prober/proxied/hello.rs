//! The first message of a TLS client (RFC 8446 §4.1.2), with as much in it as whoever looks for a server's name needs.

/// The extension with the server's name (RFC 6066 §3).
const SERVER_NAME: u16 = 0;
/// The extension with the versions, and TLS 1.3 in it (RFC 8446 §4.2.1).
const VERSIONS: (u16, &[u8]) = (43, &[2, 3, 4]);
/// `TLS_AES_128_GCM_SHA256`.
const SUITE: [u8; 2] = [0x13, 0x01];

/// A client's hello to `host`. An address is never named in one.
pub(super) fn to(host: &str) -> Vec<u8> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    // A name that ends in a number is an address in some spelling (URL standard, "ends in a number").
    let ends_in_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|character: char| character.is_ascii_digit()));
    let is_address = host.starts_with('[') || ends_in_number;
    let names = (!is_address).then(|| {
        // One name, of the kind `host_name`.
        let one = [&[0][..], &sized(2, name.as_bytes())].concat();
        extension(SERVER_NAME, &sized(2, &one))
    });
    let extensions = [names.unwrap_or_default(), extension(VERSIONS.0, VERSIONS.1)].concat();
    let body = [
        // Version 1.2, as everybody says, a random that is none, and no session.
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(2, &SUITE),
        // No compression.
        &[1, 0],
        &sized(2, &extensions),
    ]
    .concat();
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &message)].concat()
}

fn extension(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(2, payload)].concat()
}

/// `bytes` behind their length in as many bytes.
fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_in_it_and_an_address_is_not() {
        let has =
            |host: &str, name: &str| to(host).windows(name.len()).any(|w| w == name.as_bytes());
        assert!(has("A.test.", "a.test"));
        for address in ["127.0.0.1", "[::1]", "2130706433", "0x7f.1"] {
            assert!(!has(address, address.trim_matches(['[', ']'])), "{address}");
        }
        let hello = to("a.test");
        // Record and message are as long as they say.
        assert_eq!(usize::from(hello[4]), hello.len() - 5);
        assert_eq!(usize::from(hello[8]), hello.len() - 9);
    }
}
