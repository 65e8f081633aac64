//! How the private engine's `dockerd` is called, as data.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use claude_bottle_protocol::helper::Program;

/// The folder in memory that holds all that the engine writes, in its own mount namespace. It exists everywhere.
const FOLDER: &str = "/run";
/// Where the engine listens.
pub(super) const SOCKET: &str = "/run/docker.sock";
/// Where it says which process it is.
pub(super) const PID_FILE: &str = "/run/dockerd.pid";
/// The address of the default bridge, and its network: the first one that Docker itself takes.
const DEFAULT_BRIDGE: &str = "172.17.0.1/16";
/// The resolver of the engine's host. On loopback, as with dnsmasq or systemd-resolved: the engine then asks it from the
/// host's net namespace, whichever container wants to know (CVE-2024-29018).
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// `dockerd` in the net `net`, with containers in the control group `cgroup`.
pub(super) fn program(dockerd: &Path, net: &str, cgroup: &str) -> Program {
    let in_folder = |name: &str| format!("{FOLDER}/{name}");
    let arguments = [
        // Not the machine's own configuration.
        ("--config-file", in_folder("daemon.json")),
        ("--data-root", in_folder("data")),
        ("--exec-root", in_folder("exec")),
        ("--pidfile", PID_FILE.into()),
        ("--host", format!("unix://{SOCKET}")),
        ("--exec-opt", "native.cgroupdriver=cgroupfs".into()),
        ("--cgroup-parent", format!("/{cgroup}")),
        ("--bip", DEFAULT_BRIDGE.into()),
        ("--log-level", "error".into()),
    ];
    let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let path = std::env::var("PATH").unwrap_or_default();
    Program {
        net: net.into(),
        argv: [dockerd.display().to_string()].into_iter().chain(arguments).collect(),
        env: BTreeMap::from([("PATH".to_owned(), path)]),
        folder: Some(FOLDER.into()),
        files: BTreeMap::from([
            ("daemon.json".to_owned(), "{}\n".to_owned()),
            ("resolv.conf".to_owned(), format!("nameserver {RESOLVER}\n")),
        ]),
        shown: BTreeMap::from([("resolv.conf".to_owned(), "/etc/resolv.conf".to_owned())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_written_is_in_memory() {
        let program = program(Path::new("/usr/sbin/dockerd"), "host", "group");
        for flag in ["--config-file", "--data-root", "--exec-root", "--pidfile"] {
            let at = program.argv.iter().position(|argument| argument == flag).unwrap();
            assert!(program.argv[at + 1].starts_with("/run/"), "{flag}");
        }
        assert!(program.argv.contains(&"unix:///run/docker.sock".to_owned()));
    }
}
