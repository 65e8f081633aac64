//! The packet filter over nfnetlink (`linux/netfilter/nf_tables.h`): what a change says, and what is there.

pub(crate) mod attribute;

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use self::attribute::Attribute;
use crate::failure::{Doing as _, Failure};

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of its messages' types.
const SUBSYSTEM: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: changes are made in batches.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NLMSG_ERROR` and `NLMSG_DONE` (`linux/netlink.h`).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The lengths of `struct nlmsghdr`, and of it with `struct nfgenmsg`.
const HEADER: usize = 16;
const HEADERS: usize = 20;

/// `NFPROTO_INET`: IPv4 and IPv6.
pub(crate) const INET: u8 = 1;
/// `NFPROTO_NETDEV`: whatever crosses one interface.
pub(crate) const NETDEV: u8 = 5;

/// What a filter is made of, by the number of its `NFT_MSG_NEW…`, which `NFT_MSG_GET…` follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    /// A table.
    Table = 0,
    /// A chain.
    Chain = 3,
    /// A rule.
    Rule = 6,
}

/// Something of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    /// What it is.
    pub(crate) kind: Kind,
    /// The family that it is for.
    pub(crate) family: u8,
    /// What it says.
    pub(crate) says: Vec<Attribute>,
}

/// `NFTA_TABLE_NAME`.
pub(crate) const NAME: u16 = 1;

/// Makes a table without chains in the current net namespace: it filters nothing.
pub(crate) fn make_table(name: &str) -> Result<(), Failure> {
    let what = || format!("make the firewall table {name}");
    let says = vec![attribute::text(NAME, name)];
    make(&[Thing { kind: Kind::Table, family: INET, says }], what)
}

/// Makes all of it in the current net namespace, in one change, or nothing.
pub(crate) fn make(things: &[Thing], what: impl Fn() -> String) -> Result<(), Failure> {
    let socket = open()?;
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    let mut batch = message(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
    for Thing { kind, family, says } in things {
        // A rule goes behind those that are there.
        let flags = if *kind == Kind::Rule { flags | NLM_F_APPEND } else { flags };
        let own = SUBSYSTEM << 8 | *kind as u16;
        batch.extend(message(own, flags, *family, 0, &attribute::encode(says)));
    }
    batch.extend(message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, &[]));
    send(socket.as_raw_fd(), &batch, MsgFlags::empty()).doing(&what)?;
    let mut buffer = vec![0; 32 * 1024];
    let mut pending = things.len();
    while pending > 0 {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).doing(&what)?;
        let mut rest = &buffer[..length];
        while let Some((kind, payload, next)) = split(rest) {
            match errno(kind, payload) {
                Some(0) => pending = pending.saturating_sub(1),
                Some(errno) => return Err(Errno::from_raw(errno)).doing(what),
                None => return Err(Failure::new(what())),
            }
            rest = next;
        }
        if length == 0 {
            return Err(Failure::new(what()));
        }
    }
    Ok(())
}

/// Everything of this kind in the current net namespace: its family, and the bytes of its attributes.
pub(crate) fn list(kind: Kind) -> Result<Vec<(u8, Vec<u8>)>, Failure> {
    let what = || format!("list the firewall ({kind:?})");
    let socket = open()?;
    let own = SUBSYSTEM << 8 | (kind as u16 + 1);
    let request = message(own, NLM_F_REQUEST | NLM_F_DUMP, 0, 0, &[]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).doing(what)?;
    let mut listed = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).doing(what)?;
        let mut rest = &buffer[..length];
        while let Some((kind, payload, next)) = split(rest) {
            match kind {
                DONE => return Ok(listed),
                ERROR => {
                    let errno = Errno::from_raw(errno(kind, payload).unwrap_or(0));
                    return Err(errno).doing(what);
                }
                _ => listed.extend(family_and_attributes(payload)),
            }
            rest = next;
        }
        if length == 0 {
            return Ok(listed);
        }
    }
}

/// The tables of the current net namespace, a line each: the family's number, and the name.
pub(crate) fn tables() -> Result<String, Failure> {
    let tables = list(Kind::Table)?;
    Ok(tables.iter().filter_map(|(family, says)| table(*family, says)).collect())
}

fn table(family: u8, says: &[u8]) -> Option<String> {
    let name = attribute::find(says, NAME)?;
    let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name));
    Some(format!("{family} {name}\n"))
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

/// What is in and behind `struct nfgenmsg`.
fn family_and_attributes(payload: &[u8]) -> Option<(u8, Vec<u8>)> {
    Some((*payload.first()?, payload.get(HEADERS - HEADER..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_told_by_family_and_name() {
        let says = attribute::encode(&[attribute::text(7, "other"), attribute::text(NAME, "own")]);
        assert_eq!(table(INET, &says).as_deref(), Some("1 own\n"));
        for length in 0..says.len() {
            assert_eq!(table(INET, &says[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let says = attribute::encode(&[attribute::text(NAME, "abc")]);
        let bytes = message(SUBSYSTEM << 8, 1, INET, 0, &says);
        let (kind, payload, rest) = split(&bytes).unwrap();
        assert_eq!((kind, rest.len()), (SUBSYSTEM << 8, 0));
        assert_eq!(family_and_attributes(payload), Some((INET, says)));
        assert_eq!(split(&bytes[..bytes.len() - 1]), None);
        assert_eq!(errno(ERROR, &(-1_i32).to_ne_bytes()), Some(1));
        assert_eq!(errno(DONE, &[0; 4]), None);
    }
}
