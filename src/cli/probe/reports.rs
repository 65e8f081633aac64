//! The reports that a run of probes leaves behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use crate::probe::outcome::RunOutcome;
use crate::report::compare::Change;
use crate::report::json::{Context, Report};
use crate::report::{file, html, junit, markdown};

/// Where reports go.
#[derive(Debug, Args)]
pub(super) struct Reports {
    /// Write a JUnit report here.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["breach", "explain"])]
    junit: Option<PathBuf>,
    /// Write the whole result as JSON here: `schema report` prints its schema.
    #[arg(long, value_name = "FILE", conflicts_with = "explain")]
    json: Option<PathBuf>,
    /// Write a summary in GitHub's Markdown here. Where GITHUB_STEP_SUMMARY is set, it is appended there as well.
    #[arg(long, value_name = "FILE", conflicts_with = "explain")]
    markdown: Option<PathBuf>,
    /// Write a page to look at here: a drawing of the run, what leaked, every attempt. It loads nothing and has no script.
    #[arg(long, value_name = "FILE", conflicts_with = "explain")]
    html: Option<PathBuf>,
    /// Compare with this JSON report of an earlier run, tell what has changed, and fail only where something got worse.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["breach", "explain"])]
    baseline: Option<PathBuf>,
}

impl Reports {
    /// The report to compare with. Read before anything is launched: it may be the file that is written afterwards.
    pub(super) fn baseline(&self) -> anyhow::Result<Option<Report>> {
        self.baseline.as_deref().map(read).transpose()
    }

    /// Writes each that is wanted, whatever is wrong with the others.
    pub(super) fn write(
        &self,
        report: &Report,
        changes: Option<&[Change]>,
        runs: &[RunOutcome],
        started: SystemTime,
    ) -> anyhow::Result<()> {
        let write = |path: &Option<PathBuf>, bytes: &dyn Fn() -> Vec<u8>| -> anyhow::Result<()> {
            if let Some(path) = path {
                file::write_atomic(path, &bytes())?;
            }
            Ok(())
        };
        let markdown = || markdown::render(report, changes);
        let written = [
            write(&self.junit, &|| junit::to_xml(runs, started)),
            write(&self.json, &|| report.to_json().into_bytes()),
            write(&self.markdown, &|| markdown().into_bytes()),
            write(&self.html, &|| html::render(report, changes).into_bytes()),
            file::append_to_job_summary(markdown).map_err(Into::into),
        ];
        written.into_iter().collect()
    }
}

/// Reads a JSON report.
pub(in crate::cli) fn read(path: &Path) -> anyhow::Result<Report> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Report::read(&bytes).with_context(|| path.display().to_string())
}

/// What is known of the circumstances.
pub(super) fn context(started: SystemTime) -> Context {
    Context {
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        host: host_facts(),
    }
}

fn host_facts() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
    ]);
    if let Ok(kernel) = std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        facts.insert("kernel".to_owned(), kernel.trim().to_owned());
    }
    facts
}
