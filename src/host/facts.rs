//! The facts themselves, as plain data.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::docker::{Docker, Endpoint, EngineKind};
use super::requirement::Requirement;

/// What this machine can run.
///
/// Each fact that can be missing for more than one reason carries that reason as a [`Lack`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are facts that do not depend on each other"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The operating system, as [`std::env::consts::OS`] names it: `linux`, `macos`, …
    pub os: String,
    /// The processor architecture, as [`std::env::consts::ARCH`] names it.
    pub arch: String,
    /// The effective user id.
    pub euid: u32,
    /// The program `smolvm`.
    #[serde(serialize_with = "fact")]
    pub smolvm: Result<Smolvm, Lack>,
    /// Whether smolvm on Linux is opted in to (`CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1`).
    pub smolvm_on_linux: bool,
    /// Whether this host's loopback may be opened to a machine that comes to its bundle in no other way
    /// (`CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1`).
    pub smolvm_loopback: bool,
    /// A Docker daemon.
    #[serde(serialize_with = "fact")]
    pub docker: Result<Docker, Lack>,
    /// Which engine bottles under test are to be made on, where somebody said so.
    #[serde(serialize_with = "fact")]
    pub engine: Result<Option<EngineKind>, Lack>,
    /// The program `dockerd`, where this user may run an engine of its own with it.
    #[serde(serialize_with = "fact")]
    pub private_engine: Result<PathBuf, Lack>,
    /// The device of a usable KVM.
    #[serde(serialize_with = "fact")]
    pub kvm: Result<PathBuf, Lack>,
    /// Whether this user can make user namespaces.
    #[serde(serialize_with = "fact")]
    pub user_namespaces: Result<UserNamespaces, Lack>,
    /// Whether this is a job of Gitea Actions (`GITEA_ACTIONS=true`).
    pub gitea: bool,
    /// Whether the kernel speaks IPv6.
    pub ipv6: bool,
    /// Whether the kernel has the loopback transport of vsock (`vsock_loopback`).
    pub vsock_loopback: bool,
    /// Whether standard input and output are a terminal.
    pub terminal: bool,
}

/// Something that is missing: why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// Why it cannot be used, such as `permission denied on /dev/kvm`.
    pub why: String,
    /// What to do about it, as far as anything can be done.
    pub fix: Option<String>,
}

/// The program `smolvm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Smolvm {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of its version; not asked at detection, see [`Smolvm::ask_version`].
    pub version: Option<String>,
}

/// What is known of user namespaces that can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserNamespaces {
    /// How many a user may have at most (`user.max_user_namespaces`), where the kernel tells.
    pub limit: Option<u64>,
}

impl Host {
    /// Why this user cannot run an engine of its own, if so: `needs a private engine: it takes root`.
    pub fn lacks_private_engine(&self) -> Option<String> {
        self.private_engine.as_ref().err().map(|lack| format!("needs a private engine: {lack}"))
    }

    /// A Linux machine that has nothing: nobody special's, without docker, smolvm, KVM or user namespaces.
    ///
    /// The start for tests, completed by [`Host::with`] or by setting fields.
    pub fn bare() -> Self {
        let missing = || Lack::new("made up without it");
        Self {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            euid: 1000,
            smolvm: Err(missing()),
            smolvm_on_linux: false,
            smolvm_loopback: false,
            docker: Err(missing()),
            engine: Ok(None),
            private_engine: Err(missing()),
            kvm: Err(missing()),
            user_namespaces: Err(missing()),
            gitea: false,
            ipv6: false,
            vsock_loopback: false,
            terminal: false,
        }
    }

    /// The same machine with whatever meets `requirement`, and nothing else changed.
    pub fn with(mut self, requirement: Requirement) -> Self {
        match requirement {
            Requirement::Darwin => "macos".clone_into(&mut self.os),
            Requirement::Linux => "linux".clone_into(&mut self.os),
            Requirement::Smolvm => {
                self.smolvm = Ok(Smolvm { path: "/usr/local/bin/smolvm".into(), version: None });
            }
            Requirement::SmolvmOnLinux => self.smolvm_on_linux = true,
            Requirement::Docker => {
                self.docker = Ok(Docker { endpoint: Endpoint::default(), connected: true });
            }
            Requirement::Kvm => self.kvm = Ok("/dev/kvm".into()),
            Requirement::UserNamespaces => {
                self.user_namespaces = Ok(UserNamespaces { limit: Some(15_000) });
            }
            Requirement::NotGitea => self.gitea = false,
            Requirement::VsockLoopback => self.vsock_loopback = true,
            Requirement::Ipv6 => self.ipv6 = true,
            Requirement::Root => self.euid = 0,
        }
        self
    }

