//! Definitions of probes: the shipped ones, what is wrong in others and how it is told, and the catalogue.

use std::fs;
use std::path::{Path, PathBuf};

use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::definition::{
    AttemptDefinition, Expect, Method, Probe, RunsOn, Severity, Site,
};
use claude_bottle::probe::errors::{DefinitionError, DefinitionErrors};
use claude_bottle::probe::parse::Known;
use claude_bottle::probe::schema;
use claude_bottle::probe::selection::Filters;
use claude_bottle::written::Problem;
use claude_bottle_protocol::prober::How;
use proptest::prelude::*;
use tempfile::TempDir;

const BREACHES: &[&str] = &[
    "no-bundle-route",
    "egress-on-all-interfaces",
    "shared-network-namespace",
    "no-network-namespace",
    "noexec-root",
];

/// A definition with nothing wrong: the cases change a line of it, or add some.
const RIGHT: &str = r#"title = "T"
why = "W"
severity = "low"
proven-by = ["no-bundle-route"]
[[attempt]]
method = "tcp"
to = { site = "bundle", port = "gateway" }
expect = "reached"
"#;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn discover(files: &[(&str, &[u8])]) -> Result<Catalogue, DefinitionErrors> {
    Catalogue::discover(folder(files).path(), BREACHES)
}

/// What is told about these files; the folder is called `probes`.
fn told(files: &[(&str, &[u8])]) -> String {
    let folder = folder(files);
    let errors = Catalogue::discover(folder.path(), BREACHES).unwrap_err();
    errors.to_string().replace(folder.path().to_str().unwrap(), "probes")
}

fn one(text: &str) -> Probe {
    discover(&[("x.toml", text.as_bytes())])
        .unwrap_or_else(|errors| panic!("{errors}"))
        .get("x")
        .cloned()
        .unwrap()
}

fn shipped_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("probes")
}

fn shipped_texts() -> Vec<(String, String)> {
    let mut texts: Vec<_> = fs::read_dir(shipped_folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    texts.sort();
    texts
}

/// Cases of one topic, each with its title, as one text: what is wrong and what is told.
fn cases(cases: &[(&str, String)]) -> String {
    let told = cases.iter().map(|(title, text)| {
        let told = told(&[("x.toml", text.as_bytes())]);
        format!("# {title}\n\n{told}\n")
    });
    told.collect::<Vec<_>>().join("\n\n")
}

/// [`RIGHT`] with one line put in place of the line that begins with `key`.
fn with(key: &str, line: &str) -> String {
    let changed: Vec<&str> =
        RIGHT.lines().map(|old| if old.starts_with(key) { line } else { old }).collect();
    assert_ne!(changed.join("\n"), RIGHT.trim_end(), "no line begins with {key}");
    changed.join("\n") + "\n"
}

/// [`RIGHT`] without the line that begins with `key`.
fn without(key: &str) -> String {
    let others: Vec<&str> = RIGHT.lines().filter(|line| !line.starts_with(key)).collect();
    assert_eq!(others.len() + 1, RIGHT.lines().count(), "one line begins with {key}");
    others.join("\n") + "\n"
}

/// Compares with the snapshot of this name; the cases themselves are in this file already.
macro_rules! assert_told {
    ($told:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($told) })
    };
}

#[test]
fn the_shipped_definitions_are_right_and_are_those_built_in() {
    let found = Catalogue::discover(&shipped_folder(), BREACHES).unwrap();
    let names: Vec<&str> = found.probes().iter().map(|probe| probe.name.as_str()).collect();
    assert!(names.is_sorted());
    for name in ["bundle-reach", "egress-port-bypass", "loopback-reach", "smoke-echo"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }

    let built_in = Catalogue::embedded(BREACHES).unwrap();
    let without_file = |probe: &Probe| Probe { file: None, ..probe.clone() };
    let found: Vec<Probe> = found.probes().iter().map(without_file).collect();
    assert_eq!(built_in.probes(), found);
}

