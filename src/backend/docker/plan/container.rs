//! What containers have in common.

use bollard::models::{
    HostConfig, HostConfigLogConfig, Mount as BindMount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::backend::docker::spec::Mount;

/// What all containers have in common.
pub(in crate::backend::docker) fn walls() -> HostConfig {
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..HostConfig::default()
    }
}

/// How a container's output is kept.
pub(in crate::backend::docker) fn log(
    driver: &str,
    options: &[(&str, &str)],
) -> HostConfigLogConfig {
    let options = options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options.collect()) }
}

/// A mount that need not be put into words.
pub(super) fn mount(Mount { source, target, writable }: &Mount) -> BindMount {
    BindMount {
        typ: Some(MountType::BIND),
        source: Some(source.clone()),
        target: Some(target.clone()),
        read_only: Some(!writable),
        ..BindMount::default()
    }
}

/// A mount, as the engine reads it.
pub(super) fn bind(Mount { source, target, writable }: &Mount) -> String {
    format!("{source}:{target}:{}", if *writable { "rw" } else { "ro" })
}
