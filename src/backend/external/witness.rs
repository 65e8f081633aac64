//! What this machine offers without being changed: its own addresses and sockets, each with a witness of this run.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use claude_bottle_protocol::prober::{Batch, Fuse};
use claude_bottle_protocol::witness::{
    ABSTRACT_PREFIX, Listener, Opened, Service, Transport, UnixListener, UnixName, Wanted,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::allowed::{AllowError, Allowed};
use crate::lab::{
    Address, Answers, Listening, Place, Role, Sites, StreamLines, Wiring, Witness, batch_line,
    converse, here,
};
use crate::probe::attempt::fresh_nonce;
use crate::probe::definition::Site;

/// Where controls come from.
const PLACE: &str = "this machine";
/// Why everything else is not dialled.
const NOTHING_ELSE: &str = "nothing is dialled but this machine's own addresses, at which witnesses of this run listen; \
                            --lab puts a world around the sandbox";
/// How long the witness may take to open its sockets.
const OPENING: Duration = Duration::from_secs(10);

/// Who serves the listeners, and dials them for controls.
#[derive(Debug, Clone)]
pub(super) enum Server {
    /// The toolbox at this path, a Linux program.
    Toolbox(PathBuf),
    /// This very process.
    This,
}

/// A witness on this machine's own addresses.
pub(super) struct Posted {
    pub(super) witness: Witness,
    pub(super) sites: Sites,
    pub(super) fuse: Fuse,
    /// The toolbox's process.
    _child: Option<Child>,
}

/// Has `server` open a witness; its sockets with paths are made in `folder`.
pub(super) async fn post(
    server: &Server,
    folder: &Path,
    allowed: &[Allowed],
) -> io::Result<Posted> {
    let wanted = wanted(folder, allowed);
    let (witness, opened, child) = match server {
        Server::Toolbox(toolbox) => {
            let (witness, opened, child) = by_toolbox(toolbox, &wanted).await?;
            (witness, opened, Some(child))
        }
        Server::This => {
            let (witness, opened) = here::open(&wanted)?;
            (witness, opened, None)
        }
    };
    let mut sites = sites(&wanted, &opened);
    sites.allowed = allowed.iter().map(|one| (one.address, one.transport)).collect();
    let first = allowed.first().map(|one| Ok((one.to(false)?, one.transport))).transpose();
    sites.sign_of_life = first.map_err(|error: AllowError| io::Error::other(error))?;
    let fuse = Fuse::Addresses(opened.listening.iter().map(|(_, address)| *address).collect());
    Ok(Posted { witness, sites, fuse, _child: child })
}

async fn by_toolbox(toolbox: &Path, wanted: &Wanted) -> io::Result<(Witness, Opened, Child)> {
    let mut child = toolbox_role(toolbox, "witness")?;
    let (Some(mut orders), Some(events)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let mut line = serde_json::to_vec(wanted)?;
    line.push(b'\n');
    orders.write_all(&line).await?;
    let mut events = BufReader::new(events);
    let mut line = String::new();
    tokio::time::timeout(OPENING, events.read_line(&mut line)).await??;
    let opened: Opened = serde_json::from_str(&line)?;
    Ok((Witness::new(events, orders), opened, child))
}

/// Has `server` run `batch` from this machine.
pub(super) async fn control(server: &Server, batch: &Batch) -> io::Result<Answers> {
    let Server::Toolbox(toolbox) = server else { return Ok(here::probe(batch).await) };
    let mut child = toolbox_role(toolbox, "prober")?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    input.write_all(&batch_line(batch)).await?;
    let answers = converse(batch, &mut StreamLines::new(output), |_| {}).await;
    child.wait().await?;
    Ok(answers)
}

fn toolbox_role(toolbox: &Path, role: &str) -> io::Result<Child> {
    let mut command = Command::new(toolbox);
    command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true).spawn()
}

/// Loopback first, then every other address that is this machine's.
fn addresses() -> Vec<IpAddr> {
    // Elsewhere the rest of 127.0.0.0/8 is nobody's.
    let second = cfg!(target_os = "linux").then_some(Ipv4Addr::new(127, 0, 0, 2));
    let loopback = [Ipv4Addr::LOCALHOST].into_iter().chain(second).map(IpAddr::from);
    loopback.chain(here::own_addresses()).collect()
}

fn wanted(folder: &Path, allowed: &[Allowed]) -> Wanted {
    let mut id = 0;
    let mut next = |transport, ip: IpAddr| {
        id += 1;
        Listener { id, transport, address: SocketAddr::new(ip, 0), service: Service::Echo }
    };
    let mut loopback = Vec::new();
    let mut groups = Vec::new();
    for ip in addresses() {
        let both = [Transport::Tcp, Transport::Udp].map(|transport| next(transport, ip));
        if ip.is_loopback() {
            // One port, however loopback is spelled.
            loopback.extend(both);
        } else {
            groups.push(both.to_vec());
        }
    }
    groups.insert(0, loopback);
    // Whoever shares this loopback can have names looked up, at whatever resolver is there.
    let resolver = [Transport::Tcp, Transport::Udp].map(|transport| {
        let listener = next(transport, Ipv4Addr::LOCALHOST.into());
        Listener { service: Service::Resolver, ..listener }
    });
    groups.push(resolver.into());
    for Allowed { address, transport } in allowed {
        let listener = next(*transport, address.ip());
        // Before any of the others takes that port.
        groups.insert(0, vec![Listener { address: *address, ..listener }]);
    }
    let path = folder.join("socket").to_string_lossy().into_owned();
    let sockets = vec![
        UnixListener {
            id: 10_000,
            name: UnixName::Abstract(format!("{ABSTRACT_PREFIX}{}", fresh_nonce())),
        },
        UnixListener { id: 10_001, name: UnixName::Path(path) },
    ];
    Wanted { groups, sockets }
}

fn sites(wanted: &Wanted, opened: &Opened) -> Sites {
    let mut sites = Sites::default();
    sites.nothing_else = Some(NOTHING_ELSE.into());
    let failure =
        |id| opened.failed.iter().find(|(failed, _)| *failed == id).map(|(_, why)| why.clone());
    for listener in wanted.groups.iter().flatten() {
        let Listener { id, transport, address, service } = *listener;
        let (site, port) = match (service, address.ip(), address.port()) {
            (Service::Resolver, ..) => (Site::Resolver, "dns".to_owned()),
            (_, ip, port) => {
                let site = if ip.is_loopback() { Site::RealLoopback } else { Site::HostGateway };
                (site, if port == 0 { "random".to_owned() } else { port.to_string() })
            }
        };
        match opened.listening.iter().find(|(known, _)| *known == id) {
            Some((_, bound)) => {
                let name = format!("{site} {transport}/{port}");
                let dialled_as = vec![bound.ip()];
                let at = Address::from(*bound);
                let one = Standing { id, name, transport, at, service, dialled_as };
                sites.add(site, &port, transport, one.listening());
            }
            None => sites.lacks(site, &port, transport, failure(id).unwrap_or_default()),
        }
    }
    for UnixListener { id, name } in &wanted.sockets {
        let (site, port, at) = match name {
            UnixName::Abstract(name) => {
                (Site::RealSockets, "abstract", Some(Address::Abstract(name.clone())))
            }
            UnixName::Path(path) => {
                let file = opened.files.iter().find(|(known, _)| known == id);
                let at = file.map(|(_, file)| Address::File { path: path.clone(), file: *file });
                (Site::HostSockets, "path", at)
            }
        };
        match (at, failure(*id)) {
            (Some(at), None) => {
                let (name, transport) = (format!("{site} unix/{port}"), Transport::Unix);
                let (service, dialled_as) = (Service::Echo, Vec::new());
                let one = Standing { id: *id, name, transport, at, service, dialled_as };
                sites.add(site, port, transport, one.listening());
            }
            (_, why) => sites.lacks(site, port, Transport::Unix, why.unwrap_or_default()),
        }
    }
    sites
}

/// The sandbox, and this machine with all that stands on it.
pub(super) fn wiring(sites: &Sites) -> Wiring {
    let of =
        |name: &str, role, addresses, sites| Place { name: name.into(), role, addresses, sites };
    let inet = sites.all().filter_map(|(.., one)| one.address.inet());
    let others: BTreeSet<_> = inet.map(|one| one.ip()).filter(|ip| !ip.is_loopback()).collect();
    let stands: BTreeSet<_> = sites.all().map(|(site, ..)| site).collect();
    let addresses = others.iter().map(ToString::to_string).collect();
    Wiring {
        places: vec![
            of("sandbox", Role::Bottle, Vec::new(), Vec::new()),
            of(PLACE, Role::Machine, addresses, stands.into_iter().collect()),
        ],
        wires: Vec::new(),
    }
}

/// A listener that stands, and whose controls dial it where it is.
struct Standing {
    id: u32,
    name: String,
    transport: Transport,
    at: Address,
    service: Service,
    dialled_as: Vec<IpAddr>,
}

impl Standing {
    fn listening(self) -> Listening {
        let Self { id, name, transport, at, service, dialled_as } = self;
        Listening {
            key: 0,
            id,
            name,
            transport,
            address: at.clone(),
            service,
            dialled_as,
            control: PLACE.into(),
            control_dials: at,
        }
    }
}
