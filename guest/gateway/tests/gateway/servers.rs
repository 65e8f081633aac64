//! Servers for it to reach, and one that it asks for names.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A server that answers each connection with what it got, and tells how many there were.
pub(crate) fn server() -> (u16, Receiver<String>) {
    let (address, told) = server_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    (address.port(), told)
}

/// As [`server`], at this address.
pub(crate) fn server_at(address: SocketAddr) -> std::io::Result<(SocketAddr, Receiver<String>)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap_or(0);
            let got = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
            if tell.send(got).is_err() {
                return;
            }
        }
    });
    Ok((address, told))
}

/// A server that keeps each connection, and sends back what comes over it.
pub(crate) fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    port
}

/// A resolver that has these addresses for these names: the first list for the first query, the next for the next, the last
/// for ever. Returns what it is asked for: names with `A` or `AAAA`.
pub(crate) fn resolver(names: &[(&str, &[&[&str]])]) -> (SocketAddr, Receiver<String>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    let names: BTreeMap<String, Vec<Vec<IpAddr>>> = names
        .iter()
        .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(parse).collect()))
        .collect();
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut asked: BTreeMap<(String, u8), usize> = BTreeMap::new();
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            let Some((name, kind, end)) = question(query) else { continue };
            let all = names.get(&name).map(Vec::as_slice).unwrap_or_default();
            let turn = asked.entry((name.clone(), kind)).or_default();
            let addresses = all.get(*turn).or(all.last()).cloned().unwrap_or_default();
            *turn += 1;
            let _ = socket.send_to(&answer(query, end, kind, &addresses), from);
            let word = if kind == 1 { "A" } else { "AAAA" };
            if tell.send(format!("{name} {word}")).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// The answer to a query for one of these addresses' kind.
pub(crate) fn answered(query: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
    let (_, kind, end) = question(query).unwrap();
    answer(query, end, kind, addresses)
}

/// The name in a query, the kind of address that is asked for, and where the question ends (RFC 1035 §4.1.2).
fn question(query: &[u8]) -> Option<(String, u8, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    Some((labels.join("."), *query.get(at + 1)?, at + 4))
}

fn answer(query: &[u8], end: usize, kind: u8, addresses: &[IpAddr]) -> Vec<u8> {
    let data = |ip: &IpAddr| match (kind, ip) {
        (1, IpAddr::V4(v4)) => Some(v4.octets().to_vec()),
        (28, IpAddr::V6(v6)) => Some(v6.octets().to_vec()),
        _ => None,
    };
    let records: Vec<_> = addresses.iter().filter_map(data).collect();
    let count = u8::try_from(records.len()).unwrap();
    let mut message =
        [&query[..2], &[0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0], &query[12..end]].concat();
    for data in records {
        // The name is that of the question; to be forgotten at once.
        message.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).unwrap()]);
        message.extend(data);
    }
    message
}
