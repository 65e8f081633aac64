//! `claude-bottle start`: a command in a bottle for work, and what a dry run says of it.

#![cfg(target_os = "linux")]

#[path = "../manifest/build.rs"]
#[expect(dead_code, reason = "the other tests of manifests use the rest")]
mod build;
mod dry_run;
mod person;
mod project;
mod way_out;
mod work;
