//! Folders of definitions, and selections of probes.

use std::fs;

use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::selection::Filters;

use crate::{BREACHES, RIGHT, built_in, discover, folder, told};

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
    let built_in = built_in();
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
