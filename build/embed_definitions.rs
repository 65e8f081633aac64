//! Finds the project's own definitions and hands them to the library for embedding.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Writes `out_file`: an array of pairs, stem and text, one for each `*.toml` of `folder` as a shell's glob finds
/// them. What is right of names and texts, the library checks.
pub(crate) fn embed(folder: &Path, out_file: &Path) -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build/embed_definitions.rs");
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == "toml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.with_context(|| format!("{}: the name is not UTF-8", file.display()))?;
        let path = file.to_str().with_context(|| format!("{}: not UTF-8", file.display()))?;
        writeln!(list, "    ({stem:?}, include_str!({path:?})),")?;
    }
    list.push_str("]\n");
    fs::write(out_file, list).with_context(|| format!("{}", out_file.display()))
}
