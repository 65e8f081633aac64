//! The bundle's init: the real toolbox, with real daemons.

use std::fs;
use std::process::Command;

use claude_bottle_protocol::session::End;
use claude_bottle_protocol::supervise::State;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle::{Bundle, called_supervise, eventually, exists, parent, text};
use crate::trials::{skip, trials};

/// A daemon that runs until it is told not to.
const STAYS: &str = "echo up; exec sleep 1000000";

fn nothing_selected_is_said_in_one_line_and_waited_out() {
    let mut init = Bundle::new().start(" , ");
    assert_eq!(init.line(""), "init | no daemons selected");
    let (code, status) = init.status();
    assert_eq!((code, status.daemons.len(), status.stopping), (0, 0, false));
    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    assert_eq!(log, ["init | no daemons selected"]);
    assert!(!init.bundle.path("run/supervise.sock").exists());
}

fn a_selection_that_cannot_be_is_refused() {
    let bundle = Bundle::new();
    let refused = |selection| bundle.refused(&mut bundle.command(selection));
    let (code, out, err) = refused("supervise,pipelcok\u{1b}[2J");
    assert_eq!((code, out.as_str()), (2, ""));
    insta::assert_snapshot!(err, @r#"init | error: in BOTTLE_DAEMONS: unknown daemon "pipelcok\u{1b}[2J", the nearest is "pipelock"; known: egress, gateway, gitleaks, pipelock, supervise"#);
    let (code, out, err) = refused("pipelock,egress,gateway");
    assert_eq!((code, out.as_str()), (2, ""));
    insta::assert_snapshot!(err, @"init | error: in BOTTLE_DAEMONS: pipelock and gateway exclude each other: both listen on port 8888; select one of them");
}

fn a_table_that_cannot_be_is_refused() {
    let bundle = Bundle::new();
    let refused = |json: &str| {
        fs::write(bundle.path("bad.json"), json).unwrap();
        let mut command = bundle.command("");
        let (code, out, err) =
            bundle.refused(command.env("BOTTLE_DAEMON_TABLE", bundle.path("bad.json")));
        assert_eq!((code, out.as_str()), (2, ""));
        err
    };
    let unknown_key = refused("{\n  \"a\": {\"argv\": [\"/a\"], \"prot\": 1}\n}");
    insta::assert_snapshot!(unknown_key, @"init | error: the daemon table FOLDER/bad.json is wrong: unknown field `prot`, expected one of `argv`, `env`, `files`, `ready_port`, `ready_address` at line 2 column 30");
    let no_program = refused("{\"a\": {\"argv\": []}}");
    insta::assert_snapshot!(no_program, @r#"init | error: the daemon table FOLDER/bad.json is wrong: "a": `argv` names no program at line 1 column 19"#);
    let cut_short = refused("{\"a\": ");
    insta::assert_snapshot!(cut_short, @"init | error: the daemon table FOLDER/bad.json is wrong: EOF while parsing a value at line 1 column 6");

    // The argument goes before the variable.
    fs::write(bundle.path("good.json"), "{}").unwrap();
    let mut command = bundle.command("");
    command.env("BOTTLE_DAEMON_TABLE", bundle.path("good.json"));
    let (code, _, err) = bundle.refused(command.arg("--table").arg(bundle.path("missing.json")));
    assert_eq!(code, 2);
    insta::assert_snapshot!(err, @"init | error: cannot read the daemon table FOLDER/missing.json: No such file or directory (os error 2)");
}

fn every_line_carries_its_daemons_name() {
    let mut init = Bundle::new()
        .script("one", "echo out; echo err >&2; printf unfinished; exec sleep 1000000")
        .script("two", "echo \"$GREETING\"; exec sleep 1000000")
        .daemon("three", json!({"argv": ["sh", "-c", "echo $G; exit 7"], "env": {"G": "own"}}))
        .variable("GREETING", "inherited")
        .start("one,two,three");
    assert_eq!(init.line("two | "), "inherited");
    init.line("init | three: exited with code 7; again in ");
    init.until_state("one", State::Running);
    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    for line in ["one | out", "one | err", "one | unfinished", "three | own"] {
        assert!(log.iter().any(|logged| logged == line), "{line} in {log:#?}");
    }
    assert_eq!(log.last().unwrap(), "init | stopped");
}

fn a_daemon_starts_from_a_clean_slate() {
    let script = "wc -c
        grep -E 'Sig(Blk|Ign)' /proc/self/status
        [ \"$(cut -d' ' -f5 /proc/$$/stat)\" = $$ ] && echo leads
        exec sleep 1000000";
    // As many launchers do, the one of this init leaves a descriptor open.
    let leaks = ["/bin/sh", "-c", "exec 7<&0; exec \"$@\"", "sh"];
    let mut init = Bundle::new().script("a", script).wrapped_in(&leaks).start("a");
    assert_eq!(init.line("a | "), "0", "standard input is empty");
    assert_eq!(init.line("a | SigBlk:\t"), "0000000000000000");
    let ignored = u64::from_str_radix(&init.line("a | SigIgn:\t"), 16).unwrap();
    // All but 32 and 33, which glibc keeps for itself and starts every process with ignored.
    assert_eq!(ignored & !(0b11 << 31), 0, "{ignored:x}");
    assert_eq!(init.line("a | "), "leads", "its own process group");
    let pid = init.until_state("a", State::Running).pid.unwrap();
    let mut open = Vec::new();
    // The shell itself may have more, for a moment.
    eventually(
        || {
            let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            open = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            open.sort();
            open == ["0", "1", "2"]
        },
        || "a daemon without anybody else's descriptors".to_owned(),
    );
}

fn a_daemon_that_ends_is_started_again() {
    let script = "echo x >> runs; [ $(wc -l < runs) -lt 4 ] && exit 3; exec sleep 1000000";
    let init =
        Bundle::new().script("a", script).variable("BOTTLE_RESTART_PAUSE_MS", "1").start("a");
    init.wait_for_answers();
    let daemon = init.until("a", |daemon| daemon.restarts == 3 && daemon.state == State::Running);
    assert_eq!(daemon.last_exit, Some(End::Code(3)));
    assert_eq!(init.status().0, 0);
}

fn between_two_runs_there_is_a_pause() {
    let init = Bundle::new()
        .script("a", "kill -34 $$")
        .variable("BOTTLE_RESTART_PAUSE_MS", "3600000")
        .start("a");
    init.wait_for_answers();
    let daemon = init.until_state("a", State::Backoff);
    assert_eq!((daemon.pid, daemon.restarts), (None, 0));
    assert_eq!(daemon.last_exit, Some(End::Signal(34)), "a real-time signal");
    assert_eq!(init.status().0, 1);
}

fn a_daemon_that_ends_too_often_has_failed_and_the_others_go_on() {
    let mut init = Bundle::new()
        .script("bad", "exit 1")
        .daemon("missing", json!({"argv": ["/nowhere/daemon"]}))
        .script("good", STAYS)
        .variable("BOTTLE_RESTART_PAUSE_MS", "0")
        .start("bad,missing,good");
    init.wait_for_answers();
    let bad = init.until_state("bad", State::Failed);
    assert_eq!((bad.pid, bad.restarts, bad.last_exit), (None, 9, Some(End::Code(1))));
    let missing = init.until_state("missing", State::Failed);
    let what = "start /nowhere/daemon".to_owned();
    assert_eq!(missing.last_exit, Some(End::NotStarted { errno: 2, what }));
    let good = init.until_state("good", State::Running);
    assert_eq!((good.restarts, good.last_exit), (0, None));
    assert_eq!(init.status().0, 1);

    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    let failed = "init | bad: exited with code 1; failed, after 10 quick ends in a row";
    assert!(log.iter().any(|line| line == failed), "{log:#?}");
    let failed = "init | missing: cannot start /nowhere/daemon: No such file or directory; \
                  failed, after 10 quick ends in a row";
    assert!(log.iter().any(|line| line == failed), "{log:#?}");
}

fn a_killed_daemon_comes_back_and_its_children_do_not_stay() {
    let mut init = Bundle::new()
        .script("a", "sleep 1000000 & echo child $!; wait")
        .script("b", STAYS)
        .start("a,b");
    let child = init.line("a | child ");
    let (a, b) = (init.until_state("a", State::Running), init.until_state("b", State::Running));
    kill(Pid::from_raw(a.pid.unwrap()), Signal::SIGKILL).unwrap();
    let again = init.until("a", |daemon| daemon.restarts == 1 && daemon.state == State::Running);
    assert_eq!(again.last_exit, Some(End::Signal(9)));
    assert_ne!(again.pid, a.pid);
    eventually(|| !exists(&child), || format!("the end of {child}"));
    assert_eq!(init.until_state("b", State::Running).pid, b.pid);
}

fn whoever_starts_it_with_sigchld_ignored_gets_restarts_all_the_same() {
    let init = Bundle::new()
        .script("a", "[ -e once ] && exec sleep 1000000; touch once; exit 5")
        .wrapped_in(&["/bin/sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"])
        .start("a");
    init.wait_for_answers();
    let daemon = init.until("a", |daemon| daemon.restarts == 1 && daemon.state == State::Running);
    assert_eq!(daemon.last_exit, Some(End::Code(5)));
}

fn stopping_asks_the_last_one_first_and_waits_for_all() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // It is up once its child has signals at their default, too: a shell's child that is not yet what it
        // will be drops them.
        let script = |name| {
            format!(
                "trap 'echo bye {name}; exit 4' TERM
                sh -c 'echo up; exec sleep 1000000' & wait"
            )
        };
        let mut init = Bundle::new()
            .script("a", &script("a"))
            .script("b", &script("b"))
            .script("c", &script("c"))
            // Never reached: all of them end when they are asked to.
            .variable("BOTTLE_STOP_GRACE_MS", "3600000")
            .start("a,b,c");
        let mut up = [0; 3].map(|_| init.line("").split(" | ").next().unwrap().to_owned());
        while up.contains(&"init".to_owned()) {
            let line = init.line("");
            let name = line.strip_suffix(" | up").unwrap_or("init").to_owned();
            *up.iter_mut().find(|name| *name == "init").unwrap() = name;
        }
        kill(init.pid(), signal).unwrap();
        let (end, log) = init.end();
        assert_eq!(end.code(), Some(0));
        let after =
            log.iter().position(|line| *line == format!("init | stopping on {signal}: c, b, a"));
        let after = &log[after.unwrap_or_else(|| panic!("{log:#?}"))..];
        for name in ["a", "b", "c"] {
            let at = |line: String| after.iter().position(|logged| *logged == line).unwrap();
            let bye = at(format!("{name} | bye {name}"));
            assert!(bye < at(format!("init | {name}: stopped: exited with code 4")), "{log:#?}");
        }
        assert_eq!(log.last().unwrap(), "init | stopped");
    }
}

fn what_does_not_listen_to_sigterm_is_killed() {
    let mut init = Bundle::new()
        .script("deaf", "trap '' TERM; sh -c 'echo child $$; exec sleep 1000000'; echo never")
        .script("good", STAYS)
        .variable("BOTTLE_STOP_GRACE_MS", "1")
        .start("deaf,good");
    let child = init.line("deaf | child ");
    let daemon = init.until_state("deaf", State::Running);
    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    assert!(
        log.iter().any(|line| line.starts_with("init | still there after 1ms, killing: deaf")),
        "{log:#?}"
    );
    assert!(log.iter().any(|line| line == "init | deaf: stopped: killed by SIGKILL"), "{log:#?}");
    assert!(!exists(&child) && !exists(&daemon.pid.unwrap().to_string()));
}

fn orphans_come_to_the_init_and_are_reaped() {
    let script = "mkfifo end
        (setsid sh -c 'echo orphan $$; read word < end' &)
        exec sleep 1000000";
    let mut init = Bundle::new().script("a", script).start("a");
    let orphan = init.line("a | orphan ");
    eventually(|| parent(&orphan) == Some(init.pid().as_raw()), || format!("{orphan} adopted"));
    fs::write(init.bundle.path("end"), "now\n").unwrap();
    eventually(|| !exists(&orphan), || format!("{orphan} reaped"));
    assert_eq!(init.until_state("a", State::Running).restarts, 0);
}

/// Leaves an orphan in a session of its own, which says its number and then does not care for SIGTERM.
const DEAF_ORPHAN: &str = "(setsid sh -c 'trap \"\" TERM; echo orphan $$; sleep 1000000' &)";
/// Leaves an orphan in a session of its own, which says its number and ends when it is asked to.
const GOOD_ORPHAN: &str = "(setsid sh -c 'trap \"echo heard; exit\" TERM
    sh -c \"echo orphan $$; exec sleep 1000000\" & wait' &)";

fn orphans_that_left_their_group_are_asked_to_end_as_well() {
    let mut init = Bundle::new()
        .script("a", &format!("{GOOD_ORPHAN}\n{STAYS}"))
        // Never reached.
        .variable("BOTTLE_STOP_GRACE_MS", "3600000")
        .start("a");
    let orphan = init.line("a | orphan ");
    eventually(|| parent(&orphan) == Some(init.pid().as_raw()), || format!("{orphan} adopted"));
    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    assert!(log.iter().any(|line| line == "a | heard"), "{log:#?}");
    assert!(!exists(&orphan));
}

fn orphans_that_do_not_listen_are_killed_as_well() {
    let mut init = Bundle::new()
        .script("a", &format!("{DEAF_ORPHAN}\n{STAYS}"))
        .variable("BOTTLE_STOP_GRACE_MS", "1")
        .start("a");
    let orphan = init.line("a | orphan ");
    eventually(|| parent(&orphan) == Some(init.pid().as_raw()), || format!("{orphan} adopted"));
    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    assert!(log.iter().any(|line| line.starts_with("init | still there after 1ms")), "{log:#?}");
    assert!(!exists(&orphan));
}

fn hostile_output_harms_nobody() {
    let script = r"printf 'a\000b\033[2J\033]0;title\007\r\n'
        printf 'init | forged\n'
        head -c 1048576 /dev/zero | tr '\000' x; echo
        head -c 20000 /dev/zero; echo
        printf '\377\376\n\342\200\256after\n'
        echo done; exec sleep 1000000";
    let mut init = Bundle::new().script("a", script).start("a");
    assert_eq!(init.line("a | "), r"a\x00b\x1b[2J\x1b]0;title\x07");
    assert_eq!(init.line("a | "), "init | forged");
    let long = init.line("a | ");
    let (kept, cut) = long.split_once("… [").unwrap();
    assert!(kept.bytes().all(|byte| byte == b'x') && long.len() < 16 * 1024);
    assert_eq!(cut, format!("{} bytes cut]", (1 << 20) - kept.len()));
    let nuls = init.line("a | ");
    assert!(nuls.starts_with(r"\x00\x00") && nuls.len() < 16 * 1024, "{}", nuls.len());
    assert_eq!(init.line("a | "), "\u{fffd}\u{fffd}");
    assert_eq!(init.line("a | "), r"\u{202e}after");
    assert_eq!(init.line("a | "), "done");
    assert_eq!(init.until_state("a", State::Running).restarts, 0);
}

fn a_log_that_nobody_reads_holds_nobody_up() {
    let script = "yes 0123456789012345678901234567890123456789 | head -n 100000
        touch flooded; exec sleep 1000000";
    let mut init = Bundle::new().script("a", script).start_unread("a");
    init.wait_for_answers();
    init.until("a", |_| init.bundle.path("flooded").exists());
    init.read_log();
    let lost = init.line("init | a: started");
    assert!(!lost.is_empty());
    let (end, log) = init.stop();
    assert_eq!(end.code(), Some(0));
    let kept = log.iter().filter(|line| line.starts_with("a | 0123")).count();
    let lost: usize = log
        .iter()
        .filter_map(|line| line.strip_prefix("init | ")?.split_once(" lines dropped: "))
        .map(|(number, _)| number.parse::<usize>().unwrap())
        .sum();
    assert!(lost > 0, "{log:#?}");
    assert_eq!(kept + lost, 100_000, "every line is either there or counted");
}

fn a_log_whose_reader_is_gone_holds_nobody_up() {
    let mut init =
        Bundle::new().script("a", "echo said; touch said; exec sleep 1000000").start_unread("a");
    init.close_log();
    init.wait_for_answers();
    init.until("a", |daemon| daemon.state == State::Running && init.bundle.path("said").exists());
}

fn a_daemon_with_a_port_runs_once_it_listens() {
    // Bound and not listening: nobody else can take the port, and it refuses.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _inside = runtime.enter();
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let entry = json!({"argv": ["sleep", "1000000"], "ready_port": address.port()});
    let mut init = Bundle::new().daemon("a", entry).start("a");
    init.line("init | a: started");
    let starting = init.until("a", |daemon| daemon.pid.is_some());
    assert_eq!(starting.state, State::Starting);
    assert_eq!(init.status().0, 1);
    let _listener = held.listen(8).unwrap();
    let running = init.until_state("a", State::Running);
    assert_eq!((running.pid, running.restarts), (starting.pid, 0));
    assert!(running.since_unix_ms >= starting.since_unix_ms);
    assert_eq!(init.status().0, 0);
    assert_eq!(init.line("init | a: listens on port "), address.port().to_string());
}

fn a_daemon_may_listen_on_another_address_alone() {
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let entry = |address: Option<&str>| {
        let mut entry = json!({"argv": ["sleep", "1000000"], "ready_port": port});
        if let Some(address) = address {
            entry["ready_address"] = json!(address);
        }
        entry
    };
    let init = Bundle::new().daemon("a", entry(Some("127.0.0.2"))).start("a");
    init.wait_for_answers();
    init.until_state("a", State::Running);
    let other = Bundle::new().daemon("a", entry(None)).start("a");
    other.wait_for_answers();
    let starting = other.until("a", |daemon| daemon.pid.is_some());
    assert_eq!(starting.state, State::Starting, "nobody listens on 127.0.0.1");
}

fn a_daemon_gets_its_files_anew_each_time() {
    let bundle = Bundle::new();
    let (config, links_to) = (bundle.path("config"), bundle.path("elsewhere"));
    std::os::unix::fs::symlink(&links_to, &config).unwrap();
    // It reads its file, and leaves nothing of it.
    let script = format!("cat '{0}'; stat -c %a '{0}'; echo gone > '{0}'", config.display());
    let content = "mode: strict\nlist: [\"a\"]\n";
    let entry = json!({
        "argv": ["/bin/sh", "-c", script],
        "files": { config.to_str().unwrap(): content },
    });
    let nowhere = json!({"argv": ["true"], "files": {"/nowhere/file": ""}});
    let mut init = bundle
        .daemon("a", entry)
        .daemon("b", nowhere)
        .variable("BOTTLE_RESTART_PAUSE_MS", "0")
        .start("a,b");
    init.wait_for_answers();
    init.until_state("a", State::Failed);
    init.until_state("b", State::Failed);
    assert!(!links_to.exists(), "no link is followed");
    let (_, log) = init.stop();
    let count = |wanted: &str| log.iter().filter(|line| *line == wanted).count();
    for line in ["a | mode: strict", "a | list: [\"a\"]", "a | 600"] {
        assert_eq!(count(line), 10, "{line}: {log:#?}");
    }
    let why = "init | b: cannot write /nowhere/file: No such file or directory; again in 0 ms";
    assert_eq!(count(why), 9, "{log:#?}");
}

fn the_status_is_json_in_the_order_of_the_selection() {
    let mut init = Bundle::new()
        .script("z", STAYS)
        .daemon("a", json!({"argv": ["/nowhere"]}))
        .variable("BOTTLE_RESTART_PAUSE_MS", "3600000")
        .start("z,supervise,a");
    init.line("z | up");
    init.until_state("a", State::Backoff);
    let output = called_supervise(&init.bundle, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let mut status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let own = status["daemons"][1]["pid"].clone();
    assert_eq!(own, json!(init.pid().as_raw()));
    for daemon in status["daemons"].as_array_mut().unwrap() {
        assert!(daemon["since_unix_ms"].as_u64().unwrap() > 1_600_000_000_000);
        daemon["since_unix_ms"] = json!("SINCE");
        if daemon["pid"].is_number() {
            daemon["pid"] = json!("PID");
        }
    }
    status["version"] = json!("VERSION");
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap(), @r#"
    {
      "daemons": [
        {
          "last_exit": null,
          "name": "z",
          "pid": "PID",
          "restarts": 0,
          "since_unix_ms": "SINCE",
          "state": "running"
        },
        {
          "last_exit": null,
          "name": "supervise",
          "pid": "PID",
          "restarts": 0,
          "since_unix_ms": "SINCE",
          "state": "running"
        },
        {
          "last_exit": {
            "not-started": {
              "errno": 2,
              "what": "start /nowhere"
            }
          },
          "name": "a",
          "pid": null,
          "restarts": 0,
          "since_unix_ms": "SINCE",
          "state": "backoff"
        }
      ],
      "stopping": false,
      "version": "VERSION"
    }
    "#);
}

fn asking_without_an_init_is_an_error_of_its_own() {
    let bundle = Bundle::new();
    let output = called_supervise(&bundle, &["status"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    let folder = bundle.folder.path().display().to_string();
    let err = text(&output.stderr).replace(&folder, "FOLDER");
    insta::assert_snapshot!(err, @"supervise | error: no init answers at FOLDER/run/supervise.sock: No such file or directory (os error 2)");
    let output = called_supervise(&bundle, &["restart"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stderr), @"supervise | error: usage: supervise status");
}

fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(bundle.path("run/supervise.sock")).unwrap());
    let mut init = bundle.start("supervise");
    init.wait_for_answers();
    assert_eq!(init.status().0, 0);

    let (code, _, err) = init.bundle.refused(&mut init.bundle.command("supervise"));
    assert_eq!(code, 2);
    insta::assert_snapshot!(err, @"init | error: cannot answer at FOLDER/run/supervise.sock: Address already in use (os error 98)");
    assert_eq!(init.status().0, 0, "the first one still answers");
    assert_eq!(init.stop().0.code(), Some(0));
}

/// Runs the init as PID 1 of a PID namespace, stops it once the daemon's orphan is up, and gives its log.
fn as_pid_1(orphan: &str, grace: &str) -> Vec<String> {
    let namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let possible = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip("no PID namespace can be made here (unshare(1), user namespaces)");
    }
    let mut init = Bundle::new()
        .script("a", &format!("{orphan}\n{STAYS}"))
        .variable("BOTTLE_STOP_GRACE_MS", grace)
        .wrapped_in(&namespace)
        .start("supervise,a");
    init.line("a | orphan ");
    assert_eq!(init.until_state("supervise", State::Running).pid, Some(1));
    let inner = fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.pid())).unwrap();
    kill(Pid::from_raw(inner.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    let (end, log) = init.end();
    assert_eq!(end.code(), Some(0), "{log:#?}");
    assert_eq!(log.last().unwrap(), "init | stopped");
    log
}

fn as_pid_1_it_asks_everything_to_end() {
    let log = as_pid_1(GOOD_ORPHAN, "3600000");
    assert!(log.iter().any(|line| line == "a | heard"), "{log:#?}");
}

fn as_pid_1_it_kills_everything() {
    let log = as_pid_1(DEAF_ORPHAN, "1");
    assert!(log.iter().any(|line| line.starts_with("init | still there after 1ms")), "{log:#?}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        nothing_selected_is_said_in_one_line_and_waited_out,
        a_selection_that_cannot_be_is_refused,
        a_table_that_cannot_be_is_refused,
        every_line_carries_its_daemons_name,
        a_daemon_starts_from_a_clean_slate,
        a_daemon_that_ends_is_started_again,
        between_two_runs_there_is_a_pause,
        a_daemon_that_ends_too_often_has_failed_and_the_others_go_on,
        a_killed_daemon_comes_back_and_its_children_do_not_stay,
        whoever_starts_it_with_sigchld_ignored_gets_restarts_all_the_same,
        stopping_asks_the_last_one_first_and_waits_for_all,
        what_does_not_listen_to_sigterm_is_killed,
        orphans_come_to_the_init_and_are_reaped,
        orphans_that_left_their_group_are_asked_to_end_as_well,
        orphans_that_do_not_listen_are_killed_as_well,
        hostile_output_harms_nobody,
        a_log_that_nobody_reads_holds_nobody_up,
        a_log_whose_reader_is_gone_holds_nobody_up,
        a_daemon_with_a_port_runs_once_it_listens,
        a_daemon_may_listen_on_another_address_alone,
        a_daemon_gets_its_files_anew_each_time,
        the_status_is_json_in_the_order_of_the_selection,
        asking_without_an_init_is_an_error_of_its_own,
        a_socket_left_behind_is_replaced_and_one_in_use_is_not,
        as_pid_1_it_asks_everything_to_end,
        as_pid_1_it_kills_everything,
    ]
}
