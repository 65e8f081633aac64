//! A bundle's way out: a network that leads out of the engine's host, on which the bundle is alone, and the daemon that serves.
//!
//! Nothing but that daemon carries anything from one network to the other: the bundle forwards no packets, has no capability, and
//! the daemon, the gateway or pipelock, listens at its address on the bottle's network alone, unless it is published for a bottle
//! elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig,
    NetworkConnectRequest, NetworkCreateRequest, PortBinding, PortMap,
};
use claude_bottle_protocol::daemons::{MAX_TABLE, TABLE};
use claude_bottle_protocol::gateway::{CONFIG, Config};
use ipnet::Ipv4Net;
use serde::Serialize;
use serde_json::json;

use super::error::DockerError;
use super::plan::{free_subnet, host_of};
use super::spec::{Serves, Spec};
use crate::bundle::gateway::PORT;
use crate::bundle::pipelock;
use crate::bundle::selection::Server;

/// Where the gateway is in the toolbox's image, and on the toolbox's volume in others.
pub const GATEWAY: &str = "/bottle/gateway";
/// The longest configuration in bytes: a variable can have 128 KiB (`MAX_ARG_STRLEN`), its name included.
const LONGEST: usize = MAX_TABLE;

/// The network that leads out, and the bundle's place on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WayOut {
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// The bridge's own address there: the bundle's default route.
    pub gateway: Ipv4Addr,
    /// The bundle's address there.
    pub bundle: Ipv4Addr,
    /// The network.
    pub network: NetworkCreateRequest,
    /// What connects the bundle, whose id is not known yet.
    pub connection: NetworkConnectRequest,
}

impl WayOut {
    /// On a subnet that overlaps with none of `taken`.
    pub(super) fn plan(
        spec: &Spec,
        labels: &HashMap<String, String>,
        taken: &[Ipv4Net],
        first: usize,
    ) -> Result<Self, DockerError> {
        let subnet = free_subnet(spec.pool_out, taken, first)
            .ok_or(DockerError::PoolExhausted { pool: spec.pool_out })?;
        let (gateway, bundle) = (host_of(subnet, 1), host_of(subnet, 2));
        let config = IpamConfig {
            subnet: Some(subnet.to_string()),
            gateway: Some(gateway.to_string()),
            ..IpamConfig::default()
        };
        let network = NetworkCreateRequest {
            name: format!("{}-out", spec.name),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            labels: Some(labels.clone()),
            ..NetworkCreateRequest::default()
        };
        let address = EndpointIpamConfig {
            ipv4_address: Some(bundle.to_string()),
            ..EndpointIpamConfig::default()
        };
        let settings =
            EndpointSettings { ipam_config: Some(address), ..EndpointSettings::default() };
        let connection = NetworkConnectRequest {
            endpoint_config: Some(settings),
            ..NetworkConnectRequest::default()
        };
        Ok(Self { subnet, gateway, bundle, network, connection })
    }
}

/// Variables of the bundle's init by which the daemon that serves learns what it is to do.
pub(super) fn env(spec: &Spec, bundle: Ipv4Addr) -> BTreeMap<String, String> {
    let listen = SocketAddr::new(bundle.into(), PORT);
    let (server, entry, config) = match &spec.bundle.serves {
        None => return BTreeMap::new(),
        Some(Serves::Gateway(config)) => {
            let mut argv = vec![GATEWAY.to_owned()];
            if let Some(weakness) = spec.holes.gateway_weakness {
                argv.extend(["--weakness".to_owned(), weakness.as_str().to_owned()]);
            }
            let config = Config { listen: Some(listen), ..config.clone() };
            let config = json(&config);
            // Nobody asks it whether it listens: it says so, and would take that for a client.
            (Server::Gateway, json!({ "argv": argv }), Some(config))
        }
        Some(Serves::Pipelock { yaml }) => {
            let entry = json!({
                "argv": pipelock::command(listen),
                "files": { (pipelock::FILE): yaml },
                "ready_port": PORT,
                "ready_address": bundle,
            });
            (Server::Pipelock, entry, None)
        }
    };
    let table = json!({ (server.daemon()): entry }).to_string();
    let config = config.map(|config| (CONFIG.to_owned(), config));
    config.into_iter().chain([(TABLE.to_owned(), table)]).collect()
}