#[test]
fn the_shipped_definitions_say_what_is_tried() {
    let catalogue = Catalogue::embedded(BREACHES).unwrap();
    let tried = |name: &str| {
        let probe = catalogue.get(name).unwrap();
        let attempts = probe.attempts.iter().map(|attempt| {
            let how: Vec<&str> = attempt.how.iter().map(|how| how.as_str()).collect();
            format!("{attempt}: {} {}", attempt.expect, how.join("|")).trim_end().to_owned()
        });
        attempts.collect::<Vec<_>>()
    };
    assert_eq!(tried("smoke-echo"), ["exec: reached"]);
    assert_eq!(tried("bundle-reach"), ["tcp to bundle:gateway: reached"]);
    assert_eq!(tried("egress-port-bypass"), ["tcp to bundle:egress: contained refused"]);

    let loopback = tried("loopback-reach");
    assert_eq!(loopback.len(), 2 * 2 * 2 * 7, "sites, methods, ports, spellings");
    assert_eq!(
        loopback[0],
        "tcp to host-loopback:discard as 127.0.0.1: contained refused|unreachable"
    );
    assert_eq!(
        loopback[55],
        "udp to real-loopback:random as ::ffff:127.0.0.1: contained refused|unreachable"
    );
}

#[test]
fn every_field_arrives() {
    let probe = one(r#"
        title = "T"
        why = """
        First.
        Second."""
        severity = "critical"
        tags = ["a", "b-2"]
        references = ["CVE-2020-8558", "RFC 1122"]
        proven-by = ["no-bundle-route", "noexec-root"]
        needs = ["vsock-loopback"]

        [[attempt]]
        method = "udp"
        to = { site = "host-loopback", port = "random", spelled = "::1" }
        expect = "contained"
        how = "timed-out"
        only-on = ["namespace", "docker"]

        [on.smolmachines]
        expect = "leaks"
        because = "B"
        reference = "https://example.org"

        [on.external]
        skip = true
        because = "C"
    "#);
    assert_eq!(probe.title, "T");
    assert_eq!(probe.why.lines().map(str::trim).collect::<Vec<_>>(), ["First.", "Second."]);
    assert_eq!(probe.severity, Severity::Critical);
    assert_eq!(probe.tags, ["a", "b-2"]);
    assert_eq!(probe.references, ["CVE-2020-8558", "RFC 1122"]);
    assert_eq!(probe.proven_by, ["no-bundle-route", "noexec-root"]);
    assert_eq!(probe.needs, ["vsock-loopback"]);

    let [AttemptDefinition { method, to: Some(to), expect, how, only_on }] = &*probe.attempts
    else {
        panic!("one attempt to a place, not {:?}", probe.attempts);
    };
    assert_eq!((*method, *expect), (Method::Udp, Expect::Contained));
    assert_eq!((to.site, to.port.as_str()), (Site::HostLoopback, "random"));
    assert_eq!(to.spelled.as_deref(), Some("::1"));
    assert_eq!(
        (how.as_slice(), only_on.join(" ")),
        ([How::TimedOut].as_slice(), "namespace docker".to_owned())
    );

    assert_eq!(probe.on.keys().collect::<Vec<_>>(), ["external", "smolmachines"]);
    let RunsOn::Skipped { because } = probe.runs_on("external") else { panic!("skipped there") };
    assert_eq!(because, "C");
    assert_eq!(probe.on["smolmachines"].expect, Some(Expect::Leaks));
    assert_eq!(probe.on["smolmachines"].reference.as_deref(), Some("https://example.org"));
    assert!(matches!(probe.runs_on("namespace"), RunsOn::Runs { known_leak: None, .. }));
}

#[test]
fn lists_multiply_out_by_method_then_port_then_spelling() {
    let probe = one(&with("to", r#"to = { site = "host-loopback", port = ["random", "discard"], spelled = ["::1", "127.0.0.1"] }"#)
        .replace(r#"method = "tcp""#, r#"method = ["udp", "tcp"]"#)
        .replace("reached", "contained"));
    let attempts: Vec<String> = probe.attempts.iter().map(ToString::to_string).collect();
    assert_eq!(
        attempts,
        [
            "udp to host-loopback:random as ::1",
            "udp to host-loopback:random as 127.0.0.1",
            "udp to host-loopback:discard as ::1",
            "udp to host-loopback:discard as 127.0.0.1",
            "tcp to host-loopback:random as ::1",
            "tcp to host-loopback:random as 127.0.0.1",
            "tcp to host-loopback:discard as ::1",
            "tcp to host-loopback:discard as 127.0.0.1",
        ]
    );
}

#[test]
fn what_editors_do_to_a_file_is_tolerated() {
    let read = |text: &str| Probe { file: None, ..one(text) };
    let right = read(RIGHT);
    assert_eq!(read(&format!("\u{feff}{RIGHT}")), right);
    assert_eq!(read(&RIGHT.replace('\n', "\r\n")), right);
    assert_eq!(read(RIGHT.trim_end()), right);
}

#[test]
fn mistakes_in_keys_are_told() {
    assert_told!(cases(&[
        ("an unknown key, near a right one", RIGHT.replace("expect", "exepct")),
        (
            "an unknown key with a capital letter and a wrong dash",
            RIGHT.replace("proven-by", "Proven_by")
        ),
        ("an unknown key, near none", format!("colour = 1\n{RIGHT}")),
        (
            "an unknown key in `to`",
            with("to", r#"to = { site = "bundle", port = "gateway", spelt = "x" }"#)
        ),
        ("an unknown key in `on`", format!("{RIGHT}[on.docker]\nskip = true\nbecuase = \"x\"\n")),
        ("an unknown backend", format!("{RIGHT}[on.smolmachine]\nskip = true\nbecause = \"x\"\n")),
        ("no `title`", without("title")),
        ("no `why`", without("why")),
        ("no `severity`", without("severity")),
        ("no `proven-by`", without("proven-by")),
        ("no attempt", RIGHT.split("[[attempt]]").next().unwrap().to_owned()),
        ("an attempt without `method`", without("method")),
        ("an attempt without `expect`", without("expect")),
        ("no `site`", with("to", r#"to = { port = "gateway" }"#)),
        ("no `port`", with("to", r#"to = { site = "bundle" }"#)),
        ("no `because`", format!("{RIGHT}[on.docker]\nskip = true\n")),
        ("an empty file", String::new()),
    ]));
}

#[test]
fn mistakes_in_types_are_told() {
    assert_told!(cases(&[
        ("a number for a text", with("title", "title = 7")),
        ("a text for a list", with("proven-by", r#"proven-by = "noexec-root""#)),
        ("a number in a list", with("proven-by", r#"proven-by = ["noexec-root", 1.5]"#)),
        ("a list for a word", with("severity", r#"severity = ["low"]"#)),
        ("a boolean for one or many", with("method", "method = true")),
        ("a text for a table", with("to", r#"to = "bundle:gateway""#)),
        ("a table for tables", RIGHT.replace("[[attempt]]", "[attempt]")),
        ("a date for a port", with("to", r#"to = { site = "bundle", port = 2024-01-01 }"#)),
        ("a text for a boolean", format!("{RIGHT}[on.docker]\nskip = \"yes\"\nbecause = \"x\"\n")),
        ("a text for `on`", format!("on = 1\n{RIGHT}")),
        ("a text for a backend", format!("{RIGHT}[on]\ndocker = \"skip\"\n")),
    ]));
}

#[test]
fn mistakes_in_values_are_told() {
    let to = |port: &str| with("to", &format!(r#"to = {{ site = "bundle", port = {port} }}"#));
    assert_told!(cases(&[
        ("an empty title", with("title", r#"title = "  ""#)),
        ("a title of two lines", with("title", r#"title = "a\nb""#)),
        ("an unknown severity", with("severity", r#"severity = "hihg""#)),
        ("an unknown severity, near none", with("severity", r#"severity = "bad""#)),
        ("an empty `proven-by`", with("proven-by", "proven-by = []")),
        (
            "an unknown breach",
            with("proven-by", r#"proven-by = ["noexec-root", "no-bundel-route"]"#)
        ),
        ("an unknown breach, near none", with("proven-by", r#"proven-by = ["nothing"]"#)),
        (
            "the same breach twice",
            with("proven-by", r#"proven-by = ["noexec-root", "noexec-root"]"#)
        ),
        ("a tag that is no name", format!("tags = [\"TCP\", \"-slow\", \"\"]\n{RIGHT}")),
        ("an unknown method", with("method", r#"method = ["tcp", "ucp"]"#)),
        ("an unknown site", with("to", r#"to = { site = "host_loopback", port = "random" }"#)),
        ("an unknown port", to(r#"["gateway", "egres"]"#)),
        ("an unknown port, near none", to(r#""ssh""#)),
        ("a number where the site has names", to("9099")),
        ("a number that is no port", to("65536")),
        ("a port below zero", to("-1")),
        ("port zero", to("0x0")),
        ("an unknown expectation", with("expect", r#"expect = "contianed""#)),
        (
            "an unknown way to fail",
            with("expect", "expect = \"contained\"\nhow = [\"refused\", \"timeout\"]")
        ),
        ("a way that is no failure", with("expect", "expect = \"contained\"\nhow = \"answered\"")),
        ("an unknown backend", with("expect", "expect = \"reached\"\nonly-on = \"namespaces\"")),
        (
            "a spelling with a space",
            with("to", r#"to = { site = "bundle", port = "gateway", spelled = "a b" }"#)
        ),
        (
            "no spelling at all",
            with("to", r#"to = { site = "bundle", port = "gateway", spelled = [] }"#)
        ),
        ("a word that steers a terminal", with("severity", r#"severity = "\u001b[31mhigh""#)),
    ]));
}

#[test]
fn mistakes_in_what_goes_together_are_told() {
    let on = |lines: &str| format!("{RIGHT}[on.docker]\nbecause = \"x\"\n{lines}\n");
    let exec = RIGHT.replace(r#"method = "tcp""#, r#"method = "exec""#);
    let attempt = RIGHT.split_once("[[attempt]]").unwrap().1;
    let many = |letter: &str| {
        let spelled: Vec<String> = (0..100).map(|number| format!("\"{letter}{number}\"")).collect();
        format!(
            "[[attempt]]\nmethod = [\"tcp\", \"udp\"]\nexpect = \"contained\"\n[attempt.to]\nsite = \"host-loopback\"\nport = [\"random\", \"discard\"]\nspelled = [{}]\n",
            spelled.join(", ")
        )
    };
    let too_many = RIGHT.split("[[attempt]]").next().unwrap().to_owned()
        + &('a'..='k').map(|letter| many(&letter.to_string())).collect::<String>();
    assert_told!(cases(&[
        ("a method that needs a `to`", without("to")),
        ("a method that goes nowhere", exec.clone()),
        ("a list with one of each", with("method", r#"method = ["tcp", "exec"]"#)),
        (
            "`exec` contained",
            exec.replace("reached", "contained")
                .replace("to = { site = \"bundle\", port = \"gateway\" }\n", "")
        ),
        ("`how` of what is reached", with("expect", "expect = \"reached\"\nhow = \"refused\"")),
        ("a known leak without a reference", with("expect", r#"expect = "leaks""#)),
        ("a known leak on a backend without a reference", on(r#"expect = "leaks""#)),
        (
            "a known leak of `exec`",
            exec.replace("to = { site = \"bundle\", port = \"gateway\" }\n", "")
                + "[on.docker]\nexpect = \"leaks\"\nreference = \"r\"\nbecause = \"b\"\n"
        ),
        ("nothing different", on("")),
        ("nothing different, at length", on("skip = false")),
        ("skipped and yet expected", on("skip = true\nexpect = \"contained\"")),
        ("the same attempt twice", format!("{RIGHT}\n[[attempt]]{attempt}")),
        (
            "the same attempt twice on one backend",
            format!(
                "{RIGHT}only-on = [\"docker\", \"namespace\"]\n[[attempt]]{attempt}only-on = \"namespace\"\n"
            )
        ),
        ("too many attempts", too_many),
    ]));
}

#[test]
fn the_same_attempt_may_be_made_on_different_backends() {
    let attempt = RIGHT.split_once("[[attempt]]").unwrap().1;
    let probe = one(&format!(
        "{RIGHT}only-on = \"docker\"\n[[attempt]]{attempt}only-on = [\"namespace\", \"external\"]\n"
    ));
    assert_eq!(probe.attempts.len(), 2);
    assert_eq!(probe.attempts[1].only_on, ["namespace", "external"]);
}

#[test]
fn known_leaks_with_references_are_right() {
    let attempt = with("expect", r#"expect = "leaks""#);
    let probe = one(&format!("references = [\"CVE-1\"]\n{attempt}"));
    let RunsOn::Runs { known_leak, .. } = probe.runs_on("docker") else { panic!("it runs") };
    assert_eq!(known_leak, Some("CVE-1"));
}

#[test]
fn syntax_errors_are_told() {
    assert_told!(cases(&[
        ("a word without quotes", with("severity", "severity = low")),
        ("a text without its end", with("title", r#"title = "T"#)),
        ("a key without a value", with("severity", "severity =")),
        ("a key twice", format!("title = \"again\"\n{RIGHT}")),
        ("a list without its end", with("proven-by", r#"proven-by = ["noexec-root""#)),
        ("a heading without its end", RIGHT.replace("[[attempt]]", "[[attempt]")),
        ("an escape that is none", with("title", r#"title = "\q""#)),
        ("a control character", with("title", "title = \"\u{1b}\"")),
        ("two errors", with("severity", "severity = low").replace("expect = ", "expect ")),
    ]));
}

#[test]
fn mistakes_with_files_are_told() {
    let right = RIGHT.as_bytes();
    let files = told(&[
        ("good.toml", right),
        ("Loopback Reach.toml", right),
        ("snake_case.toml", right),
        ("1st.toml", right),
        ("capital.TOML", right),
        ("latin1.toml", b"title = \"caf\xe9\"\n"),
        ("utf16.toml", b"\xff\xfet\0"),
        ("large.toml", &vec![b'#'; 300 * 1024]),
        ("wrong.toml", b"title = 1\nwhy = 2\n"),
    ]);
    assert_told!(files);
}

#[test]
fn a_folder_without_definitions_is_an_error() {
    let ignored: &[(&str, &[u8])] =
        &[("README.md", b"x"), (".hidden.toml", b"x"), ("toml", b"x"), ("x.toml.bak", b"x")];
    let empty = folder(ignored);
    fs::create_dir(empty.path().join("folder.toml")).unwrap();
    fs::create_dir(empty.path().join("below")).unwrap();
    fs::write(empty.path().join("below/x.toml"), RIGHT).unwrap();
    let errors = Catalogue::discover(empty.path(), BREACHES).unwrap_err();
    let folder = empty.path().display();
    assert_eq!(errors.to_string(), format!("no probe definition (*.toml) in {folder}"));

    let missing = empty.path().join("missing");
    let errors = Catalogue::discover(&missing, BREACHES).unwrap_err();
    assert_eq!(
        errors.to_string(),
        format!(
            "the folder of probe definitions {} cannot be read: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_told_and_a_link_is_followed() {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    let folder = folder(&[("b.toml", RIGHT.as_bytes())]);
    symlink("b.toml", folder.path().join("a.toml")).unwrap();
    let catalogue = Catalogue::discover(folder.path(), BREACHES).unwrap();
    assert_eq!(catalogue.probes().len(), 2);

    symlink("nowhere", folder.path().join("broken.toml")).unwrap();
    symlink("/dev/null", folder.path().join("device.toml")).unwrap();
    let not_utf8 = std::ffi::OsStr::from_bytes(b"caf\xe9.toml");
    fs::write(folder.path().join(not_utf8), RIGHT).unwrap();
    let errors = Catalogue::discover(folder.path(), BREACHES).unwrap_err();
    insta::assert_snapshot!(
        errors.to_string().replace(folder.path().to_str().unwrap(), "probes"),
        @r"
    probes/broken.toml: the file cannot be read: No such file or directory (os error 2)

    probes/caf�.toml: the file's name `caf�.toml` is not lower-case words joined by `-` and `.toml`, did you mean `caf.toml`?

    probes/device.toml: the file cannot be read: it is not a regular file

    3 mistakes in all
    "
    );
}

#[test]
fn mistakes_know_their_place() {
    let errors = discover(&[("x.toml", RIGHT.replace("exp", "xep").as_bytes())]).unwrap_err();
    let [DefinitionError::Mistake(mistake)] = errors.iter().collect::<Vec<_>>()[..] else {
        panic!("one mistake, not {errors}");
    };
    assert_eq!((mistake.line, mistake.column), (8, 1));
    assert!(matches!(&mistake.problem, Problem::UnknownWord(unknown) if unknown.word == "xepect"));
}

#[test]
fn requirements_are_checked_where_they_are_known() {
    let folder = folder(&[("x.toml", format!("needs = [\"vsock-lopback\"]\n{RIGHT}").as_bytes())]);
    assert!(Catalogue::discover(folder.path(), BREACHES).is_ok());
    let known = Known::from(BREACHES).with_requirements(&["darwin", "vsock-loopback"]);
    let errors = Catalogue::discover(folder.path(), known).unwrap_err().to_string();
    let told = ":1:10: unknown requirement `vsock-lopback`, did you mean `vsock-loopback`?";
    assert!(errors.lines().next().unwrap().ends_with(told), "{errors}");
}

#[test]
fn many_files_are_read_in_order_and_told_in_order() {
    let names: Vec<String> = (0..300).map(|number| format!("p{number:03}.toml")).collect();
    let right: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), RIGHT.as_bytes())).collect();
    let catalogue = discover(&right).unwrap();
    assert_eq!(catalogue.probes().len(), 300);
    assert!(catalogue.probes().is_sorted_by_key(|probe| &probe.name));

    let wrong: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    let told = told(&wrong);
    let files: Vec<&str> =
        told.lines().filter(|line| line.starts_with("probes/")).map(|line| &line[7..16]).collect();
    assert_eq!(files, names.iter().map(|name| &name[..9]).collect::<Vec<_>>());
}

#[test]
fn two_catalogues_become_one_unless_they_share_a_name() {
    let built_in = Catalogue::embedded(BREACHES).unwrap();
    let own = discover(&[("aaa.toml", RIGHT.as_bytes())]).unwrap();
    let both = built_in.clone().and(own).unwrap();
    assert_eq!(both.probes().len(), built_in.probes().len() + 1);
    assert_eq!(both.get("aaa").map(|probe| probe.title.as_str()), Some("T"));
    assert!(both.get("smoke-echo").is_some());

    let folder = folder(&[("smoke-echo.toml", RIGHT.as_bytes())]);
    let same = Catalogue::discover(folder.path(), BREACHES).unwrap();
    let errors = built_in.and(same).unwrap_err();
    assert_eq!(
        errors.to_string(),
        format!(
            "{}/smoke-echo.toml: the name `smoke-echo` is that of the built-in smoke-echo.toml already",
            folder.path().display()
        )
    );
}

#[test]
fn a_selection_is_by_name_or_tag_and_never_empty() {
    let tagged = |tags: &str| format!("tags = {tags}\n{RIGHT}");
    let catalogue = discover(&[
        ("ab.toml", tagged(r#"["tcp"]"#).as_bytes()),
        ("ab-c.toml", tagged(r#"["tcp", "slow"]"#).as_bytes()),
        ("loopback-reach.toml", tagged(r#"["udp"]"#).as_bytes()),
        ("none.toml", RIGHT.as_bytes()),
    ])
    .unwrap();
    let select = |names: &[&str], exact: bool, tags: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let filters = Filters { names: owned(names), exact, tags: owned(tags) };
        match catalogue.select(&filters) {
            Ok(probes) => {
                probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(select(&[], false, &[]), "ab ab-c loopback-reach none");
    assert_eq!(select(&["ab"], false, &[]), "ab ab-c");
    assert_eq!(select(&["ab"], true, &[]), "ab");
    assert_eq!(select(&["back", "non"], false, &[]), "loopback-reach none");
    assert_eq!(select(&[], false, &["tcp"]), "ab ab-c");
    assert_eq!(select(&[], false, &["tcp", "udp", "-slow"]), "ab loopback-reach");
    assert_eq!(select(&[], false, &["-slow"]), "ab loopback-reach none");
    assert_eq!(select(&[], false, &["-unheard-of"]), "ab ab-c loopback-reach none");

    insta::assert_snapshot!(
        [
            select(&["lopback"], false, &[]),
            select(&["loopback-rech", "none"], true, &[]),
            select(&["zzz"], false, &[]),
            select(&[], false, &["tpc"]),
            select(&["ab"], false, &["udp"]),
        ]
        .join("\n"),
        @r"
    no probe is named `lopback`, did you mean `loopback-reach`?
    no probe is named `loopback-rech`, did you mean `loopback-reach`?
    no probe is named `zzz`, expected one of `ab`, `ab-c`, `loopback-reach`, `none`
    no probe has the tag `tpc`, did you mean `tcp`?
    no probe is left: `ab`, `ab-c` have one of the names, but none of them the tags asked for
    "
    );
}

#[test]
fn the_schema_is_what_it_was() {
    assert_told!(serde_json::to_string_pretty(&schema::probe()).unwrap());
}

#[test]
fn the_schema_accepts_what_is_right_and_nothing_else() {
    let schema = schema::probe();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let valid = |text: &str| {
        let json: serde_json::Value = toml::from_str(text).unwrap();
        validator.is_valid(&json)
    };
    for (name, text) in shipped_texts() {
        assert!(valid(&text), "{name}");
    }
    assert!(valid(RIGHT));
    let on = "[on.docker]\nskip = true\nbecause = \"x\"\n";
    assert!(valid(&format!("{RIGHT}{on}")));

    let wrong = [
        format!("colour = 1\n{RIGHT}"),
        RIGHT.replace("method", "metod"),
        without("title"),
        without("expect"),
        with("severity", r#"severity = "bad""#),
        with("proven-by", "proven-by = []"),
        with("proven-by", r#"proven-by = ["a", "a"]"#),
        with("proven-by", r#"proven-by = ["A"]"#),
        with("title", r#"title = " ""#),
        with("title", r#"title = "a\nb""#),
        with("method", r#"method = ["tcp", "icmpp"]"#),
        with("to", r#"to = { site = "bundle", port = 65536 }"#),
        with("to", r#"to = { site = "bundle", port = "gateway", spelled = "a b" }"#),
        with("expect", "expect = \"contained\"\nhow = \"answered\""),
        format!("{RIGHT}{}", on.replace("docker", "dokcer")),
        format!("{RIGHT}{}", on.replace("because", "reference")),
    ];
    for text in wrong {
        assert!(!valid(&text), "{text}");
        assert!(discover(&[("x.toml", text.as_bytes())]).is_err(), "{text}");
    }
}

#[test]
fn the_schema_explains_every_field() {
    fn unexplained(at: &str, schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(fields) = schema.get("properties").and_then(|p| p.as_object()) {
            for (name, field) in fields {
                if field.get("description").is_none() {
                    found.push(format!("{at}/{name}"));
                }
            }
        }
        let nested = schema.as_object().into_iter().flatten();
        nested.for_each(|(key, value)| unexplained(&format!("{at}/{key}"), value, found));
    }
    let mut found = Vec::new();
    unexplained("", &schema::probe(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_documentation_names_every_word() {
    fn words(schema: &serde_json::Value, found: &mut Vec<String>) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        found.extend(
            schema
                .get("properties")
                .and_then(|p| p.as_object())
                .into_iter()
                .flat_map(|p| p.keys().cloned()),
        );
        found.extend(
            schema.get("enum").and_then(|e| e.as_array()).into_iter().flatten().filter_map(text),
        );
        found.extend(schema.get("const").and_then(text));
        schema.as_object().into_iter().flatten().for_each(|(_, value)| words(value, found));
        schema.as_array().into_iter().flatten().for_each(|value| words(value, found));
    }
    let mut every = Vec::new();
    words(&schema::probe(), &mut every);
    every.extend(Site::ALL.iter().flat_map(|site| site.port_names()).map(ToString::to_string));
    assert!(every.len() > 50, "{every:?}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/probes.md");
    let documentation = fs::read_to_string(path).unwrap();
    every.retain(|word| {
        ["`WORD`", "`[[WORD]]`", "`[WORD.BACKEND]`"]
            .iter()
            .all(|form| !documentation.contains(&form.replace("WORD", word)))
    });
    assert_eq!(every, Vec::<String>::new(), "not in docs/probes.md");
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/probes.md");
    let documentation = fs::read_to_string(path).unwrap();
    let example = documentation.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(one(example).attempts.len(), 1);
}

/// What any text comes to: a catalogue that keeps its promises, or errors that can be shown.
fn anything(content: &[u8]) -> Result<(), TestCaseError> {
    match discover(&[("x.toml", content)]) {
        Ok(catalogue) => {
            let probe = catalogue.get("x").unwrap();
            prop_assert!(!probe.attempts.is_empty() && !probe.proven_by.is_empty());
            for attempt in &probe.attempts {
                prop_assert_eq!(attempt.to.is_some(), attempt.method.needs_to());
            }
        }
        Err(errors) => {
            prop_assert!(errors.len() > 0);
            let lines = content.iter().filter(|&&byte| byte == b'\n').count() + 1;
            for error in errors.iter() {
                if let DefinitionError::Mistake(mistake) = error {
                    prop_assert!((1..=lines).contains(&mistake.line), "{mistake}");
                    prop_assert!((1..=content.len() + 1).contains(&mistake.column), "{mistake}");
                }
            }
            let told = errors.to_string();
            prop_assert!(told.contains("x.toml"));
            prop_assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_to_something(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        anything(&content)?;
    }

    #[test]
    fn any_text_comes_to_something(content in r#"([a-z]{1,3} ?= ?|[\[\]{},."'\n\r\t#= ]|true|[0-9-]{1,4}|\PC){0,60}"#) {
        anything(content.as_bytes())?;
    }

    #[test]
    fn a_right_file_changed_anywhere_comes_to_something(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0..12_usize, proptest::collection::vec(any::<u8>(), 0..4)),
            1..4,
        ),
    ) {
        let texts = shipped_texts();
        let mut content = which.get(&texts).1.clone().into_bytes();
        for (at, cut, put) in changes {
            let at = at.index(content.len() + 1);
            let end = (at + cut).min(content.len());
            content.splice(at..end, put);
        }
        anything(&content)?;
    }

    #[test]
    fn a_right_file_with_other_lines_and_words_comes_to_something(
        which in any::<proptest::sample::Index>(),
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
        word in prop::sample::select(vec!["tcp", "exec", "leaks", "reached", "bundle", "[]", "9", "x"]),
    ) {
        let texts = shipped_texts();
        let text = &which.get(&texts).1;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = lines[from.index(lines.len())].clone();
        let at = to.index(lines.len());
        lines.insert(at, line);
        anything(lines.join("\n").as_bytes())?;
        lines.remove(at);
        let quoted: Vec<&str> = text.split('"').collect();
        let instead = from.index(quoted.len());
        let changed: Vec<&str> =
            quoted.iter().enumerate().map(|(n, part)| if n == instead { word } else { part }).collect();
        anything(changed.join("\"").as_bytes())?;
    }
}
