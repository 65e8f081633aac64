//! The bottle's network, and who sits where on it.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkCreateRequest, NetworkingConfig,
};

use super::{Make, Plan};

impl Make<'_> {
    pub(super) fn network(&self) -> NetworkCreateRequest {
        let holes = &self.spec.holes;
        let mut options = HashMap::new();
        let closed = holes.pinned() && !holes.open_network && holes.ipv6.is_none();
        if self.facts.major >= 28 && closed && !self.spec.host_reaches {
            // Without an address of the host on the bridge; Engine 28 and newer.
            for family in ["ipv4", "ipv6"] {
                let option = format!("com.docker.network.bridge.gateway_mode_{family}");
                options.insert(option, "isolated".to_owned());
            }
        }
        let config = IpamConfig {
            subnet: Some(self.subnet.to_string()),
            gateway: Some(self.at.gateway.to_string()),
            ..IpamConfig::default()
        };
        let v6 = holes
            .ipv6
            .map(|subnet| IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() });
        let configs = [config].into_iter().chain(v6).collect();
        NetworkCreateRequest {
            name: self.spec.name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(!holes.open_network),
            enable_ipv6: Some(self.spec.holes.ipv6.is_some()),
            ipam: Some(Ipam { config: Some(configs), ..Ipam::default() }),
            options: (!options.is_empty()).then_some(options),
            labels: Some(self.labels.clone()),
            ..NetworkCreateRequest::default()
        }
    }

    /// On the bottle's network, at this address.
    pub(super) fn seat(&self, address: Ipv4Addr, aliases: &[&str]) -> NetworkingConfig {
        let settings = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            aliases: Some(aliases.iter().map(|&alias| alias.to_owned()).collect()),
            ..EndpointSettings::default()
        };
        NetworkingConfig {
            endpoints_config: Some(HashMap::from([(self.spec.name.clone(), settings)])),
        }
    }
}

impl Plan {
    /// A free address on the bottle's network.
    pub(in crate::backend::docker) fn address_beside(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.agent_address) + 1)
    }

    /// A seat on the bottle's network, beside agent and bundle.
    pub(in crate::backend::docker) fn seat_beside(&self) -> Option<NetworkingConfig> {
        let address = self.address_beside().to_string();
        let mut seat = self.bundle.networking_config.clone()?;
        for settings in seat.endpoints_config.iter_mut().flat_map(HashMap::values_mut) {
            settings.aliases = None;
            settings.ipam_config = Some(EndpointIpamConfig {
                ipv4_address: Some(address.clone()),
                ..EndpointIpamConfig::default()
            });
        }
        Some(seat)
    }
}
