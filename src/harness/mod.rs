//! The libtest-mimic runners behind `cargo test --test probes`, `--test breaches` and `--test canaries`.
//!
//! There is one trial per backend and probe, named `namespace::loopback-reach`. The first trial of a backend launches
//! its bottle and makes the attempts of *all* selected probes in one batch; the others wait for it and take their part.
//!
//! Canaries ask about what others make, so no change of ours can break or mend them: their trials are ignored unless
//! `CLAUDE_BOTTLE_RUN_CANARIES=1` is set, as a scheduled job of their own does.
//!
//! # Known limitations and differences
//!
//! - Paths come from environment variables: `cargo test -- --flag` hands its flags to every test binary.
//! - Under cargo-nextest, which runs each trial in a process of its own and counts a trial that is ignored while it
//!   runs as passed, what this host cannot run is marked as ignored in the list; the JUnit file is nextest's to write.
//! - A filter that matches nothing exits with 0, as libtest does; a note on standard error says so.

mod batch;
mod breaches;
mod canaries;
mod probes;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

pub use self::breaches::breaches;
pub use self::canaries::canaries;
pub use self::probes::probes;
use crate::backend::lacking;
use crate::host::{Host, Requirement};
use crate::probe::catalogue::Catalogue;
use crate::probe::definition::Probe;
use crate::probe::definition::RunsOn;
use crate::probe::parse::Known;

/// The variable that names another folder of probe definitions.
pub const PROBES: &str = "CLAUDE_BOTTLE_PROBES";
/// The variable that names the JUnit file.
pub const JUNIT: &str = "CLAUDE_BOTTLE_JUNIT";
/// The variable that lets canaries run.
pub const RUN_CANARIES: &str = "CLAUDE_BOTTLE_RUN_CANARIES";
/// The variable that names another folder of canary definitions.
pub const CANARIES: &str = "CLAUDE_BOTTLE_CANARIES";
/// The variable that names the JUnit file of the canaries.
pub const CANARY_JUNIT: &str = "CLAUDE_BOTTLE_CANARY_JUNIT";

/// Whether cargo-nextest runs us.
fn under_nextest() -> bool {
    std::env::var_os("NEXTEST").is_some_and(|value| value == "1")
}

/// The probes of the folder in `CLAUDE_BOTTLE_PROBES`, of the package's own `probes/`, or those built in.
fn catalogue() -> Result<Catalogue, ExitCode> {
    let found = match folder(PROBES, "probes") {
        Some(folder) => Catalogue::discover(&folder, Known::all()),
        None => Catalogue::embedded(Known::all()),
    };
    found.map_err(|errors| {
        eprintln!("{errors}");
        ExitCode::from(2)
    })
}

/// The folder of definitions that the variable names, or else the package's own of this name, if there is one.
fn folder(variable: &str, own: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.or_else(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)?;
        Some(package.join(own)).filter(|folder| folder.is_dir())
    })
}

/// Where the JUnit file goes: to where the variable says, or else to `target/FOLDER/junit.xml` of this package,
/// wherever the target folder is.
fn junit_path(variable: &str, folder: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.unwrap_or_else(|| {
        let binary = std::env::current_exe().unwrap_or_default();
        let target = binary.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
        target.map_or_else(|| PathBuf::from("target"), PathBuf::from).join(folder).join("junit.xml")
    })
}

/// A trial for something that this host cannot run.
fn unmet(name: String, why: &str) -> Trial {
    if under_nextest() {
        return Trial::test(name, || Ok(())).with_ignored_flag(true);
    }
    let why = why.to_owned();
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why)))
}

/// Whether libtest's rules select the trial of this name.
fn selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &str| {
        if arguments.exact { name == filter } else { name.contains(filter) }
    };
    arguments.filter.as_deref().is_none_or(matches) && !arguments.skip.iter().any(|s| matches(s))
}

/// Says so when a filter matched nothing: libtest calls that a success.
fn note_nothing(arguments: &Arguments, any: bool) {
    if !any && !arguments.list {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        eprintln!("note: no trial matches {filter:?}; nothing was proven");
    }
}

/// What a trial ends with.
type Ended = Result<Completion, Failed>;

/// Why `probe` cannot run on `backend` here, if it cannot: what the backend lacks, else what the probe itself needs.
pub(crate) fn unmet_by(probe: &Probe, host: &Host, backend: &str) -> Option<String> {
    let own = || {
        let needs = probe.needs.iter().filter_map(|word| word.parse::<Requirement>().ok());
        let unmet: Vec<_> = needs.filter_map(|requirement| requirement.unmet(host)).collect();
        (!unmet.is_empty()).then(|| unmet.join("; "))
    };
    let unproven = || {
        let breaches = crate::backend::on(host, backend)?;
        let breaches = breaches.breaches();
        let leaks = match probe.runs_on(backend) {
            // The definition knows why.
            RunsOn::Skipped { because } => return Some(because.into_owned()),
            // A known leak shows by itself that it would be noticed.
            RunsOn::Runs { known_leak, .. } => known_leak.is_some(),
        };
        let proven =
            leaks || breaches.iter().any(|b| probe.proven_by.iter().any(|name| name == b.name()));
        (!proven).then(|| format!("no breach here: nothing on {backend} proves that it can fail"))
    };
    lacking(host, backend).or_else(own).or_else(unproven)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gate of the probe `vsock`, on machines that are made up.
    #[test]
    fn a_probe_runs_where_its_own_needs_are_met_too() {
        let catalogue = catalogue().unwrap();
        let (vsock, other) = (catalogue.get("vsock").unwrap(), catalogue.get("netlink").unwrap());
        let able = Host::bare().with(Requirement::Linux).with(Requirement::UserNamespaces);
        let reason =
            "needs vsock-loopback: the kernel has not loaded it (as root: modprobe vsock_loopback)";
        assert_eq!(unmet_by(vsock, &able, "namespace").as_deref(), Some(reason));
        assert_eq!(unmet_by(other, &able, "namespace"), None);
        let with = able.with(Requirement::VsockLoopback);
        assert_eq!(unmet_by(vsock, &with, "namespace"), None);
        // A definition's own reason says more than that no breach is there.
        let flow = catalogue.get("established-flow").unwrap();
        let docker = Host::bare().with(Requirement::Docker);
        let why = unmet_by(flow, &docker, "docker").unwrap();
        assert!(why.contains("an engine hands no connection"), "{why}");
        // What the backend lacks comes first.
        let bare = Host::bare().with(Requirement::VsockLoopback);
        let lacks = unmet_by(vsock, &bare, "namespace").unwrap();
        assert!(lacks.starts_with("needs user-namespaces"), "{lacks}");
    }
}
