//! What each kind of text is, as tables, and what is true of every text.

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
        ("[::1]x", "no: `[::1]x` has something behind its brackets, did you mean `::1`?"),
        ("[a.test]:443", "no: `[a.test]:443` has a port, did you mean `a.test`?"),
        ("0.0.0.0", "IPv4 0.0.0.0"),
        ("::", "IPv6 ::"),
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
        ("10.0.0.0/8:443", "no: `10.0.0.0/8:443` has a port, did you mean `10.0.0.0/8`?"),
        ("10.0.0.1/8:443", "no: `10.0.0.1/8:443` has a port, did you mean `10.0.0.0/8`?"),
        ("2001:db8::/32:443", "no: `2001:db8::/32:443` has a port, did you mean `2001:db8::/32`?"),
        ("[2001:db8::]/32", "no: `[2001:db8::]/32` has brackets, did you mean `2001:db8::/32`?"),
        ("10.0.0.0/255.0.0.0", "no: `10.0.0.0/255.0.0.0` is no address"),
        ("2001:db8::/129", "no: `2001:db8::/129` is no address"),
        ("10.0.0.0/256", "no: `10.0.0.0/256` is no address"),
        ("10.0.0/8", "no: `10.0.0/8` has a path, did you mean `10.0.0.0`?"),
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
        ("BÜCHER。example", "name xn--bcher-kva.example"),
        ("faß.example", "name xn--fa-hia.example"),
        // A look-alike is shown as what it is: the first letter is Cyrillic.
        ("аpple.example", "name xn--pple-43d.example"),
        ("so\u{ad}ft.example", "name soft.example"),
        (
            "a\u{200d}b.example",
            "no: `a\\u{200d}b.example` is no host name: it cannot be written in the form that goes over the wire (IDNA)",
        ),
        ("_", "name _"),
        ("a_.b_.example_", "name a_.b_.example_"),
        ("1", "no: `1` is an address in an unusual form, did you mean `0.0.0.1`?"),
        ("1.example", "name 1.example"),
        ("-", "no: `-` is no host name: a part of it begins or ends with a hyphen"),
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
        (
            "https://example.com:8443/a",
            "no: `https://example.com:8443/a` has a scheme, did you mean `example.com`?",
        ),
        (
            "wss://me:word@[2001:db8::1]:8443#a",
            "no: `wss://me:word@[2001:db8::1]:8443#a` has a scheme, did you mean `2001:db8::1`?",
        ),
        ("https://127.1/", "no: `https://127.1/` has a scheme, did you mean `127.0.0.1`?"),
        ("https://", "no: `https://` has a scheme"),
        ("//example.com", "no: `//example.com` has a path"),
        ("*.example.com:443", "no: `*.example.com:443` has a port, did you mean `*.example.com`?"),
        (":443", "no: `:443` has a port"),
        ("@", "no: `@` has a user"),
        (" ", "no: ` ` has a space or a control character"),
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
    // Within its bound as it is written, and beyond it as it goes over the wire.
    let wide = format!("{}.example", "é".repeat(59));
    let why = classify(&wide).unwrap_err().to_string();
    assert!(why.ends_with("is no host name: a part of it is longer than 63 characters"), "{why}");
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

    /// Whoever follows the advice is understood.
    #[test]
    fn what_is_suggested_is_a_host(
        scheme in "(https?://|//)?", user in "(a@|a:b@)?", host in "[a-z*.]{1,8}|[0-9.]{1,9}|[0-9a-f:]{2,8}|\\[[0-9a-f:]{2,8}\\]",
        rest in "(/[0-9]{0,2})?(:[0-9]{0,3})?([/?#%][a-z]?)?",
    ) {
        let text = format!("{scheme}{user}{host}{rest}");
        if let Err(error) = classify(&text) {
            let told = error.to_string();
            if let Some((_, better)) = told.split_once("did you mean `") {
                let better = better.trim_end_matches("`?");
                let host = classify(better);
                prop_assert!(host.is_ok_and(|host| host.to_string() == better), "{}", told);
            }
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
