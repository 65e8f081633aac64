//! The packet filter of a pinned net namespace: what is not between the agent and its bundle is dropped.
//!
//! Routes are no filter: a socket that is bound to an interface sends to every group and broadcast there, whatever the
//! routes say, and one that writes frames asks none at all. Two tables, since neither sees everything:
//!
//! | family | hooks | what it drops |
//! |---|---|---|
//! | `netdev` | what leaves by the one interface, frames of every kind included | all but IPv4 and ARP from the agent's address to the bundle's |
//! | `inet` | what leaves and what arrives, by whichever interface: also one that comes later | all but loopback, and IPv4 from one to the other |

use std::net::Ipv4Addr;

use crate::failure::Failure;
use crate::nftables::attribute::{Attribute, Value, hold, nested, number, text};
use crate::nftables::{self, INET, Kind, NAME, NETDEV, Thing};

/// The name of both tables.
const TABLE: &str = "claude-bottle";
/// `NFTA_TABLE_FLAGS`; with `NFT_TABLE_F_DORMANT` nothing of a table is in force.
const TABLE_FLAGS: u16 = 2;
/// `NFTA_CHAIN_TABLE`, `…_NAME`, `…_HOOK`, `…_POLICY`, `…_TYPE`.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
/// `NFTA_HOOK_HOOKNUM`, `…_PRIORITY`, `…_DEV`.
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
/// `NFTA_RULE_TABLE`, `…_CHAIN`, `…_EXPRESSIONS`.
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
/// `NF_DROP` and `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;
/// `NF_INET_LOCAL_IN`, `NF_INET_LOCAL_OUT`, `NF_NETDEV_EGRESS` (Linux 5.16).
const INPUT: u32 = 1;
const OUTPUT: u32 = 3;
const EGRESS: u32 = 1;
/// `NFT_META_PROTOCOL`, `NFT_META_IIF`, `NFT_META_OIF`, `NFT_META_NFPROTO`.
const PROTOCOL: u32 = 1;
const FROM_INTERFACE: u32 = 4;
const TO_INTERFACE: u32 = 5;
const FAMILY: u32 = 15;
/// Ethertypes.
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
/// Where a packet has its sender's and its recipient's address: IPv4 (RFC 791), ARP for it (RFC 826).
const IN_IPV4: (u32, u32) = (12, 16);
const IN_ARP: (u32, u32) = (14, 24);

/// Makes the filter, around the interface that leads to the bundle.
pub(super) fn install(interface: &str, agent: Ipv4Addr, peers: &[Ipv4Addr]) -> Result<(), Failure> {
    nftables::make(&wanted(interface, agent, peers), || {
        "make the packet filter (it takes nf_tables with the egress hook, Linux 5.16)".into()
    })
}

/// The filter must be as it was made. Further tables are no matter: what one drops no other lets through.
pub(super) fn verify(interface: &str, agent: Ipv4Addr, peers: &[Ipv4Addr]) -> Result<(), Failure> {
    for kind in [Kind::Table, Kind::Chain, Kind::Rule] {
        let wanted: Vec<_> =
            wanted(interface, agent, peers).into_iter().filter(|one| one.kind == kind).collect();
        let mut there = nftables::list(kind)?;
        there.retain(|(family, says)| is_ours(*family, says));
        if let Some(why) = differs(&there, &wanted) {
            return Err(Failure::new(format!("the packet filter is not as it was made: {why}")));
        }
    }
    Ok(())
}

/// Whether it belongs to a table of ours: the table's name is the first attribute of every kind.
fn is_ours(family: u8, says: &[u8]) -> bool {
    [INET, NETDEV].contains(&family) && hold(says, &[text(NAME, TABLE)])
}

fn differs(there: &[(u8, Vec<u8>)], wanted: &[Thing]) -> Option<String> {
    if there.len() != wanted.len() {
        let kind = wanted.first()?.kind;
        return Some(format!("{} of {kind:?} instead of {}", there.len(), wanted.len()));
    }
    // Tables and chains come in any order, rules in that of their chain.
    let mut left: Vec<_> = there.iter().collect();
    for one in wanted {
        let same = |(family, says): &&(u8, Vec<u8>)| *family == one.family && hold(says, &one.says);
        let Some(at) = left.iter().position(same) else {
            return Some(format!("a {:?} is missing", one.kind));
        };
        left.remove(at);
    }
    None
}

