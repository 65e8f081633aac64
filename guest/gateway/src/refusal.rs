//! Why a client is not served.

use thiserror::Error;

/// A refusal, in words for the client and the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// What came is no request that everybody reads the same way.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// No rule names the host.
    #[error("the host is not allowed")]
    Host,
    /// Rules name the host with other ports.
    #[error("the port is not allowed")]
    Port,
    /// The name leads to an address that is not the internet's.
    #[error("the name leads to an internal address ({0})")]
    Internal(&'static str),
    /// What is asked for within the request is another host than its destination.
    #[error("Host is not the destination")]
    OtherHost,
    /// What is spoken in a tunnel is not what its destination stands for.
    #[error("in the tunnel: {0}")]
    Tunnel(&'static str),
    /// The name has no address.
    #[error("the name does not resolve")]
    NotResolved,
    /// The server is not there.
    #[error("the server does not answer")]
    NoServer,
    /// There are too many connections.
    #[error("too many connections")]
    Busy,
    /// It took too long.
    #[error("no request in time")]
    TooSlow,
}

impl Refusal {
    /// The status line's code and reason.
    pub(crate) fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Malformed(_) => (400, "Bad Request"),
            Self::Host | Self::Port | Self::Internal(_) | Self::OtherHost | Self::Tunnel(_) => {
                (403, "Forbidden")
            }
            Self::NotResolved | Self::NoServer => (502, "Bad Gateway"),
            Self::Busy => (503, "Service Unavailable"),
            Self::TooSlow => (408, "Request Timeout"),
        }
    }

    /// The whole answer.
    pub(crate) fn answer(&self) -> String {
        let (code, reason) = self.status();
        let body = format!("claude-bottle gateway: {self}\n");
        format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}
