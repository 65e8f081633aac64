//! The sockets that processes hold, told from outside: whatever family they are of, and whether or not the kernel has a table
//! for it.

use std::fmt::Write as _;

use super::server::net_inode;
use crate::sys::xattr;

/// The sockets of every process that can be seen and is in this net namespace, a line each: the process, and what the kernel
/// calls the protocol.
pub(super) fn lines(net: u64) -> String {
    let mut lines = String::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return lines };
    for process in processes.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || net_inode(&pid) != Some(net) {
            continue;
        }
        // One that has just ended holds nothing.
        let Ok(held) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in held.flatten() {
            if let Some(protocol) = xattr::protocol(&descriptor.path()) {
                let _ = writeln!(lines, "{pid} {protocol}");
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn an_own_socket_is_seen_and_of_nobody_elsewhere() {
        let net = net_inode("self").unwrap();
        let own = format!("{} UDP", std::process::id());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let told = lines(net);
        assert!(told.lines().any(|line| line == own), "{told}");
        drop(socket);
        assert_eq!(lines(u64::MAX), "", "nobody is in a net namespace that is not there");
    }
}
