//! Network interfaces, asked one by one: the list that `getifaddrs(3)` fetches waits for the kernel's one lock on all
//! network configuration, which whoever takes net namespaces down beside us holds for seconds.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, SockaddrLike as _};

nix::ioctl_read_bad!(flags, libc::SIOCGIFFLAGS, libc::ifreq);
nix::ioctl_read_bad!(index, libc::SIOCGIFINDEX, libc::ifreq);
nix::ioctl_read_bad!(hardware, libc::SIOCGIFHWADDR, libc::ifreq);

/// The names of all interfaces, `lo` included.
pub(crate) fn names() -> std::io::Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    // Two lines of headings; then `  eth0: 1027 …`.
    let names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    Ok(names.map(ToOwned::to_owned).collect())
}

/// Where frames over the interface `name` go, and its hardware address; none where it is down, or loopback. `socket` is
/// any socket.
pub(crate) fn link(socket: BorrowedFd<'_>, name: &str) -> nix::Result<Option<(LinkAddr, [u8; 6])>> {
    let fd = socket.as_raw_fd();
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte is left for the NUL at its end.
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::ENODEV);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        // A character has a sign on some processors, and none on others.
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: each call reads the name and writes the union of one `ifreq` (netdevice(7)), the member read after it.
    let (flags, index, hardware) = unsafe {
        flags(fd, &raw mut request)?;
        let is = i32::from(request.ifr_ifru.ifru_flags);
        index(fd, &raw mut request)?;
        let number = request.ifr_ifru.ifru_ifindex;
        hardware(fd, &raw mut request)?;
        (is, number, request.ifr_ifru.ifru_hwaddr)
    };
    if flags & libc::IFF_UP == 0 || flags & libc::IFF_LOOPBACK != 0 {
        return Ok(None);
    }
    let bytes: [u8; 6] = std::array::from_fn(|at| hardware.sa_data[at].to_ne_bytes()[0]);
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(|_| Errno::EAFNOSUPPORT)?;
    address.sll_ifindex = index;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&bytes);
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: points to a whole `sockaddr_ll` of this length, whose family says so; it is copied.
    let link = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    Ok(link.map(|link| (link, bytes)))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn loopback_is_left_out_and_what_is_not_there_is_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(link(socket.as_fd(), "lo"), Ok(None));
        assert_eq!(link(socket.as_fd(), "no-such"), Err(Errno::ENODEV));
        assert_eq!(link(socket.as_fd(), "a-name-that-is-too-long"), Err(Errno::ENODEV));
    }
}
