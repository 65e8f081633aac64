//! `claude-bottle start`: a command in a bottle for work, and what a dry run says of it.

#[cfg(target_os = "linux")]
#[path = "../manifest/build.rs"]
#[expect(dead_code, reason = "the other tests of manifests use the rest")]
mod build;
#[cfg(target_os = "linux")]
mod bundle_image;
#[cfg(target_os = "linux")]
mod dry_run;
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod on_docker;
#[cfg(target_os = "linux")]
mod person;
#[cfg(target_os = "linux")]
mod probed;
#[cfg(target_os = "linux")]
mod project;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;
#[cfg(target_os = "linux")]
mod way_out;
#[cfg(target_os = "linux")]
mod work;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([
        bundle_image::trials(),
        dry_run::trials(),
        on_docker::trials(),
        person::trials(),
        probed::trials(),
        way_out::trials(),
        work::trials(),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
