//! The head of a request, read more strictly than RFC 9112 asks for: whatever two readers might take for two things is
//! refused, so that no server sees another request than the one that was judged.

use claude_bottle_protocol::gateway::Weakness;

use crate::host::{self, Host};
use crate::refusal::Refusal;

/// The longest head in bytes.
const LONGEST: usize = 16 * 1024;
/// The most header fields.
const MOST_FIELDS: usize = 100;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its method.
    pub(crate) method: String,
    /// Where to.
    pub(crate) host: Host,
    /// The port there.
    pub(crate) port: u16,
}

/// Where the head ends in `bytes`; none while it is not there as a whole.
pub(crate) fn end(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let longest = &bytes[..bytes.len().min(LONGEST)];
    let end = longest.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    if end.is_none() && bytes.len() >= LONGEST {
        return Err(Refusal::Malformed("the head is too long"));
    }
    Ok(end)
}

/// Reads a whole head. `within` is the destination of the tunnel that it was sent through, if any: then its target has to be
/// a path.
pub(crate) fn parse(
    bytes: &[u8],
    within: Option<&(Host, u16)>,
    weakness: Option<Weakness>,
) -> Result<Head, Refusal> {
    check_bytes(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(Refusal::Malformed("no HTTP/1 head")),
    }
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed("not HTTP/1.1"));
    };
    let (host, port) = match within {
        Some(tunnel) if target.starts_with('/') && method != "CONNECT" => tunnel.clone(),
        Some(_) => return Err(Refusal::Tunnel("neither TLS nor a plain request")),
        None => destination(method, target)?,
    };
    if weakness != Some(Weakness::ForwardRaw) {
        check_body(request.headers, method)?;
    }
    if weakness != Some(Weakness::NoHostCheck) {
        check_host(request.headers, method, &host, port)?;
    }
    Ok(Head { method: method.to_owned(), host, port })
}

fn check_bytes(bytes: &[u8]) -> Result<(), Refusal> {
    let mut before = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let wrong = match byte {
            b'\n' => before != b'\r',
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            // A folded line.
            b' ' | b'\t' => before == b'\n',
            0..=31 | 127 => true,
            _ => false,
        };
        if wrong {
            return Err(Refusal::Malformed(
                "a bare CR or LF, a folded line, or a control character",
            ));
        }
        before = byte;
    }
    Ok(())
}

fn destination(method: &str, target: &str) -> Result<(Host, u16), Refusal> {
    let wrong = Refusal::Malformed("the target is neither host:port nor an http:// URL");
    if method == "CONNECT" {
        return host::authority(target, None).ok_or(wrong);
    }
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = scheme.map(|_| &target[7..]).ok_or(wrong.clone())?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    host::authority(authority, Some(80)).ok_or(wrong)
}

fn all<'h>(fields: &'h [httparse::Header<'h>], name: &str) -> Vec<&'h httparse::Header<'h>> {
    fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).collect()
}

/// Whether everybody sees the same end of the body.
fn check_body(fields: &[httparse::Header<'_>], method: &str) -> Result<(), Refusal> {
    let (lengths, codings) = (all(fields, "content-length"), all(fields, "transfer-encoding"));
    if lengths.len() + codings.len() > 1 {
        return Err(Refusal::Malformed("more than one length of the body"));
    }
    if lengths
        .iter()
        .any(|field| field.value.is_empty() || !field.value.iter().all(u8::is_ascii_digit))
    {
        return Err(Refusal::Malformed("the length of the body is no number"));
    }
    if codings.iter().any(|field| !field.value.eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::Malformed("a transfer coding other than chunked"));
    }
    if method == "CONNECT" && lengths.len() + codings.len() > 0 {
        return Err(Refusal::Malformed("CONNECT with a body"));
    }
    Ok(())
}

/// Whether `Host` is the destination.
fn check_host(
    fields: &[httparse::Header<'_>],
    method: &str,
    host: &Host,
    port: u16,
) -> Result<(), Refusal> {
    let [named] = all(fields, "host")[..] else {
        return Err(Refusal::Malformed("not one Host"));
    };
    let default = if method == "CONNECT" { port } else { 80 };
    let named =
        std::str::from_utf8(named.value).ok().and_then(|text| host::authority(text, Some(default)));
    let (named_host, named_port) = named.ok_or(Refusal::OtherHost)?;
    if named_host == *host && named_port == port { Ok(()) } else { Err(Refusal::OtherHost) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str) -> Result<String, Refusal> {
        parse(head.as_bytes(), None, None)
            .map(|head| format!("{} {} {}", head.method, head.host, head.port))
    }

    #[test]
    fn a_head_ends_within_its_bound_or_is_too_long() {
        let long = |length: usize| ["a".repeat(length - 4).as_bytes(), b"\r\n\r\n"].concat();
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r"), Ok(None));
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r\n\r\n\r\n"), Ok(Some(18)));
        assert_eq!(end(&long(LONGEST)), Ok(Some(LONGEST)));
        assert!(end(&long(LONGEST + 1)).is_err());
        assert!(end(&vec![b'a'; LONGEST]).is_err(), "whatever comes, it cannot end in time");
    }

    #[test]
    fn a_plain_request_is_read() {
        assert_eq!(
            read("CONNECT A.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").unwrap(),
            "CONNECT a.test 443"
        );
        assert_eq!(
            read("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap(),
            "CONNECT a.test 443"
        );
        let get = "GET http://a.test?q HTTP/1.1\r\nHost: A.TEST\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(read(get).unwrap(), "GET a.test 80");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let get = |fields: &str| {
            read(&format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
        };
        for fields in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 3, 3\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: a\r\n folded: b\r\n",
            "X: a\nY: b\r\n",
            "X: a\rY: b\r\n",
            "X: \0\r\n",
            "Host: a.test\r\n",
        ] {
            assert!(
                matches!(get(fields), Err(Refusal::Malformed(_))),
                "{fields:?} {:?}",
                get(fields)
            );
        }
        for head in [
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://a.test@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://a%2etest/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://a.test/ HTTP/1.0\r\nHost: a.test\r\n\r\n",
            "GET http://a.test/ HTTP/1.1\r\n\r\n",
            "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ] {
            assert!(matches!(read(head), Err(Refusal::Malformed(_))), "{head:?} {:?}", read(head));
        }
    }

    #[test]
    fn host_is_the_destination() {
        for host in ["b.test", "a.test:81", "a.test@b.test", ""] {
            let get = format!("GET http://a.test/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(read(&get), Err(Refusal::OtherHost), "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, None, None);
        }
    }
}
