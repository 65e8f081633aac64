//! A real server of OpenSSH, spoken to over its standard input and output (`sshd -i`): nothing listens anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::suite::{BARE, breaks, needs_bubblewrap, told, works};
use crate::trials::{skip, trials};

/// Where the server finds its keys inside the sandbox.
const INSIDE: &str = "/tmp/keys";

/// A key pair for the server, one for its only user, and the configurations of both sides; removed with this.
struct Server(TempDir);

impl Server {
    /// One that runs in bubblewrap, with these options more.
    fn in_bubblewrap(options: &str) -> Self {
        needs_bubblewrap();
        if !works("command -v ssh ssh-keygen && test -x /usr/sbin/sshd") {
            skip("OpenSSH is not installed, or not its server");
        }
        if !works("id -un") {
            skip("this user has no name, without which OpenSSH makes no key");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let keys = path.join("keys");
        fs::create_dir(&keys).unwrap();
        for key in ["keys/host", "user"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path.join(key));
            assert!(make.status().unwrap().success());
        }
        fs::copy(path.join("user.pub"), keys.join("authorized")).unwrap();
        let server = format!(
            "HostKey {INSIDE}/host\nAuthorizedKeysFile {INSIDE}/authorized\nPidFile none\nStrictModes no\nUsePAM no\n"
        );
        fs::write(keys.join("config"), server).unwrap();
        // As root the server wants that folder, empty, for the part of it that has no privileges.
        let sshd = format!(
            "{BARE} {options} --bind {} {INSIDE} --dir /run/sshd /usr/sbin/sshd -i -f {INSIDE}/config",
            keys.display()
        );
        let client = format!(
            "Host sandbox\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking no\n  LogLevel ERROR\n  ProxyCommand {sshd}\n",
            path.join("user").display()
        );
        let config = path.join("config");
        fs::write(&config, client).unwrap();
        // A configuration that somebody else may write to is refused.
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        let server = Self(folder);
        if !works(&format!("{} true", server.command())) {
            skip("this user may not log in here over SSH");
        }
        server
    }

    /// As the documentation gives it, but for the configuration.
    fn command(&self) -> String {
        format!("ssh -F {} -T sandbox", self.0.path().join("config").display())
    }
}

fn what_a_login_shell_reaches_is_judged() {
    let closed = Server::in_bubblewrap("--unshare-net");
    let text = told(&closed.command(), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    let text = told(&Server::in_bubblewrap("").command(), 1);
    assert!(breaks(&text, "loopback-reach") && breaks(&text, "resolver-exfiltration"), "{text}");
    assert!(!breaks(&text, "unix-path-socket"), "{text}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![what_a_login_shell_reaches_is_judged]
}
