//! A folder with a manifest, and the program started in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use claude_bottle::manifest::FILE;
use serde_json::json;
use tempfile::TempDir;

use crate::build::Build;
use crate::engine::{IMAGE, Private};
use crate::trials::needs_user_namespaces;

/// Where bottles are started.
#[derive(Clone, Copy)]
pub(crate) enum On {
    Namespace,
    Docker(&'static Private),
}

impl On {
    /// On the embedded backend. The test ends as ignored where that cannot be, and so it does with the other one.
    pub(crate) fn namespace() -> Self {
        needs_user_namespaces();
        Self::Namespace
    }

    pub(crate) fn docker() -> Self {
        Self::Docker(Private::shared())
    }
}

/// Tests that are made on each backend that starts bottles, as trials.
macro_rules! on_each_backend {
    ($($test:ident),* $(,)?) => {
        [$(
            $crate::trials::trial(concat!(module_path!(), "::", stringify!($test)), || {
                $test($crate::project::On::namespace());
            }),
            $crate::trials::trial(concat!(module_path!(), "::on_docker::", stringify!($test)), || {
                $test($crate::project::On::docker());
            }),
        )*]
    };
}
pub(crate) use on_each_backend;

pub(crate) struct Project {
    folder: TempDir,
    on: On,
}

impl Project {
    pub(crate) fn new(manifest: &Build) -> Self {
        Self::on(On::Namespace, manifest)
    }

    pub(crate) fn on(on: On, manifest: &Build) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Root's commands are nobody's, and on an engine those of some other user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let manifest = match on {
            On::Namespace => manifest.clone(),
            On::Docker(_) => manifest.clone().bottle("image", json!(IMAGE)),
        };
        fs::write(folder.path().join(FILE), manifest.text()).unwrap();
        Self { folder, on }
    }

    pub(crate) fn path(&self, below: &str) -> std::path::PathBuf {
        self.folder.path().join(below)
    }

    /// `claude-bottle start smith …`
    pub(crate) fn start(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
        command.current_dir(self.folder.path()).args(["start", "smith"]);
        if let On::Docker(private) = self.on {
            command.args(["--backend", "docker"]).env("DOCKER_HOST", private.address());
        }
        command.args(arguments);
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
