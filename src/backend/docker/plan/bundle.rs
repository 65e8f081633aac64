//! The bundle's container.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig};
use claude_bottle_protocol::daemons;

use super::container::{bind, log, walls};
use super::{ALIASES, IN_IMAGE, Make};
use crate::backend::docker::way_out;

impl Make<'_> {
    pub(super) fn bundle(&self) -> ContainerCreateBody {
        let wanted = &self.spec.bundle;
        let has_way_out = wanted.gateway.is_some();
        let own = has_way_out.then(|| way_out::DAEMON.to_owned());
        let daemons: Vec<_> = own.into_iter().chain(wanted.daemons.iter().cloned()).collect();
        let mut env = way_out::env(self.spec, self.at.bundle);
        env.insert(daemons::SELECTION.to_owned(), daemons.join(","));
        env.extend(wanted.env.clone());
        ContainerCreateBody {
            image: Some(wanted.image.clone().unwrap_or_else(|| self.toolbox.to_owned())),
            hostname: Some("bundle".to_owned()),
            entrypoint: Some(vec![IN_IMAGE.to_owned()]),
            cmd: Some(vec!["init".to_owned()]),
            env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(self.labels.clone()),
            host_config: Some(HostConfig {
                network_mode: Some(self.spec.name.clone()),
                // Without a way out it needs no other name, and must not have queries forwarded. With one all is as the host
                // has it: where anything is said here, the engine takes a resolver on the host's loopback for one on the
                // container's.
                dns: (!has_way_out).then(|| vec![self.at.bundle.to_string()]),
                dns_search: (!has_way_out).then(|| vec![".".to_owned()]),
                sysctls: has_way_out.then(way_out::sysctls),
                binds: (!wanted.mounts.is_empty())
                    .then(|| wanted.mounts.iter().map(bind).collect()),
                tmpfs: Some(HashMap::from([(
                    "/run/bottle".to_owned(),
                    "mode=1777,size=1m".to_owned(),
                )])),
                pids_limit: Some(self.spec.limits.pids),
                log_config: Some(log("json-file", &[("max-size", "1m"), ("max-file", "2")])),
                ..walls()
            }),
            networking_config: Some(self.seat(self.at.bundle, ALIASES)),
            ..ContainerCreateBody::default()
        }
    }
}
