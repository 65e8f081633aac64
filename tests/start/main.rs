//! `claude-bottle start`: a command in a bottle for work, and what a dry run says of it.

#[path = "../manifest/build.rs"]
#[expect(dead_code, reason = "the other tests of manifests use the rest")]
mod build;
mod bundle_image;
mod dry_run;
mod engine;
mod on_docker;
mod person;
mod probed;
mod project;
#[path = "../trials/mod.rs"]
mod trials;
mod way_out;
mod work;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([
        bundle_image::trials(),
        dry_run::trials(),
        on_docker::trials(),
        person::trials(),
        probed::trials(),
        way_out::trials(),
        work::trials(),
    ]))
}
