//! Which subnet a network gets.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The address with this number in a subnet.
pub(in crate::backend::docker) fn host_of(subnet: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + number)
}

/// The first /28 of `pool` that overlaps with none of `taken`.
pub(in crate::backend::docker) fn free_subnet(
    pool: Ipv4Net,
    taken: &[Ipv4Net],
    first: usize,
) -> Option<Ipv4Net> {
    let all: Vec<_> = pool.subnets(28).ok()?.collect();
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    let begin = first % all.len();
    let mut turn = all[begin..].iter().chain(&all[..begin]);
    // A default route holds every address, and is none of a network's own.
    let free = |subnet: &&Ipv4Net| {
        !taken.iter().any(|taken| taken.prefix_len() > 0 && overlaps(subnet, taken))
    };
    turn.find(free).copied()
}
