//! The toolbox: one static Linux program, many roles.
//!
//! | role | where it runs | what it does |
//! |---|---|---|
//! | `helper` | beside the launcher | makes user, net, mount and PID namespaces, and everything in them |
//! | `session` | in a bottle, as PID 1 or attached | starts commands, carries their streams |
//! | `prober` | in a bottle, or at a control's place | makes attempts |
//! | `witness` | in the lab, or beside the launcher | records every nonce that arrives |
//! | `init` | in a bundle, as PID 1 | starts, supervises and stops the daemons |
//! | `supervise` | in a bundle | asks the init for the daemons' states |
//! | `pin` | in a bottle's net namespace, outside of it otherwise | leaves the one route to the bundle, and drops all else |
//! | `within` | in a net namespace, outside of the bottle otherwise | enters it, and is another role there |
//! | `on-bridge` | beside a container | makes itself a net namespace on the container's bridge, and is another role there |
//! | `look` | in a net namespace, outside of the bottle otherwise | prints what there is to see of it |
//! | `unpack` | in a bottle | unpacks a tar stream |
//! | `say` | in a bottle | prints two words and exits with a code |
//! | `version` | anywhere | prints the version |

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the toolbox is a Linux program");
    std::process::exit(2);
}

#[cfg(target_os = "linux")]
mod dns;
#[cfg(target_os = "linux")]
mod failure;
#[cfg(target_os = "linux")]
mod forwarder;
#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod nftables;
#[cfg(target_os = "linux")]
mod on_bridge;
#[cfg(target_os = "linux")]
mod pinning;
#[cfg(target_os = "linux")]
mod prober;
#[cfg(target_os = "linux")]
mod roles;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod unpack;
#[cfg(target_os = "linux")]
mod witness;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    roles::main()
}
