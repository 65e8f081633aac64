//! A host as an allow-list names it, and why a text is none.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::nearest::quote;

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
pub struct Name(pub(super) String);

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

impl NotAHost {
    /// What was probably meant, where that can be told.
    pub(super) fn better(self) -> Option<String> {
        match self {
            Self::More { better, .. } | Self::Unusual { better, .. } => better,
            Self::HostBits { first, .. } => Some(first.to_string()),
            _ => None,
        }
    }
}

fn instead(better: Option<&String>) -> String {
    better.map(|better| format!(", did you mean {}?", quote(better))).unwrap_or_default()
}