fn wanted(interface: &str, agent: Ipv4Addr, peers: &[Ipv4Addr]) -> Vec<Thing> {
    let mut all = Vec::new();
    for family in [NETDEV, INET] {
        let says = vec![text(NAME, TABLE), number(TABLE_FLAGS, 0)];
        all.push(Thing { kind: Kind::Table, family, says });
    }
    let arp = |peer: &Ipv4Addr| [is_protocol(ARP), between(IN_ARP, agent, *peer)].concat();
    let frame = |peer: &Ipv4Addr| [is_protocol(IPV4), between(IN_IPV4, agent, *peer)].concat();
    let out = |peer: &Ipv4Addr| [is_ipv4(), between(IN_IPV4, agent, *peer)].concat();
    let back = |peer: &Ipv4Addr| [is_ipv4(), between(IN_IPV4, *peer, agent)].concat();
    let chains: [(_, Vec<Vec<Expression>>); 3] = [
        (
            (NETDEV, "egress", EGRESS, Some(interface)),
            peers.iter().map(arp).chain(peers.iter().map(frame)).collect(),
        ),
        (
            (INET, "output", OUTPUT, None),
            [is_loopback(TO_INTERFACE)].into_iter().chain(peers.iter().map(out)).collect(),
        ),
        (
            (INET, "input", INPUT, None),
            [is_loopback(FROM_INTERFACE)].into_iter().chain(peers.iter().map(back)).collect(),
        ),
    ];
    for ((family, name, hook, device), rules) in chains {
        let device = device.map(|device| text(HOOK_DEVICE, device));
        let hook = vec![number(HOOK_NUMBER, hook), number(HOOK_PRIORITY, 0)];
        let says = vec![
            text(CHAIN_TABLE, TABLE),
            text(CHAIN_NAME, name),
            nested(CHAIN_HOOK, hook.into_iter().chain(device).collect()),
            number(CHAIN_POLICY, DROP),
            text(CHAIN_TYPE, "filter"),
        ];
        all.push(Thing { kind: Kind::Chain, family, says });
        all.extend(rules.into_iter().map(|mut expressions| {
            expressions.push(accept());
            let says = vec![
                text(RULE_TABLE, TABLE),
                text(RULE_CHAIN, name),
                Attribute(RULE_EXPRESSIONS, Value::List(expressions)),
            ];
            Thing { kind: Kind::Rule, family, says }
        }));
    }
    all
}

/// An expression: `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
type Expression = Vec<Attribute>;

fn expression(name: &str, data: Vec<Attribute>) -> Expression {
    vec![text(1, name), nested(2, data)]
}

/// `NFTA_META_DREG`, `NFTA_META_KEY`.
fn meta(key: u32) -> Expression {
    expression("meta", vec![number(1, REGISTER), number(2, key)])
}

/// `NFTA_PAYLOAD_DREG`, `…_BASE` (the network header), `…_OFFSET`, `…_LEN`.
fn payload(offset: u32, length: u32) -> Expression {
    const NETWORK_HEADER: u32 = 1;
    let base = number(2, NETWORK_HEADER);
    expression("payload", vec![number(1, REGISTER), base, number(3, offset), number(4, length)])
}

/// `NFTA_CMP_SREG`, `…_OP` (equal), `…_DATA` with `NFTA_DATA_VALUE`.
fn equals(bytes: &[u8]) -> Expression {
    let value = Attribute(1, Value::Bytes(bytes.to_vec()));
    expression("cmp", vec![number(1, REGISTER), number(2, 0), nested(3, vec![value])])
}

/// `NFTA_IMMEDIATE_DREG` (the verdict's), `…_DATA` with `NFTA_DATA_VERDICT` with `NFTA_VERDICT_CODE`.
fn accept() -> Expression {
    let verdict = nested(2, vec![number(1, ACCEPT)]);
    expression("immediate", vec![number(1, 0), nested(2, vec![verdict])])
}

fn is_protocol(ethertype: u16) -> Vec<Expression> {
    vec![meta(PROTOCOL), equals(&ethertype.to_be_bytes())]
}

/// In a table for both families.
fn is_ipv4() -> Vec<Expression> {
    /// `NFPROTO_IPV4`.
    const OF_IPV4: u8 = 2;
    vec![meta(FAMILY), equals(&[OF_IPV4])]
}

/// By `lo`, whose number is the same in every net namespace; it is compared as the kernel has it in memory.
fn is_loopback(interface: u32) -> Vec<Expression> {
    vec![meta(interface), equals(&crate::netlink::LOOPBACK.to_ne_bytes())]
}

fn between((from, to): (u32, u32), sender: Ipv4Addr, recipient: Ipv4Addr) -> Vec<Expression> {
    let address = |at, address: Ipv4Addr| [payload(at, 4), equals(&address.octets())];
    [address(from, sender), address(to, recipient)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::attribute::encode;

    const AGENT: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 3);
    const BUNDLE: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 2);

    fn rules(bundle: Ipv4Addr) -> Vec<Thing> {
        let all = wanted("eth0", AGENT, &[bundle]);
        all.into_iter().filter(|one| one.kind == Kind::Rule).collect()
    }

    fn there(things: &[Thing]) -> Vec<(u8, Vec<u8>)> {
        things.iter().map(|one| (one.family, encode(&one.says))).collect()
    }

    #[test]
    fn what_was_made_is_found_again_and_nothing_else_is() {
        let made = there(&rules(BUNDLE));
        assert_eq!(differs(&made, &rules(BUNDLE)), None);
        let other = rules(Ipv4Addr::new(10, 210, 0, 4));
        assert_eq!(differs(&made, &other).as_deref(), Some("a Rule is missing"));
        let more = [made.clone(), made[..1].to_vec()].concat();
        assert_eq!(differs(&more, &rules(BUNDLE)).as_deref(), Some("7 of Rule instead of 6"));
        assert!(differs(&made[1..], &rules(BUNDLE)).is_some());
    }

    #[test]
    fn a_dormant_table_and_an_accepting_chain_are_not_ours() {
        let all = wanted("eth0", AGENT, &[BUNDLE]);
        let of = |kind| all.iter().filter(|one| one.kind == kind).cloned().collect::<Vec<_>>();
        for (kind, attribute, value) in
            [(Kind::Table, TABLE_FLAGS, 1), (Kind::Chain, CHAIN_POLICY, ACCEPT)]
        {
            let mut changed = of(kind);
            let says = &mut changed[0].says;
            says.retain(|Attribute(own, _)| *own != attribute);
            says.push(number(attribute, value));
            assert_eq!(differs(&there(&of(kind)), &of(kind)), None);
            assert!(differs(&there(&changed), &of(kind)).is_some(), "{kind:?}");
        }
    }
}
