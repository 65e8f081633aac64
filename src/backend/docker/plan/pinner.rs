//! Who pins the agent's routes.

use std::net::Ipv4Addr;

use bollard::models::{ContainerCreateBody, HostConfig};

use super::container::{log, walls};
use super::{FOLDER, HOME, IN_IMAGE, Make};

impl Make<'_> {
    /// Pins routes, and installs the packet filter.
    pub(super) fn pinner(&self) -> ContainerCreateBody {
        let holes = &self.spec.holes;
        // Of the 16 addresses the last one that is free; nobody has it.
        let nobody = Ipv4Addr::from(u32::from(self.subnet.broadcast()) - 1);
        let bundle = if holes.no_bundle_route { nobody } else { self.at.bundle };
        let addresses = [&[self.at.agent, bundle], &holes.also_reached[..]].concat();
        let mut arguments = vec!["pin".to_owned()];
        if !holes.filtered() {
            arguments.push("--routes-only".to_owned());
        }
        arguments.extend(addresses.iter().map(ToString::to_string));
        ContainerCreateBody {
            image: Some(self.toolbox.to_owned()),
            // To have the capability, and not only be allowed to.
            user: Some("0:0".to_owned()),
            entrypoint: Some(vec![IN_IMAGE.to_owned()]),
            cmd: Some(arguments),
            labels: Some(self.labels.clone()),
            host_config: Some(HostConfig {
                cap_add: Some(vec!["NET_ADMIN".to_owned()]),
                binds: self.spec.has_toolbox_volume().then(|| {
                    // That a volume is empty lets the engine fill it from the image; that of the home still is where the
                    // agent's image has nothing there, and gets its owner.
                    [("toolbox", FOLDER), ("home", HOME)]
                        .map(|(role, at)| format!("{}-{role}:{at}", self.spec.name))
                        .into()
                }),
                log_config: Some(log("json-file", &[("max-size", "16k")])),
                ..walls()
            }),
            ..ContainerCreateBody::default()
        }
    }
}
