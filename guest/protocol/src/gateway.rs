//! What the launcher tells the gateway, a bottle's small forward proxy.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The variable that holds the configuration itself, for a gateway that is in a container of its own and has no file.
pub const CONFIG: &str = "BOTTLE_GATEWAY";

/// The gateway's configuration, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What may be reached: `name`, `*.name`, an address or a network, each with or without `:port`. Without one, the
    /// ports 443 and 80 are meant. Empty: nothing may be.
    pub allow: Vec<String>,
    /// Where to listen; none where the listening socket is inherited (`LISTEN_FDS=1`, descriptor 3).
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Who is asked for names; none: whoever the system's configuration names.
    #[serde(default)]
    pub resolver: Option<SocketAddr>,
    /// Bounds on what clients may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Bounds on what clients may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time; further ones are answered 503.
    pub connections: usize,
    /// How long a client may take to say what it wants, in milliseconds; the first bytes in a tunnel included.
    pub head_ms: u64,
    /// How long a resolver or a server may take, in milliseconds.
    pub dial_ms: u64,
    /// How long a tunnel, or a request under way, may be silent in both directions, in milliseconds.
    pub idle_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 2048, head_ms: 10_000, dial_ms: 10_000, idle_ms: 600_000 }
    }
}

/// What a gateway can be made to overlook, so that the probes of it are seen to fail. It is an argument of the program
/// (`--weakness NAME`), which only a lab's launcher gives: no configuration can name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weakness {
    /// Every host is let through, at every port.
    AllowAll,
    /// A host that a rule names is let through at every port, and anything may be spoken there.
    AnyPort,
    /// A rule for the names below one is taken for that name itself as well.
    ApexMatchesAll,
    /// A rule is taken for every name that ends as it does, wherever a label begins.
    SuffixMatches,
    /// What a tunnel begins with is not looked at.
    NoSniCheck,
    /// `Host` may name another host than the destination.
    NoHostCheck,
    /// A name may lead to an address that is not the internet's.
    NoAddressCheck,
    /// A name is resolved anew to be dialled, after its addresses were checked.
    ResolveTwice,
    /// What follows a request is sent on behind it.
    ForwardRaw,
}

impl Weakness {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::AllowAll,
        Self::AnyPort,
        Self::ApexMatchesAll,
        Self::SuffixMatches,
        Self::NoSniCheck,
        Self::NoHostCheck,
        Self::NoAddressCheck,
        Self::ResolveTwice,
        Self::ForwardRaw,
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowAll => "allow-all",
            Self::AnyPort => "any-port",
            Self::ApexMatchesAll => "apex-matches-all",
            Self::SuffixMatches => "suffix-matches",
            Self::NoSniCheck => "no-sni-check",
            Self::NoHostCheck => "no-host-check",
            Self::NoAddressCheck => "no-address-check",
            Self::ResolveTwice => "resolve-twice",
            Self::ForwardRaw => "forward-raw",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_and_all_but_the_list_may_be_left_out() {
        let config: Config = serde_json::from_str(r#"{"allow": []}"#).unwrap();
        assert_eq!((config.listen, config.limits), (None, Limits::default()));
        assert!(
            serde_json::from_str::<Config>(r#"{"allow": [], "weakness": "allow-all"}"#).is_err()
        );
        assert!(serde_json::from_str::<Config>("{}").is_err());
    }

    #[test]
    fn a_weakness_is_written_as_it_is_called() {
        for weakness in Weakness::ALL {
            assert_eq!(serde_json::to_value(weakness).unwrap(), weakness.as_str());
        }
    }
}
