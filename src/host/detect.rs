//! Finds out what this machine can run: a few reads, two system calls and one connection to a local socket.
//!
//! It runs once per process, and a test runner may start a process per test: no subprocess, nothing slow.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::facts::{Host, Lack, Smolvm};
use super::{context, docker, user_namespaces};
use crate::backend::smolmachines::plan::LOOPBACK;
use crate::sys;

impl Host {
    /// What this machine can run, here and now.
    pub fn detect() -> Self {
        here().host()
    }

    /// The same without what takes asking somebody else: an engine, smolvm.
    pub fn detect_alone() -> Self {
        here().alone()
    }
}

/// Whether this machine's vsock has a loopback (see [`Host::vsock_loopback`]): this alone, without asking for all the rest.
pub(crate) fn has_vsock_loopback() -> bool {
    here().vsock_loopback()
}

/// This machine.
fn here() -> Detect<'static> {
    Detect {
        root: Path::new("/"),
        env: &|name| std::env::var_os(name),
        euid: nix::unistd::geteuid().as_raw(),
        os: std::env::consts::OS,
        terminal: io::stdin().is_terminal() && io::stdout().is_terminal(),
        calls: Calls::REAL,
    }
}

/// Where a detection looks; tests give it a made-up machine.
#[derive(Clone, Copy)]
pub struct Detect<'a> {
    /// The folder that stands for `/`. Only the folders in `PATH` are taken as they are.
    pub root: &'a Path,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The effective user id.
    pub euid: u32,
    /// The operating system, as [`std::env::consts::OS`] names it.
    pub os: &'a str,
    /// Whether standard input and output are a terminal.
    pub terminal: bool,
    /// What only the kernel can tell.
    pub calls: Calls,
}

/// System calls that ask the kernel something and change nothing.
#[derive(Clone, Copy)]
pub struct Calls {
    /// Whether the process's seccomp filter lets it ask for a user namespace; the error is the filter's.
    pub ask_unshare: fn() -> io::Result<()>,
    /// Whether vsock has a loopback.
    pub bind_vsock_loopback: fn() -> io::Result<()>,
}