/// The same bundle with these ports of it at ones of the loopback of the engine's host, which the engine chooses: for a bottle that
/// cannot come to the bundle's address.
///
/// Its gateway, if one serves, then listens at all of the bundle's addresses. What is published leads to the network that leads out,
/// an internal one is not published from; the bundle is alone on both.
pub(super) fn published(
    mut bundle: ContainerCreateBody,
    serves: Option<&Serves>,
    ports: &[u16],
) -> ContainerCreateBody {
    if let Some(Serves::Gateway(config)) = serves {
        let anywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
        let config = json(&Config { listen: Some(anywhere), ..config.clone() });
        for variable in bundle.env.iter_mut().flatten() {
            if variable.starts_with(&format!("{CONFIG}=")) {
                *variable = format!("{CONFIG}={config}");
            }
        }
    }
    let at = PortBinding {
        host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
        host_port: Some(String::new()),
    };
    bundle.exposed_ports = Some(ports.iter().copied().map(inner_port).collect());
    let host = bundle.host_config.get_or_insert_default();
    let bound = ports.iter().map(|port| (inner_port(*port), Some(vec![at.clone()])));
    host.port_bindings = Some(bound.collect());
    bundle
}

/// Where the engine says that it has published `port`: a port of 127.0.0.1; or else all that it says.
pub(super) fn published_at(ports: Option<&PortMap>, port: u16) -> Result<u16, String> {
    let bindings = ports.and_then(|all| all.get(&inner_port(port))?.as_deref());
    let told: Vec<_> = bindings
        .unwrap_or_default()
        .iter()
        .map(|at| {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{}:{}", text(&at.host_ip), text(&at.host_port))
        })
        .collect();
    match told.as_slice() {
        [one] => match one.parse() {
            Ok(SocketAddr::V4(at)) if *at.ip() == Ipv4Addr::LOCALHOST && at.port() > 0 => {
                Ok(at.port())
            }
            _ => Err(one.clone()),
        },
        [] => Err("nowhere".to_owned()),
        more => Err(more.join(", ")),
    }
}

fn inner_port(port: u16) -> String {
    format!("{port}/tcp")
}

fn json(config: &Config) -> String {
    serde_json::to_string(config).expect("plain data has a JSON form")
}

/// Settings of the bundle's net namespace, which has the host's for a start: a host with containers forwards.
pub(super) fn sysctls() -> HashMap<String, String> {
    [("net.ipv4.ip_forward", "0")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Why nothing can serve in such a way, as far as that can be told beforehand.
pub(super) fn check(spec: &Spec) -> Result<(), DockerError> {
    let longest = env(spec, Ipv4Addr::BROADCAST).into_values().map(|value| value.len()).max();
    match longest {
        Some(bytes) if bytes > LONGEST => Err(DockerError::LongList { bytes, longest: LONGEST }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::gateway::Limits;

    use super::*;

    fn bound(all: &[(&str, &str)]) -> PortMap {
        let one = |(ip, port): &(&str, &str)| PortBinding {
            host_ip: Some((*ip).to_owned()),
            host_port: Some((*port).to_owned()),
        };
        HashMap::from([("8888/tcp".to_owned(), Some(all.iter().map(one).collect()))])
    }

    #[test]
    fn it_is_published_on_loopback_or_not_at_all() {
        let published_at = |ports: Option<&PortMap>| super::published_at(ports, PORT);
        assert_eq!(published_at(Some(&bound(&[("127.0.0.1", "49153")]))), Ok(49_153));
        assert_eq!(published_at(None), Err("nowhere".to_owned()));
        for (ports, told) in [
            (HashMap::new(), "nowhere"),
            (bound(&[]), "nowhere"),
            (bound(&[("127.0.0.1", "0")]), "127.0.0.1:0"),
            (bound(&[("0.0.0.0", "49153")]), "0.0.0.0:49153"),
            (bound(&[("127.0.0.2", "49153")]), "127.0.0.2:49153"),
            (bound(&[("", "49153")]), ":49153"),
            (bound(&[("127.0.0.1", "49153"), ("::", "49153")]), "127.0.0.1:49153, :::49153"),
        ] {
            assert_eq!(published_at(Some(&ports)), Err(told.to_owned()));
        }
    }

    #[test]
    fn a_published_bundle_differs_in_where_its_gateway_listens() {
        let allow = vec!["a.test:443".into()];
        let limits = Limits::default();
        let config = Config { allow, listen: None, resolver: None, limits };
        let mut spec = Spec::new("b");
        spec.bundle.serves = Some(Serves::Gateway(config));
        let env = env(&spec, Ipv4Addr::new(10, 210, 0, 2));
        let env = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let own = ContainerCreateBody { env: Some(env), ..ContainerCreateBody::default() };
        let all = published(own.clone(), spec.bundle.serves.as_ref(), &[PORT]);
        let changed = own.env.iter().flatten().zip(all.env.iter().flatten());
        let changed: Vec<_> = changed.filter(|(own, all)| own != all).collect();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].0.contains(r#""10.210.0.2:8888""#), "{changed:?}");
        assert!(changed[0].1.contains(r#""0.0.0.0:8888""#), "{changed:?}");
        let host = serde_json::to_value(all.host_config).unwrap();
        let at = json!({ "8888/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] });
        assert_eq!(host, json!({ "PortBindings": at }));
    }
}
