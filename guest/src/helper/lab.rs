//! Makes a lab: net namespaces, the wires between them, and the witness's listeners in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::fs::MetadataExt as _;

use claude_bottle_protocol::helper::{End, Lab, Net, PlacedUnix};
use claude_bottle_protocol::prober::SocketFile;
use claude_bottle_protocol::witness::{Listener, Transport, UnixName};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::failure::{Doing as _, Failure};
use crate::netlink::{self, Netlink};
use crate::sys::namespace;
use crate::witness::listener::Socket;

/// What the maker of a lab tells the helper; the net namespaces' descriptors travel beside it, in the same order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Name and inode number of each net namespace.
    pub(crate) nets: Vec<(String, u64)>,
    /// Each listener's address.
    pub(crate) listening: BTreeMap<u32, SocketAddr>,
    /// Which file each Unix socket with a path is.
    pub(crate) files: BTreeMap<u32, SocketFile>,
    /// The cookie of each net namespace, where the kernel tells.
    pub(crate) cookies: Vec<u64>,
}

/// A lab that stands: the namespaces live as long as their descriptors.
pub(crate) struct Standing {
    /// What to tell the helper.
    pub(crate) made: Made,
    /// The namespaces.
    pub(crate) nets: Vec<OwnedFd>,
    /// The listeners.
    pub(crate) sockets: Vec<(u32, Socket)>,
}

/// One net namespace under construction.
struct Site<'a> {
    net: &'a Net,
    namespace: OwnedFd,
    inode: u64,
    cookie: Option<u64>,
    netlink: Netlink,
    /// Interface names; the number of each is its index here plus one.
    interfaces: Vec<String>,
}

/// Makes `lab`, with `adopted` as the descriptors of its adopted listeners. The calling process must have one thread and capabilities in its user namespace; it ends in the last
/// net namespace made.
pub(crate) fn make(lab: &Lab, adopted: Vec<OwnedFd>) -> Result<Standing, Failure> {
    // A limit on open files makes the kernel leave some out.
    let vsock = lab.adopted_vsock.iter();
    let wanted = lab.adopted.len() + lab.adopted_sockets.len() + vsock.len();
    let came = adopted.len();
    if wanted != came {
        return Err(Failure::new(format!("take over {wanted} listeners: {came} descriptors came")));
    }
    let mut listeners = Listeners::default();
    let mut adopted = adopted.into_iter();
    for (listener, descriptor) in lab.adopted.iter().zip(adopted.by_ref()) {
        listeners.add(listener.id, Socket::adopt(listener, descriptor)?)?;
    }
    for (listener, descriptor) in lab.adopted_sockets.iter().zip(adopted.by_ref()) {
        listeners.add(listener.id, Socket::adopt_unix(listener, descriptor)?)?;
    }
    for (listener, descriptor) in vsock.zip(adopted) {
        listeners.add(listener.id, Socket::adopt_vsock(descriptor)?)?;
    }
    if let Some(folder) = &lab.folder {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), folder.as_str(), Some("tmpfs"), flags, Some("mode=755"))
            .doing(|| format!("mount a tmpfs on {folder}"))?;
    }
    let mut sites = Vec::new();
    for net in &lab.nets {
        sites.push(Site::make(net)?);
    }
    wire(lab, &mut sites)?;
    for site in &mut sites {
        site.furnish()?;
    }
    for site in &mut sites {
        site.await_wires()?;
    }
    for site in &sites {
        let name = &site.net.name;
        if lab.listeners.iter().any(|placed| placed.net == *name)
            || lab.sockets.iter().any(|placed| placed.net == *name)
        {
            setns(site.namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .doing(|| format!("enter the net namespace {}", site.net.name))?;
            listeners.open(lab, &site.net.name)?;
        }
    }
    let nets = sites.iter().map(|site| (site.net.name.clone(), site.inode)).collect();
    let cookies = sites.iter().filter_map(|site| site.cookie).collect();
    let Listeners { listening, files, sockets } = listeners;
    Ok(Standing {
        made: Made { nets, listening, files, cookies },
        nets: sites.into_iter().map(|site| site.namespace).collect(),
        sockets,
    })
}

