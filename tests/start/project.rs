//! A folder with a manifest, and the program started in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use claude_bottle::manifest::FILE;
use tempfile::TempDir;

use crate::build::Build;

pub(crate) struct Project(TempDir);

impl Project {
    pub(crate) fn new(manifest: &Build) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Root's commands are nobody's.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.path().join(FILE), manifest.text()).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, below: &str) -> std::path::PathBuf {
        self.0.path().join(below)
    }

    /// `claude-bottle start smith …`
    pub(crate) fn start(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
        command.current_dir(self.0.path()).args(["start", "smith"]).args(arguments);
        command
    }

    pub(crate) fn sh(&self, script: &str) -> Output {
        self.start(&["--offline", "--", "sh", "-c", script]).output().unwrap()
    }
}

/// What it printed; it must have ended well.
#[track_caller]
pub(crate) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
