//! A witness outside any lab: it opens its sockets itself, in the net namespace that it was started in.

use std::io::{self, Write as _};
use std::os::linux::fs::MetadataExt as _;
use std::process::ExitCode;

use claude_bottle_protocol::prober::SocketFile;
use claude_bottle_protocol::witness::{
    Listener, Opened, Transport, UnixListener, UnixName, Wanted,
};

use super::listener::Socket;
use crate::failure::{Doing as _, Failure};
use crate::helper::open_on_one_port;

/// Reads what to open, tells what it has opened, and serves until the end of its input.
pub(crate) fn alone() -> ExitCode {
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line).map_err(serde_json::Error::io);
    let wanted = read.and_then(|_| serde_json::from_str::<Wanted>(&line)).map_err(io::Error::from);
    match wanted.and_then(|wanted| open(&wanted)) {
        Ok(sockets) => super::serve(sockets),
        Err(error) => {
            eprintln!("witness: {error}");
            ExitCode::from(2)
        }
    }
}

/// What cannot be opened is told, and the others serve all the same.
fn open(wanted: &Wanted) -> io::Result<Vec<(u32, Socket)>> {
    let (mut opened, mut sockets) = (Opened::default(), Vec::new());
    let mut failed = |group: &[&Listener], failure: &Failure| {
        opened.failed.extend(group.iter().map(|one| (one.id, failure.to_string())));
    };
    let (mut frames, mut groups) = (Vec::new(), Vec::new());
    for group in &wanted.groups {
        let (here, others): (Vec<_>, Vec<_>) =
            group.iter().partition(|one| one.transport == Transport::Packet);
        frames.extend(here);
        groups.push(others);
    }
    for group in groups {
        match open_on_one_port(&group) {
            Ok(here) => sockets.extend(here),
            Err(failure) => failed(&group, &failure),
        }
    }
    // One socket takes them all.
    if let Some(first) = frames.first() {
        match Socket::open_frames(&frames) {
            Ok(socket) => sockets.push((first.id, socket)),
            Err(failure) => failed(&frames, &failure),
        }
    }
    for (id, socket) in &sockets {
        let listeners = socket.listeners(*id).unwrap_or_default().into_iter();
        opened.listening.extend(listeners.filter_map(|(id, address)| Some((id, address?))));
    }
    for one in &wanted.sockets {
        match open_unix(one) {
            Ok((socket, file)) => {
                sockets.push((one.id, socket));
                opened.files.extend(file.map(|file| (one.id, file)));
            }
            Err(failure) => opened.failed.push((one.id, failure.to_string())),
        }
    }
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, &opened)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(sockets)
}

fn open_unix(wanted: &UnixListener) -> Result<(Socket, Option<SocketFile>), Failure> {
    let socket = Socket::open_unix(wanted)?;
    let UnixName::Path(path) = &wanted.name else { return Ok((socket, None)) };
    // Whoever can see it may connect: that is what is asked.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(path, everybody).doing(|| format!("open {path} to everybody"))?;
    let file = std::fs::metadata(path).doing(|| format!("look at {path}"))?;
    Ok((socket, Some(SocketFile { device: file.st_dev(), inode: file.st_ino() })))
}
