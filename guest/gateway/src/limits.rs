//! Room for connections: each takes a descriptor for its client and one for its server.

use claude_bottle_protocol::gateway::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: the listening socket, the runtime's, standard streams, look-ups under way.
const OTHERS: u64 = 64;

/// Raises the limit on open files as far as is allowed and needed. Where that is not far enough, there are fewer connections:
/// to run out of descriptors would stop everybody, and not the newest client alone.
pub(crate) fn make_room(limits: &mut Limits) {
    let wanted = (limits.connections as u64).saturating_mul(2).saturating_add(OTHERS);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let mut got = soft;
    if soft < wanted {
        let raised = wanted.min(hard);
        if setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() {
            got = raised;
        }
    }
    limits.connections = limits.connections.min(places(got));
}

/// How many connections fit into so many descriptors; at least one.
fn places(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_two_descriptors_and_one_always_fits() {
        assert_eq!(places(1024), 480);
        assert_eq!(places(10), 1);
        assert_eq!(places(u64::MAX), usize::try_from((u64::MAX - OTHERS) / 2).unwrap());
    }
}