impl Detect<'_> {
    /// The facts about this machine.
    pub fn host(&self) -> Host {
        Host { smolvm: self.smolvm(), docker: self.docker(), ..self.alone() }
    }

    fn alone(&self) -> Host {
        let not_asked = || Lack::new("nobody was asked");
        Host {
            os: self.os.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            euid: self.euid,
            smolvm: Err(not_asked()),
            smolvm_on_linux: self.is_set_to("CLAUDE_BOTTLE_SMOLVM_ON_LINUX", "1"),
            smolvm_loopback: self.is_set_to(LOOPBACK, "1"),
            docker: Err(not_asked()),
            engine: self.engine(),
            private_engine: self.private_engine(),
            kvm: self.kvm(),
            user_namespaces: user_namespaces::find(self),
            gitea: self.is_set_to("GITEA_ACTIONS", "true"),
            ipv6: self.ipv6(),
            vsock_loopback: self.vsock_loopback(),
            terminal: self.terminal,
        }
    }

    pub(super) fn linux(&self) -> bool {
        self.os == "linux"
    }

    pub(super) fn path(&self, absolute: &str) -> PathBuf {
        below(self.root, Path::new(absolute))
    }

    /// The content of a small file, without the white space around it.
    pub(super) fn read(&self, absolute: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(absolute)).ok()?;
        Some(text.trim().to_owned())
    }

    /// What a variable says; nothing, if it is not set or empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let text = (self.env)(name)?.to_string_lossy().into_owned();
        (!text.is_empty()).then_some(text)
    }

    fn is_set_to(&self, variable: &str, value: &str) -> bool {
        (self.env)(variable).is_some_and(|set| set == value)
    }

    fn smolvm(&self) -> Result<Smolvm, Lack> {
        let folders = (self.env)("PATH").unwrap_or_default();
        let path = which::which_in("smolvm", Some(folders), self.root)
            .map_err(|_| Lack::new("not on PATH").fixed_by("install smolvm and put it on PATH"))?;
        Ok(Smolvm { path, version: None })
    }

    fn docker(&self) -> Result<docker::Docker, Lack> {
        let named = match self.variable("DOCKER_HOST") {
            Some(text) => Some(("DOCKER_HOST".to_owned(), text)),
            None => context::chosen(self)?
                .map(|(name, host)| (format!("the Docker context {name:?}:"), host)),
        };
        docker::find(self.root, named.as_ref().map(|(by, text)| (by.as_str(), text.as_str())))
    }

    fn engine(&self) -> Result<Option<docker::EngineKind>, Lack> {
        docker::wanted(self.variable(docker::ENGINE).as_deref())
    }

    fn private_engine(&self) -> Result<PathBuf, Lack> {
        if !self.linux() {
            return Err(Lack::new("only Linux has it"));
        }
        if self.euid != 0 {
            return Err(Lack::new("it takes root"));
        }
        let folders = (self.env)("PATH").unwrap_or_default();
        let found = which::which_in("dockerd", Some(folders), self.root);
        found.map_err(|_| Lack::new("dockerd is not installed").fixed_by("install docker.io"))
    }

    fn kvm(&self) -> Result<PathBuf, Lack> {
        const DEVICE: &str = "/dev/kvm";
        if !self.linux() {
            return Err(Lack::new("only Linux has it"));
        }
        match OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(DEVICE))
        {
            Ok(_) => Ok(DEVICE.into()),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound => Lack::new(format!("{DEVICE} does not exist")).fixed_by(
                    "load the module kvm_intel or kvm_amd; virtualisation must be on in the firmware or the hypervisor",
                ),
                io::ErrorKind::PermissionDenied => {
                    Lack::new(format!("permission denied on {DEVICE}"))
                        .fixed_by("add yourself to the group kvm, or run as root")
                }
                _ => Lack::new(format!("cannot open {DEVICE}: {error}")),
            }),
        }
    }

    /// The file is there exactly when the kernel's IPv6 is: neither left out nor switched off with `ipv6.disable=1`.
    fn ipv6(&self) -> bool {
        !self.linux() || self.path("/proc/net/if_inet6").exists()
    }

    /// Asks only where vsock is loaded already: making a socket would load it.
    fn vsock_loopback(&self) -> bool {
        let loaded = || {
            self.read("/proc/net/protocols").is_some_and(|protocols| {
                protocols.lines().any(|line| line.split_whitespace().next() == Some("AF_VSOCK"))
            })
        };
        self.linux() && loaded() && (self.calls.bind_vsock_loopback)().is_ok()
    }
}

/// `path` below `root`, where it is absolute.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(relative) => root.join(relative),
        Err(_) => path.to_owned(),
    }
}

impl Calls {
    /// The machine's own.
    pub const REAL: Self = Self {
        ask_unshare: sys::ask_unshare,
        bind_vsock_loopback: || sys::bind_vsock_loopback().map(drop),
    };
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::facts::UserNamespaces;
    use super::*;

    /// A made-up machine in a temporary folder.
    pub(crate) struct Machine {
        root: tempfile::TempDir,
        env: BTreeMap<String, OsString>,
        pub(crate) euid: u32,
        pub(crate) os: &'static str,
        pub(crate) calls: Calls,
    }

    impl Machine {
        /// A Linux machine on which an ordinary user can make user namespaces, and nothing else.
        pub(crate) fn new() -> Self {
            let machine = Self {
                root: tempfile::tempdir().expect("temporary folder"),
                env: BTreeMap::new(),
                euid: 1000,
                os: "linux",
                calls: Calls {
                    ask_unshare: || Ok(()),
                    bind_vsock_loopback: || Err(io::ErrorKind::AddrNotAvailable.into()),
                },
            };
            machine.link("/proc/self/ns/user", "user:[4026531837]");
            machine.write("/proc/sys/user/max_user_namespaces", "96365\n");
            machine.write("/proc/self/status", "Name:\ttest\nSeccomp:\t0\nSeccomp_filters:\t0\n");
            machine.write(
                "/proc/self/mountinfo",
                "22 27 0:21 / /proc rw - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n",
            );
            machine
        }

