//! Which role is asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};

/// Runs the role that the program's name (`supervise`) or its first argument asks for.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let role = if name == "supervise" { Some(name) } else { arguments.next() };
    run(role.as_deref(), &arguments.collect::<Vec<_>>())
}

fn run(role: Option<&str>, rest: &[String]) -> ExitCode {
    match role {
        Some("helper") => crate::helper::run(rest),
        Some("hold-namespaces") => crate::prober::escape::hold_namespaces(),
        Some("prober") => crate::prober::run(),
        Some("look") => crate::helper::look(),
        Some("init") => crate::init::main(rest),
        Some("pin") => crate::pinning::run(rest),
        Some("say") => say(rest),
        // Whoever can hand over no arguments gets a session.
        Some("session") | None => crate::session::run(rest),
        Some("within") => within(rest),
        Some("on-bridge") => on_bridge(rest),
        Some("witness") => crate::witness::alone(),
        Some("unpack") => crate::unpack::run(rest),
        Some("supervise") => crate::init::supervise(rest),
        Some("version") => {
            println!("{}", claude_bottle_protocol::VERSION);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("toolbox: unknown role; see the documentation of claude-bottle");
            ExitCode::from(2)
        }
    }
}

/// `within NAMESPACE ROLE …`: ROLE in the net namespace that the file NAMESPACE is.
fn within(arguments: &[String]) -> ExitCode {
    let [namespace, role, rest @ ..] = arguments else {
        eprintln!("toolbox: within NAMESPACE ROLE …");
        return ExitCode::from(2);
    };
    let entered =
        File::open(namespace).and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?));
    if let Err(error) = entered {
        eprintln!("toolbox: cannot enter the net namespace {namespace}: {error}");
        return ExitCode::FAILURE;
    }
    run(Some(role), rest)
}

/// `on-bridge BRIDGE ADDRESS PREFIX GATEWAY ROLE …`: ROLE in a net namespace of its own, on that bridge.
fn on_bridge(arguments: &[String]) -> ExitCode {
    let wanted = || {
        let [bridge, address, prefix, gateway, role, rest @ ..] = arguments else { return None };
        let address = (address.parse().ok()?, prefix.parse().ok()?);
        Some((bridge, address, gateway.parse().ok()?, role, rest))
    };
    let Some((bridge, address, gateway, role, rest)) = wanted() else {
        eprintln!("toolbox: on-bridge BRIDGE ADDRESS PREFIX GATEWAY ROLE …");
        return ExitCode::from(2);
    };
    if let Err(failure) = crate::on_bridge::move_to(bridge, address, gateway) {
        eprintln!("toolbox: cannot {failure}");
        return ExitCode::FAILURE;
    }
    run(Some(role), rest)
}

/// `say OUT ERR CODE`: OUT on standard output, ERR on standard error, CODE as the exit code.
fn say(arguments: &[String]) -> ExitCode {
    let [out, err, code] = arguments else {
        eprintln!("toolbox: say OUT ERR CODE");
        return ExitCode::from(2);
    };
    println!("{out}");
    eprintln!("{err}");
    ExitCode::from(code.parse().unwrap_or(2))
}

/// The bundle's init with `env` as its environment, as PID 1.
pub(crate) fn init(env: &BTreeMap<String, String>) -> ExitCode {
    crate::init::with_environment(env)
}

/// The session of a bottle whose walls stand. Its commands inherit the `left_open` descriptors from 3 on: none, but under
/// a breach.
pub(crate) fn session(left_open: usize) -> ExitCode {
    crate::session::in_bottle(crate::helper::TOOLBOX, left_open)
}
