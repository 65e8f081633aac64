//! Builds the guest programs, the toolbox and the gateway, static ones for Linux, and hands their paths to the library for
//! embedding.
//!
//! The guest has its own target folder, shared by every profile of the host, so that it is built once. For a host that is
//! not Linux it is built where this toolchain has a Linux target that needs nothing else to be linked (musl). Elsewhere the
//! library takes the programs from `CLAUDE_BOTTLE_TOOLBOX=PATH` and `CLAUDE_BOTTLE_GATEWAY=PATH` when a bottle is launched.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "build/embed_definitions.rs"]
mod embed_definitions;

/// What the outer cargo tells this script and the inner cargo must not hear. `CARGO_HOME`, `CARGO_MAKEFLAGS` (the
/// job server) and the network settings go through.
const SCRUBBED: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTDOC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "DEBUG",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "TARGET",
];

/// Beginnings of further variables that the inner cargo must not hear.
const SCRUBBED_BEGINNINGS: &[&str] =
    &["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_PROFILE_", "DEP_"];

/// The guest programs: package and binary.
const PROGRAMS: &[(&str, &str)] =
    &[("claude-bottle-guest", "toolbox"), ("claude-bottle-gateway", "gateway")];

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(embedded_guest)");

    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for kind in ["probes", "canaries"] {
        embed_definitions::embed(&root.join(kind), &out.join(format!("embedded_{kind}.rs")))?;
    }

    let is_linux = env::var("CARGO_CFG_TARGET_OS")? == "linux";
    let linux = if is_linux { Some(Linux::here()?) } else { Linux::installed()? };
    let Some(linux) = linux else { return Ok(()) };
    for watched in ["guest", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let built = match build_guest(&root, &linux) {
        Ok(built) => built,
        Err(error) if is_linux => return Err(error),
        // Most of this program does without.
        Err(error) => {
            for line in format!("{error:#}").lines() {
                println!("cargo::warning={line}");
            }
            return Ok(());
        }
    };
    for (_, program) in PROGRAMS {
        let path = built.join(program);
        println!(
            "cargo::rustc-env=CLAUDE_BOTTLE_EMBEDDED_{}={}",
            program.to_uppercase(),
            path.display()
        );
    }
    println!("cargo::rustc-cfg=embedded_guest");
    Ok(())
}

/// What the guest programs are built for.
struct Linux {
    target: String,
    /// Flags of rustc's. A static program runs in a root file system that holds nothing else.
    flags: &'static str,
}

impl Linux {
    /// This target.
    fn here() -> anyhow::Result<Self> {
        Ok(Self { target: env::var("TARGET")?, flags: "-C target-feature=+crt-static" })
    }

    /// The target that runs on the same processor, if this toolchain has it: with its own C library and linker.
    fn installed() -> anyhow::Result<Option<Self>> {
        let target = format!("{}-unknown-linux-musl", env::var("CARGO_CFG_TARGET_ARCH")?);
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let asked = ["--print", "target-libdir", "--target", &target];
        let output = Command::new(rustc).args(asked).output()?;
        let folder = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let is_there = output.status.success() && Path::new(&folder).is_dir();
        let flags = "-C target-feature=+crt-static -C linker=rust-lld";
        Ok(is_there.then_some(Self { target, flags }))
    }
}

/// Builds [`PROGRAMS`]; the folder that they are in then.
fn build_guest(root: &Path, linux: &Linux) -> anyhow::Result<PathBuf> {
    let Linux { target, flags } = linux;
    let target_dir = guest_target_dir()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut inner = Command::new(cargo);
    inner
        .current_dir(root)
        .arg("build")
        .args(PROGRAMS.iter().flat_map(|(package, bin)| ["--package", package, "--bin", bin]))
        .args(["--profile", "guest", "--locked", "--target", target])
        .arg("--target-dir")
        .arg(&target_dir);
    for (name, _) in env::vars_os() {
        let scrub = name.to_str().is_some_and(|name| {
            SCRUBBED.contains(&name)
                || SCRUBBED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        });
        if scrub {
            inner.env_remove(name);
        }
    }
    inner.env("RUSTFLAGS", flags);
    let output = inner.output()?;
    anyhow::ensure!(
        output.status.success(),
        "the guest programs do not build (cargo: {}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(target_dir.join(target).join("guest"))
}

/// `target/toolbox`, found from `OUT_DIR` (`target/[TRIPLE/]PROFILE/build/PACKAGE-HASH/out`): the only variable
/// that knows where the outer cargo puts things. The marker `CACHEDIR.TAG` is at the top of every target folder.
fn guest_target_dir() -> anyhow::Result<PathBuf> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let top = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    Ok(top.unwrap_or(&out).join("toolbox"))
}