        pub(crate) fn root(&self) -> &Path {
            self.root.path()
        }

        fn parent(&self, absolute: &str) -> PathBuf {
            let path = below(self.root(), Path::new(absolute));
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            path
        }

        pub(crate) fn write(&self, absolute: &str, content: &str) {
            fs::write(self.parent(absolute), content).expect("write");
        }

        pub(crate) fn link(&self, absolute: &str, target: impl AsRef<Path>) {
            symlink(target, self.parent(absolute)).expect("symlink");
        }

        pub(crate) fn remove(&self, absolute: &str) {
            let path = below(self.root(), Path::new(absolute));
            if fs::symlink_metadata(&path).expect("metadata").is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
            .expect("remove");
        }

        pub(crate) fn set(&mut self, variable: &str, value: impl Into<OsString>) {
            self.env.insert(variable.to_owned(), value.into());
        }

        pub(crate) fn host(&self) -> Host {
            Detect {
                root: self.root(),
                env: &|name| self.env.get(name).cloned(),
                euid: self.euid,
                os: self.os,
                terminal: false,
                calls: self.calls,
            }
            .host()
        }
    }

    #[test]
    fn a_machine_with_user_namespaces_and_nothing_else() {
        let expected = Host {
            arch: std::env::consts::ARCH.to_owned(),
            smolvm: Err(Lack::new("not on PATH").fixed_by("install smolvm and put it on PATH")),
            docker: Err(Lack::new("/var/run/docker.sock does not exist")
                .fixed_by("install and start Docker, or set DOCKER_HOST")),
            private_engine: Err(Lack::new("it takes root")),
            kvm: Err(Lack::new("/dev/kvm does not exist").fixed_by(
                "load the module kvm_intel or kvm_amd; \
                 virtualisation must be on in the firmware or the hypervisor",
            )),
            user_namespaces: Ok(UserNamespaces { limit: Some(96365) }),
            ..Host::bare()
        };
        assert_eq!(Machine::new().host(), expected);
    }

    #[test]
    fn an_engine_of_ones_own_takes_root_and_its_program() {
        let mut machine = Machine::new();
        machine.euid = 0;
        let why = |machine: &Machine| machine.host().private_engine.map_err(|lack| lack.why);
        assert_eq!(why(&machine), Err("dockerd is not installed".to_owned()));
        let folder = machine.root().join("bin");
        let program = folder.join("dockerd");
        machine.write("/bin/dockerd", "");
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("chmod");
        machine.set("PATH", folder);
        assert_eq!(why(&machine), Ok(program));
        machine.euid = 1000;
        assert_eq!(why(&machine), Err("it takes root".to_owned()));
    }

    #[test]
    fn a_mac_has_nothing_of_linux() {
        let mut machine = Machine::new();
        machine.os = "macos";
        machine.write("/dev/kvm", "");
        machine.write("/proc/net/protocols", "AF_VSOCK 1240\n");
        machine.calls.bind_vsock_loopback = || Ok(());
        let host = machine.host();
        assert!(host.darwin() && !host.linux());
        assert_eq!(host.kvm, Err(Lack::new("only Linux has it")));
        assert_eq!(host.private_engine, Err(Lack::new("only Linux has it")));
        assert_eq!(host.user_namespaces, Err(Lack::new("only Linux has them")));
        assert!(!host.vsock_loopback);
        assert!(host.ipv6);
    }