/// Makes the veth pairs, each from its first end's namespace.
fn wire(lab: &Lab, sites: &mut [Site<'_>]) -> Result<(), Failure> {
    for link in &lab.links {
        let (a, b) = (number(sites, &link.a)?, number(sites, &link.b)?);
        let peer =
            sites[b.0].namespace.try_clone().doing(|| "copy a namespace's descriptor".into())?;
        let request =
            netlink::veth((&link.a.interface, a.1), (&link.b.interface, b.1, peer.as_fd()));
        sites[a.0].netlink.apply(vec![request])?;
    }
    Ok(())
}

/// The site that an end is in, and the number its interface gets there.
fn number(sites: &mut [Site<'_>], end: &End) -> Result<(usize, u32), Failure> {
    let index = sites
        .iter()
        .position(|site| site.net.name == end.net)
        .ok_or_else(|| Failure::new(format!("wire the net namespace {}: no such", end.net)))?;
    let interfaces = &mut sites[index].interfaces;
    interfaces.push(end.interface.clone());
    Ok((index, u32::try_from(interfaces.len()).unwrap_or(u32::MAX)))
}

impl<'a> Site<'a> {
    fn make(net: &'a Net) -> Result<Self, Failure> {
        match net.of_process {
            None => unshare(CloneFlags::CLONE_NEWNET).doing(|| "unshare a net namespace".into())?,
            Some(process) => enter_that_of(process)?,
        }
        let namespace =
            File::open("/proc/self/ns/net").doing(|| "open the new net namespace".into())?;
        let inode =
            namespace.metadata().doing(|| "read the net namespace's inode".into())?.st_ino();
        let netlink = Netlink::open()?;
        let site = Self {
            net,
            namespace: namespace.into(),
            inode,
            cookie: namespace::cookie(netlink.as_fd()).ok(),
            netlink,
            interfaces: vec!["lo".into()],
        };
        if net.of_process.is_none() {
            site.write_sysctls()?;
        }
        Ok(site)
    }

    /// Before any interface exists, so that each inherits the right defaults.
    fn write_sysctls(&self) -> Result<(), Failure> {
        let off = if self.net.ipv6 { "0" } else { "1" };
        let forward = if self.net.forward { "1" } else { "0" };
        let own = [
            ("ipv6/conf/all/disable_ipv6", off),
            ("ipv6/conf/default/disable_ipv6", off),
            ("ipv6/conf/lo/disable_ipv6", off),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/all/forwarding", forward),
            ("ipv4/ip_forward", forward),
            // The host's own choice is inherited otherwise, and would decide what a breach shows.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            // Whoever is sent a redirect is told of no error for a while (`ip_rt_send_redirect` takes the tokens of `ip_error`).
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            // Every refused datagram is answered, however many there are.
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv6/icmp/ratelimit", "0"),
        ];
        let wanted = self.net.sysctls.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in own.into_iter().chain(wanted) {
            match std::fs::write(format!("/proc/sys/net/{key}"), value) {
                // A kernel without IPv6 has no such switch.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                written => written.doing(|| format!("set net.{}", key.replace('/', ".")))?,
            }
        }
        Ok(())
    }

    /// Sets the interfaces up and gives them addresses and routes.
    fn furnish(&mut self) -> Result<(), Failure> {
        if self.net.of_process.is_some() {
            return Ok(());
        }
        let mut requests: Vec<_> =
            (1..).zip(&self.interfaces).map(|(index, _)| netlink::up(index)).collect();
        for address in &self.net.addresses {
            requests.push(netlink::address(self.index(&address.interface)?, address));
        }
        for route in &self.net.routes {
            requests.push(netlink::route(self.index(&route.interface)?, route));
        }
        self.netlink.apply(requests)
    }

    fn index(&self, interface: &str) -> Result<u32, Failure> {
        let index = self.interfaces.iter().position(|known| known == interface);
        let index = index.ok_or_else(|| {
            Failure::new(format!("find the interface {interface} in {}", self.net.name))
        })?;
        Ok(u32::try_from(index + 1).unwrap_or(u32::MAX))
    }

    /// A veth carries nothing until both ends are up; a packet sent before is lost.
    fn await_wires(&mut self) -> Result<(), Failure> {
        for (index, name) in
            (1..).zip(&self.interfaces).filter(|(index, _)| *index != netlink::LOOPBACK)
        {
            if !self.netlink.comes_up(index)? {
                return Err(Failure::new(format!(
                    "wait for {name} in {} to come up",
                    self.net.name
                )));
            }
        }
        Ok(())
    }
}

/// Enters the net namespace of a process that another maker has started.
fn enter_that_of(process: u32) -> Result<(), Failure> {
    let what = || format!("enter the net namespace of process {process}");
    let namespace = File::open(format!("/proc/{process}/ns/net")).doing(what)?;
    setns(namespace, CloneFlags::CLONE_NEWNET).doing(what)
}

/// How many ports are tried for listeners that must share one.
const PORTS_TRIED: usize = 64;

#[derive(Default)]
struct Listeners {
    listening: BTreeMap<u32, SocketAddr>,
    files: BTreeMap<u32, SocketFile>,
    sockets: Vec<(u32, Socket)>,
}

impl Listeners {
    /// Opens those of `net`, which this process must be in.
    fn open(&mut self, lab: &Lab, net: &str) -> Result<(), Failure> {
        let mut groups: BTreeMap<u32, Vec<&Listener>> = BTreeMap::new();
        let mut frames = Vec::new();
        for placed in lab.listeners.iter().filter(|placed| placed.net == net) {
            match placed.same_port {
                Some(group) => groups.entry(group).or_default().push(&placed.listener),
                None if placed.listener.transport == Transport::Packet => {
                    frames.push(&placed.listener);
                }
                None => self.add(placed.listener.id, Socket::open(&placed.listener)?)?,
            }
        }
        if let Some(first) = frames.first() {
            self.add(first.id, Socket::open_frames(&frames)?)?;
        }
        for group in groups.values() {
            for (id, socket) in open_on_one_port(group)? {
                self.add(id, socket)?;
            }
        }
        for PlacedUnix { listener, .. } in lab.sockets.iter().filter(|placed| placed.net == net) {
            self.add(listener.id, Socket::open_unix(listener)?)?;
            if let UnixName::Path(path) = &listener.name {
                let file = std::fs::metadata(path).doing(|| format!("look at {path}"))?;
                let file = SocketFile { device: file.st_dev(), inode: file.st_ino() };
                self.files.insert(listener.id, file);
            }
        }
        Ok(())
    }

    fn add(&mut self, id: u32, socket: Socket) -> Result<(), Failure> {
        let listeners = socket.listeners(id)?.into_iter();
        self.listening.extend(listeners.filter_map(|(id, address)| Some((id, address?))));
        self.sockets.push((id, socket));
        Ok(())
    }
}

/// Opens a group of listeners on the port of the first one. Where that is 0, ports are tried until one is free for all.
pub(crate) fn open_on_one_port(group: &[&Listener]) -> Result<Vec<(u32, Socket)>, Failure> {
    let mut last = Failure::new("share a port");
    for _ in 0..PORTS_TRIED {
        match open_on_the_port_of_the_first(group) {
            Err(failure) if failure.errno == nix::libc::EADDRINUSE => last = failure,
            opened => return opened,
        }
    }
    Err(last)
}

fn open_on_the_port_of_the_first(group: &[&Listener]) -> Result<Vec<(u32, Socket)>, Failure> {
    let mut opened = Vec::new();
    // 0: whichever is free.
    let mut port = group.first().map_or(0, |first| first.address.port());
    for listener in group {
        let mut wanted = (*listener).clone();
        wanted.address.set_port(port);
        let socket = Socket::open(&wanted)?;
        port = socket.address()?.map_or(0, |address| address.port());
        opened.push((listener.id, socket));
    }
    Ok(opened)
}
