//! What is wrong in a definition, and how it is told.

use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::errors::DefinitionError;
use claude_bottle::probe::parse::Known;
use claude_bottle::written::Problem;

use crate::{BREACHES, RIGHT, discover, folder, told, with, without};

/// Cases of one topic, each with its title, as one text: what is wrong and what is told.
fn cases(cases: &[(&str, String)]) -> String {
    let told = cases.iter().map(|(title, text)| {
        let told = told(&[("x.toml", text.as_bytes())]);
        format!("# {title}\n\n{told}\n")
    });
    told.collect::<Vec<_>>().join("\n\n")
}

/// Compares with the snapshot of this name; the cases themselves are in this file already.
macro_rules! assert_told {
    ($told:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($told) })
    };
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
        (
            "the gateway asked for nothing",
            with("to", r#"to = { site = "proxied", port = "80" }"#)
                .replace(r#"method = "tcp""#, r#"method = "http-get""#)
        ),
        ("a list with one of each", with("method", r#"method = ["tcp", "exec"]"#)),
        (
            "`exec` contained",
            exec.replace("reached", "contained")
                .replace("to = { site = \"bundle\", port = \"gateway\" }\n", "")
        ),
        (
            "a request by a method that asks nothing",
            with("expect", "expect = \"contained\"\nrequest = \"GET /\"")
        ),
        ("a request that is none", with("expect", "expect = \"contained\"\nrequest = \"get it\"")),
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
