//! The bundle's init: starts the selected daemons, keeps them up, tells their states, passes on what they say,
//! reaps every orphan and stops them all.
//!
//! | module | what it knows |
//! |---|---|
//! | [`options`] | the arguments, the environment, the daemon table |
//! | [`life`] | what becomes of a daemon when it starts, listens and ends |
//! | [`process`] | how a daemon is started; its output's pipes |
//! | [`knock`] | whether a daemon listens yet |
//! | [`lines`], [`log`] | output as harmless lines, and a log that is never waited for |
//! | [`answering`], [`asking`] | the two sides of `supervise status` |
//! | [`orphans`] | the children that are nobody's daemon |
//! | [`supervisor`] | the loop around all of it |
//! | [`stopping`] | the end of it |
//!
//! One thread, one `poll(2)`: nothing in here waits for anything else.

mod answering;
mod asking;
mod knock;
mod life;
mod lines;
mod log;
mod options;
mod orphans;
mod process;
mod stopping;
mod supervisor;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

pub(crate) use asking::supervise;

/// `init [--table FILE]`: runs until SIGTERM or SIGINT. 0: stopped; 1: the system refuses something that it cannot
/// do without; 2: what is asked for makes no sense.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    // First of all: PID 1 never hears a signal that it has neither blocked nor caught (pid_namespaces(7)).
    let signals = match supervisor::signals() {
        Ok(signals) => signals,
        Err(error) => {
            complain("init", &error);
            return ExitCode::from(1);
        }
    };
    let options = match options::Options::read(arguments, |name| std::env::var_os(name)) {
        Ok(options) => options,
        Err(error) => {
            complain("init", &error);
            return ExitCode::from(2);
        }
    };
    match supervisor::Supervisor::new(options, signals) {
        Ok(supervisor) => {
            supervisor.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain("init", &error);
            ExitCode::from(error.code())
        }
    }
}

/// [`main`] without arguments in a fork of another role, with `env` as the whole environment.
pub(crate) fn with_environment(env: &BTreeMap<String, String>) -> ExitCode {
    // `set_var` panics on these.
    let bad = |(name, value): &(&String, &String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    if let Some((name, _)) = env.iter().find(bad) {
        complain("init", &options::OptionsError::Variable(name.clone()));
        return ExitCode::from(2);
    }
    let old = std::env::vars_os().map(|(name, _)| name).collect();
    let new = env.iter().map(|(name, value)| (name.clone(), value.clone()));
    crate::sys::environment::replace(old, new);
    main(&[])
}

/// An error and its causes, as one harmless line on standard error.
fn complain(name: &str, error: &dyn std::error::Error) {
    let mut chain = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push_str(": ");
        chain.push_str(&error.to_string());
        cause = error.source();
    }
    let mut line = format!("{name} | ");
    lines::render(chain.as_bytes(), 0, &mut line);
    line.push('\n');
    // Nobody is left to hear that this failed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
