//! The facts and their consequences, for a person.

use std::fmt::{self, Display, Write as _};

use owo_colors::{OwoColorize, Style};

use super::docker::EngineKind;
use super::facts::{Host, Lack};
use super::requirement::Unmet;
use super::requirements::Requirements;
use crate::backend::smolmachines::plan::LOOPBACK;
use crate::backend::smolmachines::smolvm::version::Version;

/// The backends, in the order in which a person should think of them.
const BACKENDS: [&str; 4] = ["namespace", "docker", "smolmachines", "external"];

/// How wide the first column is.
const COLUMN: usize = 18;

/// Tells which backends this host can run, for each other one what is missing and how to mend it, and the facts
/// behind that. Ends with a line feed.
pub fn doctor(host: &Host, colour: bool) -> String {
    let style = |style: Style| if colour { style } else { Style::new() };
    let mut text = Text {
        good: style(Style::new().green()),
        bad: style(Style::new().red()),
        title: style(Style::new().bold()),
        out: String::new(),
    };
    text.report(host).expect("writing to a string does not fail");
    text.out
}

fn lacking(what: &str, lack: &Lack) -> Unmet {
    Unmet::One { what: format!("{what}: {}", lack.why), fix: lack.fix.clone(), terse: false }
}

fn no_private_engine(lack: &Lack) -> Vec<Unmet> {
    vec![lacking("a private engine", lack)]
}

/// What is lacking to probe containers, where agents lack `to_start`.
fn to_probe_on_docker(host: &Host, to_start: &[Unmet]) -> Vec<Unmet> {
    match (&host.engine, &host.private_engine) {
        _ if host.gitea => to_start.to_vec(),
        (Err(lack), _) => vec![lacking("a kind of engine", lack)],
        (Ok(Some(EngineKind::Private)), Err(lack)) => no_private_engine(lack),
        (Ok(None | Some(EngineKind::Private)), Ok(_)) => Vec::new(),
        (Ok(None), Err(_)) | (Ok(Some(EngineKind::System)), _) => to_start.to_vec(),
    }
}

/// The same of machines, which take the engine for work all the same.
fn to_probe_machines(host: &Host, to_start: &[Unmet]) -> Vec<Unmet> {
    match (&host.engine, &host.private_engine) {
        _ if !to_start.is_empty() => to_start.to_vec(),
        (Err(lack), _) => vec![lacking("a kind of engine", lack)],
        (Ok(Some(EngineKind::Private)), Err(lack)) => no_private_engine(lack),
        (Ok(_), _) => Vec::new(),
    }
}

/// The text so far, and its colours.
struct Text {
    good: Style,
    bad: Style,
    title: Style,
    out: String,
}

impl Text {
    fn report(&mut self, host: &Host) -> fmt::Result {
        self.heading("Backends")?;
        for backend in BACKENDS {
            let unmet = Requirements::for_backend(backend).unmet(host);
            match backend {
                "docker" => self.either(backend, &unmet, &to_probe_on_docker(host, &unmet))?,
                "smolmachines" => self.either(backend, &unmet, &to_probe_machines(host, &unmet))?,
                _ => self.backend(backend, &unmet)?,
            }
        }
        self.out.push('\n');
        self.heading("Host")?;
        self.facts(host)
    }

    fn backend(&mut self, name: &str, unmet: &[Unmet]) -> fmt::Result {
        let (word, style) =
            if unmet.is_empty() { ("ready", self.good) } else { ("not ready", self.bad) };
        self.row(name, word.style(style))?;
        unmet.iter().try_for_each(|each| self.unmet("needs", each))
    }

    /// Agents are started on the machine's engine; bottles may be probed on another one.
    fn either(&mut self, name: &str, to_start: &[Unmet], to_probe: &[Unmet]) -> fmt::Result {
        let (ready, other, unmet) = match (to_probe.is_empty(), to_start.is_empty()) {
            (true, false) => ("ready to probe, on a private engine", "to start agents", to_start),
            (false, true) => ("ready to start agents", "to probe", to_probe),
            _ => return self.backend(name, to_start),
        };
        self.row(name, ready.style(self.good))?;
        unmet.iter().try_for_each(|each| self.unmet(&format!("{other}, needs"), each))
    }

