//! A bundle's way out: a network that leads out of the engine's host, on which the bundle is alone, and its gateway.
//!
//! Nothing but the gateway carries anything from one network to the other: the bundle forwards no packets, has no capability, and
//! the gateway listens at its address on the bottle's network alone.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest,
};
use claude_bottle_protocol::daemons::TABLE;
use claude_bottle_protocol::gateway::CONFIG;
use ipnet::Ipv4Net;
use serde::Serialize;
use serde_json::json;

use super::error::DockerError;
use super::plan::{free_subnet, host_of};
use super::spec::Spec;
use crate::bundle::gateway::PORT;

/// Where the gateway is in the toolbox's image: where the bundle's own table of daemons has it.
pub const GATEWAY: &str = "/gateway";
/// The gateway's name among the daemons.
pub const DAEMON: &str = "gateway";
/// The longest configuration in bytes: a variable can have 128 KiB (`MAX_ARG_STRLEN`), its name included.
const LONGEST: usize = 120 * 1024;

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

/// Variables of the bundle's init by which its gateway learns what it is to do.
pub(super) fn env(spec: &Spec, bundle: Ipv4Addr) -> BTreeMap<String, String> {
    let Some(config) = &spec.bundle.gateway else { return BTreeMap::new() };
    let mut config = config.clone();
    config.listen = Some(SocketAddr::new(bundle.into(), PORT));
    let config = serde_json::to_string(&config).expect("plain data has a JSON form");
    let mut argv = vec![GATEWAY.to_owned()];
    if let Some(weakness) = spec.holes.gateway_weakness {
        argv.extend(["--weakness".to_owned(), weakness.as_str().to_owned()]);
    }
    // It is not asked on the bundle's loopback whether it listens: it does not do so there.
    let table = json!({ (DAEMON): { "argv": argv } }).to_string();
    [(CONFIG, config), (TABLE, table)].map(|(name, value)| (name.to_owned(), value)).into()
}

/// Settings of the bundle's net namespace, which has the host's for a start: a host with containers forwards.
pub(super) fn sysctls() -> HashMap<String, String> {
    [("net.ipv4.ip_forward", "0")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Why there cannot be such a gateway, as far as that can be told beforehand.
pub(super) fn check(spec: &Spec) -> Result<(), DockerError> {
    let config = env(spec, Ipv4Addr::BROADCAST).remove(CONFIG).unwrap_or_default();
    if config.len() > LONGEST {
        return Err(DockerError::LongList { bytes: config.len(), longest: LONGEST });
    }
    Ok(())
}
