//! The Dockerfiles for people, read by a parser: what they are made of is pinned, and what they make runs as nobody special.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parse_dockerfile::{Command, Dockerfile, Instruction, Source};

/// Everything that is wrong with a Dockerfile.
fn wrong_with(text: &str) -> Vec<String> {
    let file = match parse_dockerfile::parse(text) {
        Ok(file) => file,
        Err(error) => return vec![format!("it cannot be read: {error}")],
    };
    let mut wrong = Vec::new();
    let mut stages = BTreeSet::from(["scratch".to_owned()]);
    for stage in file.stages() {
        let image = &stage.from.image.value;
        if !stages.contains(image.as_ref()) && !is_pinned(image) {
            wrong.push(format!("{image} is not pinned"));
        }
        stages.extend(stage.from.as_.iter().map(|(_, name)| name.value.clone().into_owned()));
        wrong.extend(stage.instructions.iter().filter_map(|one| added_unseen(one, &stages)));
    }
    wrong.extend(wrong_at_last(&file));
    wrong
}

/// By a digest, or by a tag that is a version: three numbers at least.
fn is_pinned(image: &str) -> bool {
    if let Some((_, digest)) = image.split_once('@') {
        let hash = digest.strip_prefix("sha256:").unwrap_or_default();
        return hash.len() == 64
            && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    let version = name.split_once(':').map_or("", |(_, tag)| tag).trim_start_matches('v');
    let version = version.split('-').next().unwrap_or_default();
    let numbers: Vec<_> = version.split('.').collect();
    numbers.len() >= 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
}

/// What comes from elsewhere without anybody having seen it before.
fn added_unseen(instruction: &Instruction<'_>, stages: &BTreeSet<String>) -> Option<String> {
    match instruction {
        Instruction::Add(add) => {
            let checked = add.options.iter().any(|option| option.name.value == "checksum");
            let remote = add.src.iter().find_map(|source| match source {
                Source::Path(path) if path.value.contains("://") || path.value.contains("git@") => {
                    Some(path.value.clone())
                }
                _ => None,
            })?;
            (!checked).then(|| format!("{remote} is added without a checksum"))
        }
        Instruction::Copy(copy) => {
            let from = copy.options.iter().find(|option| option.name.value == "from")?;
            let from = from.value.as_ref()?.value.as_ref();
            (!stages.contains(from) && !is_pinned(from)).then(|| format!("{from} is not pinned"))
        }
        _ => None,
    }
}

/// What is wrong with the image that comes of it.
fn wrong_at_last(file: &Dockerfile<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(last) = file.stages().last() else { return vec!["it makes nothing".to_owned()] };
    let user = last.instructions.iter().rev().find_map(|one| match one {
        Instruction::User(user) => Some(user.arguments.value.clone()),
        _ => None,
    });
    match user.as_deref() {
        None => wrong.push("it runs as whoever its base does".to_owned()),
        Some(user) => {
            let id = user.split(':').next().unwrap_or_default().parse::<u32>();
            if !id.is_ok_and(|id| id > 0) {
                wrong.push(format!("its user {user:?} is no number, or root"));
            }
        }
    }
    let entry = last.instructions.iter().rev().find_map(|one| match one {
        Instruction::Entrypoint(entry) => Some(&entry.arguments),
        _ => None,
    });
    match entry {
        None => wrong.push("it has no entry point".to_owned()),
        Some(Command::Exec(_)) => {}
        Some(_) => wrong.push("its entry point goes through a shell".to_owned()),
    }
    wrong
}

fn dockerfiles() -> BTreeMap<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker");
    let found =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().join("Dockerfile"));
    let read = |path: PathBuf| Some((path.clone(), std::fs::read_to_string(path).ok()?));
    found.filter_map(read).collect()
}

#[test]
fn the_images_for_people_are_pinned_and_run_as_nobody_special() {
    let all = dockerfiles();
    assert_eq!(all.len(), 2, "{:?}", all.keys());
    for (path, text) in all {
        assert_eq!(wrong_with(&text), [] as [&str; 0], "{}", path.display());
    }
}

