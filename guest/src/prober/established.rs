//! Use the connections that were there before the walls: whoever looks only at new ones lets them go on.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Inherited, Word};
use nix::sys::socket::SockType;

use super::Means;
use super::inherited::{self, Standing};

/// Sends the nonce over each inherited connection to the target. One that is not connected is another attempt's business.
pub(super) fn attempt(wanted: &Inherited, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    let Ok(ip) = wanted.target.host.parse::<IpAddr>() else { return Word::new(How::NotResolved) };
    let address = SocketAddr::new(ip, wanted.target.port);
    let mut told = None;
    let mut unused: usize = 0;
    for socket in means.inherited.iter() {
        match inherited::standing(socket, address) {
            Standing::Unconnected(_) | Standing::There(SockType::Datagram) => {}
            Standing::There(_) if inherited::is_ours(socket, wanted) => {
                let word = inherited::one(socket, address, nonce, until);
                told = Some(Word { dialled: Some(ip), ..word });
            }
            Standing::There(_) | Standing::Unknown => unused += 1,
        }
    }
    if unused > 0 {
        return inherited::not_used(unused);
    }
    told.unwrap_or_else(|| {
        let detail = Some("no connection was left open".into());
        Word { detail, ..Word::new(How::Unreachable) }
    })
}
