//! The gateway: a bottle's one way out, a small forward proxy that lets through what its allow-list names.
//!
//! `gateway [--config FILE] [--until-eof]` reads [`Config`] (without the option from the variable `BOTTLE_GATEWAY`, or from
//! `/etc/gateway.json` if that is not set), takes over an inherited listening socket (`LISTEN_FDS=1`, descriptor 3) or listens
//! itself, writes a line `listening on …` and then one JSON line per decision. It ends on SIGTERM and SIGINT, and with
//! `--until-eof` at the end of its standard input.
//!
//! A lab that shows how the probes of a gateway fail makes it overlook something (`--weakness NAME`); it then says so on
//! standard error.

#![forbid(unsafe_code)]

mod address;
mod forward;
mod head;
mod heard;
mod hello;
mod host;
mod limits;
mod log;
mod refusal;
mod rules;
mod serve;
mod tunnel;
mod upstream;

use std::process::ExitCode;
use std::rc::Rc;

use claude_bottle_protocol::gateway::{CONFIG, Config, Weakness};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The file that is read where nothing else is named.
const FILE: &str = "/etc/gateway.json";
/// The longest configuration in bytes.
const LONGEST_CONFIG: u64 = 4 * 1024 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    config: Option<String>,
    until_eof: bool,
    weakness: Option<Weakness>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { config: None, until_eof: false, weakness: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--config" => {
                options.config = Some(arguments.next().ok_or("--config wants a file")?);
            }
            "--until-eof" => options.until_eof = true,
            "--weakness" => {
                let name = arguments.next().ok_or("--weakness wants a name")?;
                let mut all = Weakness::ALL.iter().copied();
                let weakness = all.find(|weakness| weakness.as_str() == name);
                options.weakness = Some(weakness.ok_or(format!("no weakness is called {name}"))?);
            }
            _ => return Err("usage: gateway [--config FILE] [--until-eof]".into()),
        }
    }
    Ok(options)
}

/// The configuration: that of the file, if one is named, else that of the variable, else that of the usual file.
fn read_config(file: Option<&str>) -> Result<Config, String> {
    let inherited = || std::env::var(CONFIG).ok().filter(|text| !text.is_empty());
    let (from, text) = match file.map_or_else(inherited, |_| None) {
        Some(text) => (CONFIG, text),
        None => read_file(file.unwrap_or(FILE))?,
    };
    serde_json::from_str(&text).map_err(|error| format!("{from}: {error}"))
}

/// A file's name and its text.
fn read_file(path: &str) -> Result<(&str, String), String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST_CONFIG).read_to_string(&mut text));
    read.map_err(|error| format!("{path}: {error}"))?;
    Ok((path, text))
}

fn run() -> Result<(), String> {
    let options = options()?;
    let mut config = read_config(options.config.as_deref())?;
    if let Some(weakness) = options.weakness {
        eprintln!("gateway: weakened on purpose ({})", weakness.as_str());
    }
    limits::make_room(&mut config.limits);
    let rules = rules::Rules::parse(&config.allow).map_err(|error| error.to_string())?;
    let inherited =
        listenfd::ListenFd::from_env().take_tcp_listener(0).map_err(|error| error.to_string())?;
    let listener = match (inherited, config.listen) {
        (Some(listener), _) => Ok(listener),
        (None, Some(address)) => std::net::TcpListener::bind(address),
        (None, None) => {
            return Err("no socket was inherited, and the configuration names no address".into());
        }
    };
    let listener = listener.map_err(|error| format!("cannot listen: {error}"))?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let Options { weakness, .. } = options;
        let upstream = upstream::Upstream::new(&config, rules, weakness)?;
        let limits = config.limits.clone();
        let gateway = Rc::new(serve::Gateway { upstream, limits, weakness });
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        // From here on whoever has read this may ask it to end.
        println!("listening on {address}");
        tokio::select! {
            () = serve::accept(listener, gateway) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = end_of_input(), if options.until_eof => {}
        }
        Ok(())
    });
    // A thread that reads standard input may still wait.
    runtime.shutdown_background();
    outcome
}

async fn end_of_input() {
    let mut buffer = [0; 256];
    let mut input = tokio::io::stdin();
    while matches!(input.read(&mut buffer).await, Ok(length) if length > 0) {}
}