    /// Whether this is a Mac.
    pub fn darwin(&self) -> bool {
        self.os == "macos"
    }

    /// Whether this is Linux.
    pub fn linux(&self) -> bool {
        self.os == "linux"
    }

    /// The system's word in requirements: `darwin` for what Rust calls `macos`.
    pub fn system(&self) -> &str {
        if self.darwin() { "darwin" } else { &self.os }
    }
}

impl Lack {
    /// Something is missing for this reason, and nothing can be done here.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), fix: None }
    }

    /// The same, but this would help.
    pub fn fixed_by(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

impl fmt::Display for Lack {
    /// `permission denied on /dev/kvm (add yourself to the group kvm, or run as root)`
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fix {
            Some(fix) => write!(out, "{} ({fix})", self.why),
            None => out.write_str(&self.why),
        }
    }
}

impl Smolvm {
    /// How long `smolvm --version` may take.
    const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

    /// Runs `smolvm --version` and remembers the first line that it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be run, fails, says nothing, or takes longer than 5 seconds (it is killed then).
    pub async fn ask_version(&mut self) -> io::Result<()> {
        let mut command = tokio::process::Command::new(&self.path);
        command.arg("--version").stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Self::VERSION_TIMEOUT, command.output()).await??;
        if !output.status.success() {
            return Err(io::Error::other(format!("smolvm --version ended with {}", output.status)));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().map(str::trim).find(|line| !line.is_empty());
        self.version = Some(
            line.ok_or_else(|| io::Error::other("smolvm --version printed nothing"))?.to_owned(),
        );
        Ok(())
    }
}

/// Writes a fact as `{"found": …}` or `{"lacking": {"why": …, "fix": …}}`.
fn fact<T: Serialize, S: Serializer>(fact: &Result<T, Lack>, out: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Fact<'a, T> {
        Found(&'a T),
        Lacking(&'a Lack),
    }
    match fact {
        Ok(found) => Fact::Found(found).serialize(out),
        Err(lack) => Fact::<T>::Lacking(lack).serialize(out),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_host_as_json() {
        let host = Host::bare().with(Requirement::Docker);
        let json = serde_json::to_value(&host).expect("serialise");
        assert_eq!(
            json["docker"],
            serde_json::json!({
                "found": {"endpoint": "unix:///var/run/docker.sock", "connected": true}
            })
        );
        assert_eq!(
            json["kvm"],
            serde_json::json!({"lacking": {"why": "made up without it", "fix": null}})
        );
    }

    /// Writes a script named `smolvm` and asks it.
    async fn version_said_by(folder: &Path, script: &str) -> (Smolvm, io::Result<()>) {
        let path = folder.join("smolvm");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        let mut smolvm = Smolvm { path, version: None };
        // Another test's fork may hold the script open for writing for a moment.
        let asked = loop {
            match smolvm.ask_version().await {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                asked => break asked,
            }
        };
        (smolvm, asked)
    }

    #[tokio::test]
    async fn the_version_is_the_first_line_said() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (smolvm, asked) =
            version_said_by(folder.path(), "echo; echo ' smolvm 0.8.0'; echo more").await;
        asked.expect("asked");
        assert_eq!(smolvm.version.as_deref(), Some("smolvm 0.8.0"));
    }

    #[tokio::test]
    async fn a_smolvm_that_fails_or_is_silent_has_no_version() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (script, error) in [
            ("echo 0.8.0; exit 3", "smolvm --version ended with exit status: 3"),
            ("exit 0", "smolvm --version printed nothing"),
        ] {
            let (smolvm, asked) = version_said_by(folder.path(), script).await;
            assert_eq!(asked.expect_err(script).to_string(), error);
            assert_eq!(smolvm.version, None);
        }
    }
}
