//! Which probes are meant, and what keeps some of them from running here.

use std::fmt::Write as _;

use super::super::print;
use super::Arguments;
use crate::backend::{self, Backend};
use crate::harness;
use crate::host::Host;
use crate::probe::catalogue::Catalogue;
use crate::probe::definition::Probe;
use crate::probe::outcome::{ProbeOutcome, RunOutcome};
use crate::probe::parse::Known;
use crate::probe::selection::Filters;

/// The probes that are meant.
pub(super) struct Selection {
    host: Host,
    probes: Vec<Probe>,
}

impl Selection {
    /// Reads the definitions and selects. None: they are wrong, and it was said how.
    pub(super) fn make(arguments: &Arguments) -> anyhow::Result<Option<Self>> {
        let catalogue = match &arguments.probes {
            Some(folder) => Catalogue::discover(folder, Known::all()),
            None => Catalogue::embedded(Known::all()),
        };
        let catalogue = match catalogue {
            Ok(catalogue) => catalogue,
            Err(errors) => {
                print::err(&errors.to_string());
                return Ok(None);
            }
        };
        let filters = Filters {
            names: arguments.filters.clone(),
            exact: arguments.exact,
            tags: arguments.tag.clone(),
        };
        let probes = catalogue.select(&filters)?.into_iter().cloned().collect();
        let mut host = Host::detect();
        if let Some(engine) = arguments.engine.as_deref() {
            host.engine = Ok(engine.parse().ok());
        }
        Ok(Some(Self { host, probes }))
    }

    /// All of them, whether they can run here or not.
    pub(super) fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The backend with this name here, if this build has it.
    pub(super) fn backend(&self, name: &str) -> Option<Box<dyn Backend>> {
        backend::on(&self.host, name)
    }

    /// Those that can run on `backend` here.
    pub(super) fn runnable(&self, backend: &str) -> Vec<Probe> {
        let can = |probe: &&Probe| harness::unmet_by(probe, &self.host, backend).is_none();
        self.probes.iter().filter(can).cloned().collect()
    }

    /// Those that cannot, each with the reason.
    pub(super) fn skipped(&self, backend: &str) -> Vec<RunOutcome> {
        let skipped = |probe: &Probe| {
            let why = harness::unmet_by(probe, &self.host, backend)?;
            Some(ProbeOutcome::skipped(probe, why))
        };
        let skipped: Vec<_> = self.probes.iter().filter_map(skipped).collect();
        if skipped.is_empty() {
            return Vec::new();
        }
        vec![RunOutcome::of_skipped(backend, skipped)]
    }

    /// One line per probe; below it why it cannot run, where it cannot.
    pub(super) fn list(&self, backends: &[String]) -> String {
        let widest = self.probes.iter().map(|probe| probe.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for probe in &self.probes {
            let _ = writeln!(text, "{:widest$}  {}", probe.name, probe.title);
            for name in backends.iter().filter(|name| backend::NAMES.contains(&name.as_str())) {
                if let Some(why) = harness::unmet_by(probe, &self.host, name) {
                    let _ = writeln!(text, "{:widest$}  not on {name}: {why}", "");
                }
            }
        }
        text
    }
}
