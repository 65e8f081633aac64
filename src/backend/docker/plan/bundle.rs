//! The bundle's container.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerCreateBody, HostConfig, Mount as BindMount};
use claude_bottle_protocol::{daemons, supervise};

use super::container::{bind, log, mount, walls};
use super::{AGENT, ALIASES, FOLDER, IN_IMAGE, LOOKED_THROUGH, Make};
use crate::backend::docker::spec::Mount;
use crate::backend::docker::way_out;

impl Make<'_> {
    pub(super) fn bundle(&self) -> ContainerCreateBody {
        let wanted = &self.spec.bundle;
        let has_way_out = wanted.serves.is_some();
        let is_foreign = wanted.image.is_some();
        let mut tmpfs = HashMap::from([("/run/bottle".to_owned(), "mode=1777,size=1m".to_owned())]);
        if is_foreign {
            tmpfs.insert("/tmp".to_owned(), "mode=1777,size=64m".to_owned());
        }
        ContainerCreateBody {
            image: Some(wanted.image.clone().unwrap_or_else(|| self.toolbox.to_owned())),
            // Whomever the image names, and wherever it begins.
            user: is_foreign.then(|| format!("{AGENT}:{AGENT}")),
            working_dir: is_foreign.then(|| "/".to_owned()),
            hostname: Some("bundle".to_owned()),
            entrypoint: Some(vec![IN_IMAGE.to_owned()]),
            cmd: Some(vec!["init".to_owned()]),
            env: Some(self.env().iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(self.labels.clone()),
            host_config: Some(HostConfig {
                network_mode: Some(self.spec.name.clone()),
                // Without a way out it needs no other name, and must not have queries forwarded. With one all is as the host
                // has it: where anything is said here, the engine takes a resolver on the host's loopback for one on the
                // container's.
                dns: (!has_way_out).then(|| vec![self.at.bundle.to_string()]),
                dns_search: (!has_way_out).then(|| vec![".".to_owned()]),
                sysctls: has_way_out.then(way_out::sysctls),
                binds: self.binds_of_bundle(),
                mounts: self.looked_through(),
                tmpfs: Some(tmpfs),
                pids_limit: Some(self.spec.limits.pids),
                log_config: Some(log("json-file", &[("max-size", "1m"), ("max-file", "2")])),
                ..walls()
            }),
            networking_config: Some(self.seat(self.at.bundle, ALIASES)),
            ..ContainerCreateBody::default()
        }
    }

    /// Variables of the init and of the daemons.
    fn env(&self) -> BTreeMap<String, String> {
        let wanted = &self.spec.bundle;
        let mut env = BTreeMap::new();
        if wanted.image.is_some() {
            // What the image may say to an init of its own is not meant for this one.
            for name in [daemons::TABLE, supervise::RUN_DIR] {
                env.insert(name.to_owned(), String::new());
            }
            env.insert("HOME".to_owned(), "/tmp".to_owned());
        }
        env.extend(way_out::env(self.spec, self.at.bundle));
        env.insert(daemons::SELECTION.to_owned(), wanted.all_daemons().join(","));
        env.extend(wanted.env.clone());
        env
    }

    fn binds_of_bundle(&self) -> Option<Vec<String>> {
        let (name, wanted) = (&self.spec.name, &self.spec.bundle);
        let mut binds: Vec<_> = wanted.mounts.iter().map(bind).collect();
        if wanted.image.is_some() {
            binds.push(format!("{name}-toolbox:{FOLDER}:ro,nocopy"));
        }
        if wanted.looks_through {
            binds.push(format!("{name}-home:{LOOKED_THROUGH}/home:ro,nocopy"));
        }
        (!binds.is_empty()).then_some(binds)
    }

    /// What the person wants shown, for a daemon that looks through it. By numbers, side by side: one within another would need a
    /// folder to be made for it where nothing can be.
    fn looked_through(&self) -> Option<Vec<BindMount>> {
        let wanted = &self.spec.mounts;
        let is_wanted = self.spec.bundle.looks_through && !wanted.is_empty();
        let shown = (1..).zip(wanted).map(|(number, one): (u32, &Mount)| {
            let target = format!("{LOOKED_THROUGH}/{number}");
            mount(&Mount { target, writable: false, ..one.clone() })
        });
        is_wanted.then(|| shown.collect())
    }
}
