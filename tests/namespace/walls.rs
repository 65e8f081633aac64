//! What encloses a command in the bottle.

use claude_bottle::lab::View;
use claude_bottle::probe::definition::Site;
use libtest_mimic::Trial;

use crate::bottle::{exec, launch, sh, soon, text};
use crate::trials::trials;

#[tokio::main(flavor = "current_thread")]
async fn a_command_has_no_privilege_and_gets_none() {
    let arena = launch().await;
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; id -u; id -g; id -G";
    let told = text(&exec(&*arena, sh(script)).await);
    let none = "0000000000000000";
    let expected = format!(
        "CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\n\
         NoNewPrivs:\t1\nSeccomp:\t2\n1000\n1000\n1000"
    );
    // Of a caller that was not root, groups that nobody can drop are still there, without a name.
    assert_eq!(told.trim_end_matches(" 65534"), expected);
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn a_command_makes_no_namespace_and_enters_none() {
    let arena = launch().await;
    for kind in [
        "--user",
        "--user --map-root-user --net",
        "--net",
        "--mount",
        "--pid --fork",
        "--uts",
        "--ipc",
        "--cgroup",
    ] {
        let output = exec(&*arena, sh(&format!("unshare {kind} true"))).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.end.is_success() && said.contains("not permitted"), "{kind}: {output:?}");
    }
    for kind in ["net", "mnt", "user", "pid"] {
        let output = exec(&*arena, sh(&format!("nsenter --{kind}=/proc/1/ns/{kind} true"))).await;
        assert!(!output.end.is_success(), "{kind}: {output:?}");
    }
    let output = exec(&*arena, sh("mount -t tmpfs none /tmp")).await;
    assert!(!output.end.is_success(), "{output:?}");
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn only_what_is_meant_to_can_be_written_to() {
    let arena = launch().await;
    let script = "for place in / /etc /dev /.bottle /usr /usr/bin /proc/sys/kernel /home; do
            touch $place/new 2>/dev/null && echo $place
        done
        for place in /tmp /home/agent /dev/shm; do
            touch $place/new || echo $place
        done
        echo x >> /etc/passwd && echo passwd
        rm /.bottle/toolbox && echo toolbox
        true";
    assert_eq!(text(&exec(&*arena, sh(script)).await), "");
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn nothing_of_the_host_is_seen() {
    let arena = launch().await;
    let told = text(
        &exec(
            &*arena,
            sh("ls -A / /home /tmp /root 2>/dev/null; hostname; ls /proc | grep -c '^[0-9]'"),
        )
        .await,
    );
    for of_the_host in ["work", "root", "var", "sys", "boot"] {
        assert!(!told.lines().any(|line| line == of_the_host), "{told}");
    }
    assert!(told.lines().any(|line| line == arena.bottle().name()), "{told}");
    let processes: u32 = told.lines().next_back().unwrap().parse().unwrap();
    assert!(processes <= 5, "{told}");

    // Neither variables nor open files of the launcher.
    let told = text(
        &exec(&*arena, sh("env | cut -d= -f1 | sort; sleep 9 & ls /proc/$!/fd; kill $!")).await,
    );
    let names: Vec<_> =
        told.lines().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    assert_eq!(names, ["HOME", "PATH", "USER", "0", "1", "2"]);
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn from_outside_there_is_one_wire_with_one_route() {
    let arena = launch().await;
    let seen = soon(arena.lab().observe(View::Bottle)).await.unwrap().expect("a look");
    assert_eq!(seen.interfaces, ["eth0", "lo"]);
    let routes: Vec<_> =
        seen.routes.iter().map(|(to, via, on)| format!("{to} {via} {on}")).collect();
    assert_eq!(routes, ["10.200.0.1/32 0.0.0.0 eth0"]);
    assert_eq!(seen.addresses_v6, []);
    assert_eq!(seen.listening, []);
    soon(arena.teardown()).await.unwrap();
}

/// A client in the bottle, or one that sends a control, must not happen to have the very port that is dialled: it would take
/// what is sent there. The stand-in host gives its listeners ports that no client's net namespace gives away.
#[tokio::main(flavor = "current_thread")]
async fn no_client_can_have_a_random_port_of_the_stand_in_host() {
    let arena = launch().await;
    let script = "cat /proc/sys/net/ipv4/ip_local_port_range";
    let range = text(&exec(&*arena, sh(script)).await);
    let range: Vec<u16> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
    let [first, last] = range[..] else { panic!("no range: {range:?}") };
    let random = |site: &Site, port: &str| {
        port == "random" && [Site::HostLoopback, Site::HostGateway].contains(site)
    };
    let sites = arena.lab().sites();
    let listening = sites.all().filter(|(site, port, ..)| random(site, port));
    let ports: Vec<u16> = listening.map(|(.., one)| one.address.inet().unwrap().port()).collect();
    assert!(!ports.is_empty());
    assert!(ports.iter().all(|port| !(first..=last).contains(port)), "{ports:?} in {range:?}");
    assert!(ports.iter().all(|port| *port == ports[0]), "TCP and UDP have the same one: {ports:?}");
    soon(arena.teardown()).await.unwrap();
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_command_has_no_privilege_and_gets_none,
        a_command_makes_no_namespace_and_enters_none,
        only_what_is_meant_to_can_be_written_to,
        nothing_of_the_host_is_seen,
        from_outside_there_is_one_wire_with_one_route,
        no_client_can_have_a_random_port_of_the_stand_in_host,
    ]
}