    fn facts(&mut self, host: &Host) -> fmt::Result {
        self.row("system", format!("{} {}", host.system(), host.arch))?;
        self.row("user", format!("uid {}", host.euid))?;
        self.fact("user namespaces", &host.user_namespaces, |found| {
            found.limit.map_or_else(
                || "yes".to_owned(),
                |limit| format!("yes, at most {limit} for each user"),
            )
        })?;
        self.fact("docker", &host.docker, |docker| {
            let note = if docker.connected { "" } else { " (not tried)" };
            format!("{}{note}", docker.endpoint)
        })?;
        self.fact("private engine", &host.private_engine, |path| path.display().to_string())?;
        self.fact("smolvm", &host.smolvm, |smolvm| {
            let path = smolvm.path.display();
            match &smolvm.version {
                Some(said) => {
                    let gate = said.parse::<Version>().ok().map(|version| version.gate(false));
                    let note = gate.and_then(Result::err).map(|old| format!(": {old}"));
                    format!("{path} ({}){}", said.escape_debug(), note.unwrap_or_default())
                }
                None => path.to_string(),
            }
        })?;
        if host.smolvm.is_ok() {
            let what = "every port of it to machines that come to their bundle in no other way";
            let told = if host.smolvm_loopback {
                format!("open: {LOOPBACK}=1, {what}")
            } else {
                format!("closed ({LOOPBACK}=1 opens {what}, as with Docker Desktop)")
            };
            self.row("smolvm loopback", told)?;
        }
        self.fact("kvm", &host.kvm, |device| device.display().to_string())?;
        self.row("ipv6", yes(host.ipv6))?;
        self.row("vsock loopback", yes(host.vsock_loopback))?;
        self.row("Gitea Actions", yes(host.gitea))?;
        self.row("terminal", yes(host.terminal))
    }

    fn heading(&mut self, heading: &str) -> fmt::Result {
        writeln!(self.out, "{}", heading.style(self.title))
    }

    fn row(&mut self, name: &str, value: impl Display) -> fmt::Result {
        writeln!(self.out, "  {name:COLUMN$}{value}")
    }

    fn fact<T>(
        &mut self,
        name: &str,
        fact: &Result<T, Lack>,
        show: impl Fn(&T) -> String,
    ) -> fmt::Result {
        match fact {
            Ok(found) => self.row(name, show(found)),
            Err(lack) => self.row(name, format_args!("no: {}", lack.why)),
        }
    }

    /// A reason and its fix below it. `word` stands in front: `needs`, or how it belongs to the reason above.
    fn unmet(&mut self, word: &str, unmet: &Unmet) -> fmt::Result {
        match unmet {
            Unmet::One { what, fix, .. } => {
                self.row("", format_args!("{word} {what}"))?;
                match fix {
                    Some(fix) => self.row("", format_args!("  fix: {fix}")),
                    None => Ok(()),
                }
            }
            Unmet::AnyOf(alternatives) => {
                let mut word = word;
                for alternative in alternatives {
                    for each in alternative {
                        self.unmet(word, each)?;
                        word = "and";
                    }
                    word = "or";
                }
                Ok(())
            }
        }
    }
}