#[test]
fn whatever_is_not_so_is_told() {
    let digest = "0123456789abcdef".repeat(4);
    let end = "\nUSER 1000:1000\nENTRYPOINT [\"/x\"]\n";
    let sound = format!("FROM a/b:1@sha256:{digest}{end}");
    assert_eq!(wrong_with(&sound), [] as [&str; 0]);
    for (text, expected) in [
        (format!("FROM alpine{end}"), "alpine is not pinned"),
        (format!("FROM alpine:latest{end}"), "alpine:latest is not pinned"),
        (format!("FROM node:22{end}"), "node:22 is not pinned"),
        (format!("FROM node:lts-slim{end}"), "node:lts-slim is not pinned"),
        (format!("FROM localhost:5000/a{end}"), "localhost:5000/a is not pinned"),
        (format!("FROM a@sha256:{}{end}", &digest[1..]), "is not pinned"),
        (format!("FROM scratch\nADD https://a.test/b /b{end}"), "https://a.test/b is added"),
        (format!("FROM scratch\nCOPY --from=busybox /a /b{end}"), "busybox is not pinned"),
        ("FROM scratch\nENTRYPOINT [\"/x\"]\n".to_owned(), "as whoever its base does"),
        ("FROM scratch\nUSER root\nENTRYPOINT [\"/x\"]\n".to_owned(), "\"root\""),
        ("FROM scratch\nUSER 0:0\nENTRYPOINT [\"/x\"]\n".to_owned(), "\"0:0\""),
        ("FROM scratch\nUSER 1:1\nENTRYPOINT /x --y\n".to_owned(), "goes through a shell"),
        ("FROM scratch\nUSER 1:1\n".to_owned(), "no entry point"),
        ("FRUM scratch\n".to_owned(), "cannot be read"),
    ] {
        let wrong = wrong_with(&text);
        assert!(wrong.iter().any(|one| one.contains(expected)), "{text}: {wrong:?}");
    }
    for fine in [
        "FROM node:22.23.1-slim AS a\nFROM a\nCOPY --from=a /x /x",
        "FROM b:v1.2.3\nADD --checksum=sha256:00 https://a.test/b /b",
    ] {
        assert_eq!(wrong_with(&format!("{fine}{end}")), [] as [&str; 0], "{fine}");
    }
}

/// What is pinned twice is pinned to the same.
#[test]
fn canaries_watch_the_digests_that_the_images_are_made_of() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("canaries");
    let mut watched = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let canary: toml::Table = text.parse().unwrap();
        let check = &canary["check"];
        if check["kind"].as_str() == Some("image") {
            let of = |key: &str| check[key].as_str().unwrap().to_owned();
            watched.insert(of("image"), (of("tag"), of("digest")));
        }
    }
    let mut compared = 0;
    for (path, text) in dockerfiles() {
        let file = parse_dockerfile::parse(&text).unwrap();
        for stage in file.stages() {
            let Some((name, digest)) = stage.from.image.value.split_once('@') else { continue };
            let (name, tag) = name.rsplit_once(':').unwrap();
            if let Some(expected) = watched.get(name) {
                assert_eq!(
                    (tag, digest),
                    (&*expected.0, &*expected.1),
                    "{name} in {}",
                    path.display()
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, watched.len(), "{watched:?}");
}

/// The one program of ours in them, with a stand-in for gitleaks: a line for each file with a secret, in a form that is told.
#[test]
fn what_gitleaks_finds_is_told_in_the_words_of_a_daemon() {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let gitleaks = folder.path().join("gitleaks");
    let script = "#!/bin/sh\n[ \"$1\" = dir ] || exit 1\nfor last; do :; done\n\
                  printf '%-12s %s\\n' Finding: REDACTED File: \"$last/a b\" Line: 3 File: \"$last/c\"\n";
    std::fs::write(&gitleaks, script).unwrap();
    std::fs::set_permissions(&gitleaks, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/sidecars/gitleaks-daemon");
    let mut daemon = Command::new("sh")
        .arg(wrapper)
        .envs([("PATH", path.as_str()), ("BOTTLE_SCANNED", "/x"), ("BOTTLE_SCAN_PAUSE", "0")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map(Result::unwrap);
    // It goes on and on.
    let told: Vec<_> = lines.take(4).collect();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let both = ["found: a secret in /x/a b", "found: a secret in /x/c"];
    assert_eq!(told, [both, both].concat());
}
