//! From a destination to a connection: judged, resolved once, and dialled at the very address that was checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use claude_bottle_protocol::gateway::{Config, Weakness};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address;
use crate::host::Host;
use crate::refusal::Refusal;
use crate::rules::{Denied, Rules};

/// How destinations are reached.
pub(crate) struct Upstream {
    rules: Rules,
    resolver: TokioResolver,
    patience: Duration,
    weakness: Option<Weakness>,
}

/// Addresses that may be dialled.
#[derive(Debug)]
pub(crate) struct Cleared {
    /// At least one.
    addresses: Vec<SocketAddr>,
    /// Whether something else than TLS or HTTP may be spoken there.
    pub(crate) is_opaque: bool,
    /// The rule that lets it through.
    pub(crate) rule: String,
}

impl Upstream {
    /// As `config` says, but for what `weakness` overlooks.
    pub(crate) fn new(
        config: &Config,
        rules: Rules,
        weakness: Option<Weakness>,
    ) -> Result<Self, String> {
        let mut builder = match config.resolver {
            None => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
            Some(server) => {
                let mut one = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut one.connections {
                    connection.port = server.port();
                }
                let servers = ResolverConfig::from_parts(None, Vec::new(), vec![one]);
                TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
            }
        };
        let patience = Duration::from_millis(config.limits.dial_ms);
        let options = builder.options_mut();
        options.timeout = patience / 2;
        if config.resolver.is_some() {
            options.use_hosts_file = ResolveHosts::Never;
        }
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { rules: rules.weakened(weakness), resolver, patience, weakness })
    }

    /// Judges a destination. Where one address of a name is not the internet's, and no rule names that address, all are
    /// refused: a server that gives such answers is not to be chosen from.
    pub(crate) async fn clear(&self, host: &Host, port: u16) -> Result<Cleared, Refusal> {
        let rule = self.rules.judge(host, port).map_err(|denied| match denied {
            Denied::Host => Refusal::Host,
            Denied::Port => Refusal::Port,
        })?;
        let addresses = match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolve(name).await?,
        };
        for ip in addresses.iter().filter(|_| self.weakness != Some(Weakness::NoAddressCheck)) {
            if let Some(what) = address::internal(*ip)
                && !self.rules.names_internal(ip.to_canonical(), port)
            {
                return Err(Refusal::Internal(what));
            }
        }
        let addresses = match host {
            Host::Name(name) if self.weakness == Some(Weakness::ResolveTwice) => {
                self.resolve(name).await?
            }
            _ => addresses,
        };
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Cleared {
            addresses,
            is_opaque: self.rules.is_opaque(host, port),
            rule: rule.to_owned(),
        })
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Refusal> {
        // Absolute, so that no search domain is tried.
        let found = timeout(self.patience, self.resolver.lookup_ip(format!("{name}."))).await;
        let found = found.map_err(|_| Refusal::NotResolved)?.map_err(|_| Refusal::NotResolved)?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() { Err(Refusal::NotResolved) } else { Ok(addresses) }
    }

    /// Connects to the first of the addresses that answers.
    pub(crate) async fn dial(&self, cleared: &Cleared) -> Result<TcpStream, Refusal> {
        for address in &cleared.addresses {
            if let Ok(Ok(stream)) = timeout(self.patience, TcpStream::connect(address)).await {
                // Fails on a connection that is gone already, which shows soon enough.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(Refusal::NoServer)
    }
}