fn yes(fact: bool) -> &'static str {
    if fact { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Smolvm, UserNamespaces};
    use super::super::requirement::Requirement;
    use super::*;

    #[test]
    fn an_ordinary_linux_machine() {
        let host = Host {
            docker: Err(Lack::new("permission denied on /var/run/docker.sock")
                .fixed_by("add yourself to the group docker, or run as root")),
            private_engine: Err(Lack::new("it takes root")),
            smolvm: Err(Lack::new("not on PATH").fixed_by("install smolvm and put it on PATH")),
            kvm: Err(Lack::new("/dev/kvm does not exist").fixed_by("load the module")),
            user_namespaces: Ok(UserNamespaces { limit: Some(96_365) }),
            ipv6: true,
            ..Host::bare()
        };
        insta::assert_snapshot!(doctor(&host, false), @r"
        Backends
          namespace         ready
          docker            not ready
                            needs docker: permission denied on /var/run/docker.sock
                              fix: add yourself to the group docker, or run as root
          smolmachines      not ready
                            needs darwin (this is linux)
                              fix: run on a Mac, or on Linux with KVM set CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1
                            needs smolvm on PATH
                              fix: install smolvm and put it on PATH
                            needs docker: permission denied on /var/run/docker.sock
                              fix: add yourself to the group docker, or run as root
          external          ready

        Host
          system            linux x86_64
          user              uid 1000
          user namespaces   yes, at most 96365 for each user
          docker            no: permission denied on /var/run/docker.sock
          private engine    no: it takes root
          smolvm            no: not on PATH
          kvm               no: /dev/kvm does not exist
          ipv6              yes
          vsock loopback    no
          Gitea Actions     no
          terminal          no
        ");
    }

    #[test]
    fn a_mac_with_all_it_needs() {
        let host = Host {
            smolvm: Ok(Smolvm {
                path: "/opt/homebrew/bin/smolvm".into(),
                version: Some("smolvm 0.8.0".to_owned()),
            }),
            user_namespaces: Err(Lack::new("only Linux has them")),
            private_engine: Err(Lack::new("only Linux has it")),
            kvm: Err(Lack::new("only Linux has it")),
            terminal: true,
            ..Host::bare()
                .with(Requirement::Darwin)
                .with(Requirement::Docker)
                .with(Requirement::Ipv6)
        };
        insta::assert_snapshot!(doctor(&host, false), @r"
        Backends
          namespace         not ready
                            needs linux (this is darwin)
                              fix: run on Linux, or in a virtual machine with it
                            needs user-namespaces: only Linux has them
          docker            ready
          smolmachines      ready
          external          ready

        Host
          system            darwin x86_64
          user              uid 1000
          user namespaces   no: only Linux has them
          docker            unix:///var/run/docker.sock
          private engine    no: only Linux has it
          smolvm            /opt/homebrew/bin/smolvm (smolvm 0.8.0): smolvm 0.8.0 drops `--allow-cidr` of a machine that is made from a pack, and says nothing (install smolvm 1.8.0 or newer, or set CLAUDE_BOTTLE_SMOLVM_UNENFORCED=1 to launch it without an allow-list)
          smolvm loopback   closed (CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1 opens every port of it to machines that come to their bundle in no other way, as with Docker Desktop)
          kvm               no: only Linux has it
          ipv6              yes
          vsock loopback    no
          Gitea Actions     no
          terminal          yes
        ");
    }

    #[test]
    fn a_job_of_gitea_that_would_run_smolvm_on_linux() {
        let host = Host {
            gitea: true,
            kvm: Err(Lack::new("permission denied on /dev/kvm")
                .fixed_by("add yourself to the group kvm, or run as root")),
            ..Host::bare().with(Requirement::SmolvmOnLinux).with(Requirement::Docker)
        };
        insta::assert_snapshot!(doctor(&host, false), @r"
        Backends
          namespace         not ready
                            needs user-namespaces: made up without it
          docker            not ready
                            needs a runner that is not Gitea (GITEA_ACTIONS=true)
                              fix: run it outside of Gitea Actions
          smolmachines      not ready
                            needs darwin (this is linux)
                              fix: run on a Mac, or on Linux with KVM set CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1
                            or kvm: permission denied on /dev/kvm
                              fix: add yourself to the group kvm, or run as root
                            needs smolvm on PATH
                            needs a runner that is not Gitea (GITEA_ACTIONS=true)
                              fix: run it outside of Gitea Actions
          external          ready

        Host
          system            linux x86_64
          user              uid 1000
          user namespaces   no: made up without it
          docker            unix:///var/run/docker.sock
          private engine    no: made up without it
          smolvm            no: made up without it
          kvm               no: permission denied on /dev/kvm
          ipv6              no
          vsock loopback    no
          Gitea Actions     yes
          terminal          no
        ");
    }

    /// What is said of docker, without the host's facts.
    fn of_docker(host: &Host) -> String {
        of("docker", host)
    }

    fn of(backend: &str, host: &Host) -> String {
        let told = doctor(host, false);
        let row = format!("  {backend}");
        let lines = told.lines().skip_while(|line| !line.starts_with(&row));
        let own = lines.enumerate().take_while(|(n, line)| *n == 0 || line.starts_with("   "));
        own.map(|(_, line)| line.trim()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn docker_is_ready_for_what_it_can_do() {
        let daemonless = Host { private_engine: Ok("/usr/sbin/dockerd".into()), ..Host::bare() };
        let daemon = Host::bare().with(Requirement::Docker);
        let wanting = |kind, host: &Host| Host { engine: Ok(Some(kind)), ..host.clone() };
        insta::assert_snapshot!(of_docker(&daemonless), @r"
        docker            ready to probe, on a private engine
        to start agents, needs docker: made up without it
        ");
        insta::assert_snapshot!(of_docker(&wanting(EngineKind::System, &daemonless)), @r"
        docker            not ready
        needs docker: made up without it
        ");
        insta::assert_snapshot!(of_docker(&daemon), @"docker            ready");
        insta::assert_snapshot!(of_docker(&wanting(EngineKind::Private, &daemon)), @r"
        docker            ready to start agents
        to probe, needs a private engine: made up without it
        ");
        let mistyped = Host { engine: Err(Lack::new("no kind")), ..daemon };
        insta::assert_snapshot!(of_docker(&mistyped), @r"
        docker            ready to start agents
        to probe, needs a kind of engine: no kind
        ");
    }

    #[test]
    fn machines_are_ready_for_what_they_can_do() {
        let mac = Host { private_engine: Err(Lack::new("only Linux has it")), ..Host::bare() }
            .with(Requirement::Darwin)
            .with(Requirement::Smolvm)
            .with(Requirement::Docker);
        insta::assert_snapshot!(of("smolmachines", &mac), @"smolmachines      ready");
        let private = Host { engine: Ok(Some(EngineKind::Private)), ..mac.clone() };
        insta::assert_snapshot!(of("smolmachines", &private), @r"
        smolmachines      ready to start agents
        to probe, needs a private engine: only Linux has it
        ");
        let mistyped = Host { engine: Err(Lack::new("no kind")), ..mac };
        insta::assert_snapshot!(of("smolmachines", &mistyped), @r"
        smolmachines      ready to start agents
        to probe, needs a kind of engine: no kind
        ");
    }

    #[test]
    fn alternatives_are_told_from_what_is_needed_besides() {
        let one = |what: &str| Unmet::One { what: what.to_owned(), fix: None, terse: true };
        let mut text =
            Text { good: Style::new(), bad: Style::new(), title: Style::new(), out: String::new() };
        let unmet = Unmet::AnyOf(vec![vec![one("a fork"), one("a knife")], vec![one("a spoon")]]);
        text.unmet("needs", &unmet).expect("written");
        let lines: Vec<_> = text.out.lines().map(str::trim).collect();
        assert_eq!(lines, ["needs a fork", "and a knife", "or a spoon"]);
    }

    #[test]
    fn colour_is_all_that_colour_adds() {
        let host = Host::bare().with(Requirement::Docker);
        let plain = doctor(&host, false);
        let coloured = doctor(&host, true);
        assert!(!plain.contains('\u{1b}'));
        assert!(coloured.contains("\u{1b}[32mready\u{1b}[0m"), "{coloured}");
        assert!(coloured.contains("\u{1b}[31mnot ready\u{1b}[0m"), "{coloured}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    }
}
