//! Pins a net namespace: the one route to the bundle, and a packet filter that lets nothing else through.

mod filter;
mod routes;

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};

use crate::failure::{Doing as _, Failure};
use crate::sys::interface;

const USAGE: &str = "pin [--look] [--there] [--routes-only] AGENT BUNDLE [OTHER…]";

/// `pin [--look] [--there] [--routes-only] AGENT BUNDLE [OTHER…]`: removes every IPv4 route of the main table but those to
/// BUNDLE and each OTHER on the link, which it adds if they are missing, and installs the packet filter; with `--look` it only
/// tells whether all that is so, with `--there` in the net namespace that standard input is open on, and with `--routes-only`
/// the routes are all that it minds. Refuses to touch a net namespace that is not AGENT's: one that does not have that
/// address.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let (flags, addresses): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let known = ["--look", "--there", "--routes-only"];
    let parsed: Result<Vec<Ipv4Addr>, _> = addresses.iter().map(|word| word.parse()).collect();
    let (Ok([agent, peers @ ..]), true) =
        (parsed.as_deref(), flags.iter().all(|flag| known.contains(flag)) && addresses.len() > 1)
    else {
        eprintln!("toolbox: {USAGE}");
        return ExitCode::from(2);
    };
    let has = |flag| flags.contains(&flag);
    let pinning = Pinning { agent: *agent, peers, routes_only: has("--routes-only") };
    let entered = if has("--there") { enter() } else { Ok(()) };
    let done = entered.and_then(|()| pinning.check());
    let done = done.and_then(|()| if has("--look") { Ok(()) } else { pinning.pin() });
    match done.and_then(|()| pinning.verify()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Enters the net namespace that standard input is open on.
fn enter() -> Result<(), Failure> {
    setns(std::io::stdin().as_fd(), CloneFlags::CLONE_NEWNET)
        .doing(|| "enter the net namespace of standard input".into())
}

struct Pinning<'a> {
    agent: Ipv4Addr,
    /// The bundle, and whoever else the agent may reach.
    peers: &'a [Ipv4Addr],
    routes_only: bool,
}

impl Pinning<'_> {
    /// The namespace must be the one that is meant.
    fn check(&self) -> Result<(), Failure> {
        let trie = fs::read_to_string("/proc/self/net/fib_trie");
        let trie = trie.doing(|| "read the addresses".into())?;
        let agent = self.agent;
        let leaf = format!("|-- {agent}");
        let mut lines = trie.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line == leaf && lines.next() == Some("/32 host LOCAL") {
                return Ok(());
            }
        }
        Err(Failure::new(format!("{agent} is no address of this net namespace: it is left alone")))
    }

    /// The filter first: from then on nothing leaves, whatever the routes are.
    fn pin(&self) -> Result<(), Failure> {
        let interface = routes::interface(self.peers[0])?;
        if !self.routes_only {
            filter::install(&interface, self.agent, self.peers)?;
        }
        routes::pin(self.peers, &interface)
    }

    /// The routes; one interface, no IPv6 beside loopback's, and the filter.
    fn verify(&self) -> Result<(), Failure> {
        routes::verify(self.peers)?;
        if self.routes_only {
            return Ok(());
        }
        no_ipv6()?;
        let interface = routes::interface(self.peers[0])?;
        if let Some(other) = up()?.into_iter().find(|name| *name != interface) {
            return Err(Failure::new(format!("there is another interface: {other}")));
        }
        filter::verify(&interface, self.agent, self.peers)
    }
}

fn no_ipv6() -> Result<(), Failure> {
    // Absent where the kernel has no IPv6.
    let v6 = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    match v6.lines().find(|line| !line.ends_with(" lo")) {
        Some(line) => Err(Failure::new(format!("there is IPv6: {line}"))),
        None => Ok(()),
    }
}

/// The interfaces that are up, but loopback.
fn up() -> Result<Vec<String>, Failure> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let socket = socket.doing(|| "open a socket".into())?;
    let names = interface::names().doing(|| "list the interfaces".into())?;
    let is_up = |name: &String| matches!(interface::link(socket.as_fd(), name), Ok(Some(_)));
    Ok(names.into_iter().filter(is_up).collect())
}