    #[test]
    fn smolvm_must_be_an_executable_on_path() {
        let mut machine = Machine::new();
        let folder = machine.root().join("bin");
        machine.set("PATH", folder.clone());
        machine.write("/bin/smolvm", "");
        let program = folder.join("smolvm");
        fs::set_permissions(&program, PermissionsExt::from_mode(0o644)).expect("chmod");
        assert_eq!(machine.host().smolvm.map_err(|lack| lack.why), Err("not on PATH".to_owned()));
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("chmod");
        assert_eq!(machine.host().smolvm, Ok(Smolvm { path: program, version: None }));
    }

    #[test]
    fn switches_in_the_environment() {
        for (variable, value, on) in [
            ("GITEA_ACTIONS", "true", [true, false, false]),
            ("GITEA_ACTIONS", "false", [false; 3]),
            ("GITEA_ACTIONS", "", [false; 3]),
            ("CLAUDE_BOTTLE_SMOLVM_ON_LINUX", "1", [false, true, false]),
            ("CLAUDE_BOTTLE_SMOLVM_ON_LINUX", "0", [false; 3]),
            ("CLAUDE_BOTTLE_SMOLVM_LOOPBACK", "1", [false, false, true]),
            ("CLAUDE_BOTTLE_SMOLVM_LOOPBACK", "yes", [false; 3]),
        ] {
            let mut machine = Machine::new();
            machine.set(variable, value);
            let host = machine.host();
            let seen = [host.gitea, host.smolvm_on_linux, host.smolvm_loopback];
            assert_eq!(seen, on, "{variable}={value}");
        }
    }

    #[test]
    fn the_engine_may_be_named() {
        use docker::EngineKind;
        let mut machine = Machine::new();
        assert_eq!(machine.host().engine, Ok(None));
        for (text, wanted) in [("system", EngineKind::System), ("private", EngineKind::Private)] {
            machine.set(docker::ENGINE, text);
            assert_eq!(machine.host().engine, Ok(Some(wanted)));
        }
        machine.set(docker::ENGINE, "podman");
        let why = machine.host().engine.unwrap_err().to_string();
        assert_eq!(
            why,
            "CLAUDE_BOTTLE_DOCKER_ENGINE: \"podman\" is no kind of engine: there are private and system"
        );
    }

    #[test]
    fn docker_host_is_honoured() {
        let mut machine = Machine::new();
        machine.set("DOCKER_HOST", "tcp://docker.invalid:2375");
        let docker = machine.host().docker.expect("believed");
        assert_eq!(docker.endpoint.to_string(), "tcp://docker.invalid:2375");
    }

    #[test]
    fn kvm_must_open_for_reading_and_writing() {
        let machine = Machine::new();
        assert_eq!(
            machine.host().kvm.map_err(|lack| lack.why),
            Err("/dev/kvm does not exist".to_owned())
        );
        machine.write("/dev/kvm", "");
        assert_eq!(machine.host().kvm, Ok("/dev/kvm".into()));
        machine.remove("/dev/kvm");
        machine.write("/dev/kvm/a-folder", "");
        let lack = machine.host().kvm.expect_err("a folder is no device");
        assert!(lack.why.starts_with("cannot open /dev/kvm: "), "{lack}");
    }

    #[test]
    fn ipv6_is_what_the_kernel_lists() {
        let machine = Machine::new();
        assert!(!machine.host().ipv6);
        machine.write("/proc/net/if_inet6", "");
        assert!(machine.host().ipv6, "even where no interface has an address");
    }

    #[test]
    fn vsock_loopback_is_asked_for_only_where_vsock_is_loaded() {
        let mut machine = Machine::new();
        machine.calls.bind_vsock_loopback = || Ok(());
        assert!(!machine.host().vsock_loopback, "no /proc/net/protocols");
        machine.write("/proc/net/protocols", "protocol  size\nUNIX  1024\n");
        assert!(!machine.host().vsock_loopback, "not loaded");
        machine.write("/proc/net/protocols", "protocol  size\nAF_VSOCK  1240\n");
        assert!(machine.host().vsock_loopback);
        machine.calls.bind_vsock_loopback = || Err(io::ErrorKind::AddrNotAvailable.into());
        assert!(!machine.host().vsock_loopback, "no loopback");
    }
}
