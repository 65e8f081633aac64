//! pipelock's configuration.
//!
//! The keys are those of <https://github.com/luckyPipewrench/pipelock/blob/main/docs/configuration.md> (2.3).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use super::allowlist::Allowlist;
use super::host::Host;

/// Where its configuration is in a bundle. The init writes it: the folder is in memory, and a bundle's root is read-only.
pub const FILE: &str = "/run/bottle/pipelock.yaml";
/// The port that it listens on where nobody says otherwise, as in its image.
const PORT: u16 = 8888;
/// How long a tunnel may live. An agent's stream of answers lives for minutes, a clone of a large repository too.
const MAX_TUNNEL_SECONDS: u32 = 3600;
/// How long nothing may go through a tunnel.
const IDLE_SECONDS: u32 = 300;
/// How long a fetched page may take.
const FETCH_SECONDS: u32 = 30;
/// How large a fetched page may be.
const FETCH_MEGABYTES: u32 = 10;
/// How much of a request is looked at for secrets; a larger one is blocked.
const BODY_BYTES: u32 = 5 * 1024 * 1024;

#[derive(Serialize)]
struct Configuration {
    version: u32,
    mode: &'static str,
    api_allowlist: Vec<String>,
    ssrf: Ssrf,
    fetch_proxy: FetchProxy,
    forward_proxy: ForwardProxy,
    request_body_scanning: BodyScanning,
    dlp: Dlp,
    logging: Logging,
    sentry: Sentry,
}

#[derive(Serialize)]
struct Logging {
    format: &'static str,
    output: &'static str,
    include_allowed: bool,
    include_blocked: bool,
}

#[derive(Serialize)]
struct Sentry {
    enabled: bool,
}

#[derive(Serialize)]
struct Ssrf {
    ip_allowlist: Vec<String>,
}

#[derive(Serialize)]
struct FetchProxy {
    listen: String,
    timeout_seconds: u32,
    max_response_mb: u32,
}

#[derive(Serialize)]
struct ForwardProxy {
    enabled: bool,
    max_tunnel_seconds: u32,
    idle_timeout_seconds: u32,
    sni_verification: bool,
}

#[derive(Serialize)]
struct BodyScanning {
    enabled: bool,
    action: &'static str,
    max_body_bytes: u32,
    scan_headers: bool,
}

#[derive(Serialize)]
struct Dlp {
    scan_env: bool,
    include_defaults: bool,
}

/// The program and its arguments, with [`FILE`] as its configuration.
pub fn command(listen: SocketAddr) -> Vec<String> {
    let listen = listen.to_string();
    ["/pipelock", "run", "--config", FILE, "--listen", &listen].map(str::to_owned).into()
}

