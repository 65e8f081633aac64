//! The packet filter's tables over nfnetlink (`linux/netfilter/nf_tables.h`): make one, list them.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::failure::{Doing as _, Failure};

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of its messages' types.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWTABLE` and `NFT_MSG_GETTABLE`.
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: changes are made in batches.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
/// `NFTA_TABLE_NAME`.
const NAME: u16 = 1;
/// `NLMSG_ERROR` and `NLMSG_DONE` (`linux/netlink.h`).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The lengths of `struct nlmsghdr`, and of it with `struct nfgenmsg`.
const HEADER: usize = 16;
const HEADERS: usize = 20;

/// Makes a table without chains in the current net namespace: it filters nothing.
pub(crate) fn make_table(name: &str) -> Result<(), Failure> {
    let what = || format!("make the firewall table {name}");
    let socket = open()?;
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    let mut batch = message(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
    batch.extend(message(NEW_TABLE, flags, INET, 0, &attribute(NAME, name)));
    batch.extend(message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, &[]));
    send(socket.as_raw_fd(), &batch, MsgFlags::empty()).doing(what)?;
    let mut buffer = vec![0; 8192];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).doing(what)?;
    let (kind, payload, _) = split(&buffer[..length]).ok_or_else(|| Failure::new(what()))?;
    match errno(kind, payload) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw(errno)).doing(what),
        None => Err(Failure::new(what())),
    }
}

/// The tables of the current net namespace, a line each: the family's number, and the name.
pub(crate) fn tables() -> Result<String, Failure> {
    let what = || "list the firewall's tables".to_owned();
    let socket = open()?;
    let request = message(GET_TABLE, NLM_F_REQUEST | NLM_F_DUMP, 0, 0, &[]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).doing(what)?;
    let mut lines = String::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).doing(what)?;
        let mut rest = &buffer[..length];
        while let Some((kind, payload, next)) = split(rest) {
            match kind {
                DONE => return Ok(lines),
                ERROR => {
                    let errno = Errno::from_raw(errno(kind, payload).unwrap_or(0));
                    return Err(errno).doing(what);
                }
                _ => lines.extend(table(payload).map(|line| line + "\n")),
            }
            rest = next;
        }
        if length == 0 {
            return Ok(lines);
        }
    }
}

fn open() -> Result<OwnedFd, Failure> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)
        .doing(|| "open a netfilter socket".into())
}

/// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
fn message(kind: u16, flags: i32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend_from_slice(attributes);
    bytes
}

/// A string with its NUL byte, padded to four bytes.
fn attribute(kind: u16, text: &str) -> Vec<u8> {
    let length = 4 + text.len() + 1;
    let mut bytes = u16::try_from(length).unwrap_or(0).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The first message's type and payload, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let header = bytes.first_chunk::<HEADER>()?;
    let [l0, l1, l2, l3, t0, t1, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    let payload = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([t0, t1]), payload, rest))
}

/// The errno in an acknowledgement; 0: it was done.
fn errno(kind: u16, payload: &[u8]) -> Option<i32> {
    let code = i32::from_ne_bytes(*payload.first_chunk()?);
    (kind == ERROR).then_some(-code)
}

/// Family and name of a table, behind `struct nfgenmsg`.
fn table(payload: &[u8]) -> Option<String> {
    let family = payload.first()?;
    let mut rest = payload.get(HEADERS - HEADER..)?;
    loop {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == NAME {
            let name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value));
            return Some(format!("{family} {name}"));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_told_by_family_and_name() {
        let mut payload = vec![INET, 0, 0, 0];
        payload.extend(attribute(7, "other"));
        payload.extend(attribute(NAME, "cbprobe"));
        assert_eq!(table(&payload).as_deref(), Some("1 cbprobe"));
        for length in 0..payload.len() - 4 {
            assert_eq!(table(&payload[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let bytes = message(NEW_TABLE, 1, INET, 0, &attribute(NAME, "abc"));
        let (kind, payload, rest) = split(&bytes).unwrap();
        assert_eq!((kind, rest.len()), (NEW_TABLE, 0));
        assert_eq!(table(payload).as_deref(), Some("1 abc"));
        assert_eq!(split(&bytes[..bytes.len() - 1]), None);
        assert_eq!(errno(ERROR, &(-1_i32).to_ne_bytes()), Some(1));
        assert_eq!(errno(DONE, &[0; 4]), None);
    }
}