/// The configuration with which pipelock lets through what `list` has, and nothing else. Where it listens is for
/// [`command`] to say.
///
/// Strict mode: a name that is not on the list does not pass. An address that is on it passes even where it is a private
/// one, and so does a name that resolves to an address of a range on the list. pipelock has no ports in its lists: it
/// lets a host through at every port, whichever the list names. What it blocks is in its log; it sends no reports of its own
/// crashes to its makers, as its presets would.
pub fn yaml(list: &Allowlist) -> String {
    let mut names = Vec::new();
    let mut addresses = BTreeSet::new();
    for entry in list {
        match &entry.host {
            Host::Name(name) => names.push(name.to_string()),
            Host::Wildcard(_) => names.push(entry.host.to_string()),
            // In strict mode an address has to pass as a name as well.
            Host::V4(address) => {
                names.push(address.to_string());
                addresses.insert(IpNet::from(std::net::IpAddr::V4(*address)));
            }
            Host::V6(address) => {
                names.push(address.to_string());
                addresses.insert(IpNet::from(std::net::IpAddr::V6(*address)));
            }
            Host::Net(net) => {
                addresses.insert(*net);
            }
        }
    }
    let configuration = Configuration {
        version: 1,
        mode: "strict",
        api_allowlist: names,
        ssrf: Ssrf { ip_allowlist: addresses.iter().map(ToString::to_string).collect() },
        fetch_proxy: FetchProxy {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).to_string(),
            timeout_seconds: FETCH_SECONDS,
            max_response_mb: FETCH_MEGABYTES,
        },
        forward_proxy: ForwardProxy {
            enabled: true,
            max_tunnel_seconds: MAX_TUNNEL_SECONDS,
            idle_timeout_seconds: IDLE_SECONDS,
            sni_verification: true,
        },
        request_body_scanning: BodyScanning {
            enabled: true,
            action: "block",
            max_body_bytes: BODY_BYTES,
            scan_headers: true,
        },
        dlp: Dlp { scan_env: true, include_defaults: true },
        logging: Logging {
            format: "json",
            output: "stdout",
            include_allowed: true,
            include_blocked: true,
        },
        sentry: Sentry { enabled: false },
    };
    serde_saphyr::to_string(&configuration).expect("plain data has a YAML form")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::bundle::pipelock::{Source, Wanted, classify};

    /// The file as another library reads it, every key known.
    mod read {
        use super::Deserialize;

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Configuration {
            pub(super) version: u32,
            pub(super) mode: String,
            pub(super) api_allowlist: Vec<String>,
            pub(super) ssrf: Ssrf,
            pub(super) fetch_proxy: FetchProxy,
            pub(super) forward_proxy: ForwardProxy,
            pub(super) request_body_scanning: BodyScanning,
            pub(super) dlp: Dlp,
            pub(super) logging: Logging,
            pub(super) sentry: Sentry,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Logging {
            pub(super) format: String,
            pub(super) output: String,
            pub(super) include_allowed: bool,
            pub(super) include_blocked: bool,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Sentry {
            pub(super) enabled: bool,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Ssrf {
            pub(super) ip_allowlist: Vec<String>,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct FetchProxy {
            pub(super) listen: String,
            pub(super) timeout_seconds: u32,
            pub(super) max_response_mb: u32,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct ForwardProxy {
            pub(super) enabled: bool,
            pub(super) max_tunnel_seconds: u32,
            pub(super) idle_timeout_seconds: u32,
            pub(super) sni_verification: bool,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct BodyScanning {
            pub(super) enabled: bool,
            pub(super) action: String,
            pub(super) max_body_bytes: u32,
            pub(super) scan_headers: bool,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Dlp {
            pub(super) scan_env: bool,
            pub(super) include_defaults: bool,
        }
    }

    fn list(hosts: &[&str]) -> Allowlist {
        let source = Source::Egress { line: 1 };
        let wanted = |host: &&str| Wanted::web(source.clone(), classify(host).unwrap());
        Allowlist::of(hosts.iter().map(wanted))
    }

    fn read_back(text: &str) -> read::Configuration {
        serde_norway::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    const EVERY_KIND: &[&str] =
        &["api.example.com", "*.example.com", "yes", "192.0.2.7", "2001:db8::7", "10.0.0.0/8"];

    #[test]
    fn of_one_of_each_kind() {
        insta::assert_snapshot!(yaml(&list(EVERY_KIND)));
    }

    #[test]
    fn another_library_reads_what_is_meant() {
        let read = read_back(&yaml(&list(EVERY_KIND)));
        assert_eq!((read.version, read.mode.as_str()), (1, "strict"));
        let names = ["api.example.com", "yes", "*.example.com", "192.0.2.7", "2001:db8::7"];
        assert_eq!(read.api_allowlist, names);
        assert_eq!(read.ssrf.ip_allowlist, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::7/128"]);
        assert_eq!(read.fetch_proxy.listen, "0.0.0.0:8888");
        assert!(read.fetch_proxy.timeout_seconds > 0 && read.fetch_proxy.max_response_mb > 0);
        let forward = read.forward_proxy;
        assert!(forward.enabled && forward.sni_verification);
        assert!(forward.max_tunnel_seconds > forward.idle_timeout_seconds);
        let scanning = read.request_body_scanning;
        assert!(scanning.enabled && scanning.scan_headers && scanning.max_body_bytes > 0);
        assert_eq!(scanning.action, "block");
        assert!(read.dlp.scan_env && read.dlp.include_defaults);
        let logging = read.logging;
        assert_eq!((&*logging.format, &*logging.output), ("json", "stdout"));
        assert!(logging.include_allowed && logging.include_blocked && !read.sentry.enabled);
    }

    #[test]
    fn of_an_empty_list_nothing_passes() {
        let read = read_back(&yaml(&Allowlist::default()));
        assert_eq!(read.mode, "strict");
        assert!(read.api_allowlist.is_empty() && read.ssrf.ip_allowlist.is_empty());
    }

    proptest! {
        /// Whatever is on the list is read back as the text that it is: `1e3.example`, `null`, `~`, `0x1.a`.
        #[test]
        fn every_name_is_read_back(text in "(\\*\\.)?(null|true|no|[0-9]e[0-9]|[a-z0-9_-]{1,8})(\\.[a-z0-9_]{1,5}){0,3}|[0-9a-f]{1,4}::[0-9]{1,4}|[0-9.]{7,11}(/[0-9]{1,2})?") {
            let Ok(host) = classify(&text) else { return Ok(()) };
            let read = read_back(&yaml(&list(&[&text])));
            let expected = host.to_string();
            match host {
                Host::Net(_) => {
                    prop_assert!(read.api_allowlist.is_empty());
                    prop_assert_eq!(read.ssrf.ip_allowlist, [expected]);
                }
                Host::V4(_) | Host::V6(_) => {
                    prop_assert_eq!(&read.api_allowlist, &[expected]);
                    prop_assert_eq!(read.ssrf.ip_allowlist.len(), 1);
                }
                Host::Name(_) | Host::Wildcard(_) => {
                    prop_assert_eq!(read.api_allowlist, [expected]);
                    prop_assert!(read.ssrf.ip_allowlist.is_empty());
                }
            }
        }
    }
}
