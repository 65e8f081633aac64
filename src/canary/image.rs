//! The kind `image`: an image is pulled by its digest, and its program is run in a container without a network.
//!
//! The engine does the pulling, as it does for bottles: with its proxies, mirrors, certificates and credentials.

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;

use super::definition::{Image, Runs};
use super::engine::{of_engine, told};
use super::outcome::Finding;
use crate::nearest::quote;
use crate::report::text::Untrusted;

/// How much of a program's output is read, in bytes.
const READ: usize = 1024 * 1024;
/// How much of a wrong answer is told, in columns.
const TOLD: usize = 120;
/// How much memory the program may have, in bytes.
const MEMORY: i64 = 512 * 1024 * 1024;

impl Image {
    /// As an engine is asked for it.
    fn pinned(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// Pulls the image, looks at its tag, runs its program, and removes whatever was not there before.
pub(super) async fn check(docker: &Docker, image: &Image) -> Finding {
    let pinned = image.pinned();
    let had_it = match docker.inspect_image(&pinned).await {
        Ok(_) => true,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => false,
        Err(error) => return of_engine("whether the image is here already", &error),
    };
    let container = format!("claude-bottle-canary-{:016x}", rand::random::<u64>());
    let finding = match tokio::time::timeout(image.within, look(docker, &container, image)).await {
        Ok(Ok(seen)) => Finding::Unchanged { seen },
        Ok(Err(finding)) => finding,
        Err(_) => {
            let within = humantime::format_duration(image.within);
            Finding::Unreachable {
                why: format!("{pinned} could not be had and run within {within}"),
            }
        }
    };
    // Also where time was up while it ran. That there is none is no finding, nor is anything else below.
    removed(docker, &container).await;
    if !had_it {
        // It may never have come, and somebody else may have begun to use it: neither is a finding.
        let options = None::<RemoveImageOptions>;
        let _ = docker.remove_image(&pinned, options, None).await;
    }
    finding
}

async fn look(docker: &Docker, container: &str, image: &Image) -> Result<String, Finding> {
    let pinned = image.pinned();
    pull(docker, image).await.map_err(|error| of_registry(&format!("pulling {pinned}"), &error))?;
    let here = docker.inspect_image(&pinned).await;
    let here = here.map_err(|error| of_engine("what was pulled", &error))?;
    if !here.repo_digests.unwrap_or_default().contains(&pinned) {
        return Err(changed(format!("what was pulled as {pinned} has another digest")));
    }
    let line = run(docker, container, &pinned, &image.runs).await?;
    if let Some(tag) = &image.tag {
        let tagged = format!("{}:{tag}", image.repository);
        let found = docker.inspect_registry_image(&tagged, None).await;
        let found = found.map_err(|error| of_registry(&format!("looking up {tagged}"), &error))?;
        let found = found.descriptor.digest.unwrap_or_default();
        if found != image.digest {
            let found = Untrusted::new(found).one_line(TOLD);
            return Err(changed(format!(
                "{tagged} is {} now, no longer {}, which still pulls and runs",
                found, image.digest
            )));
        }
    }
    Ok(line)
}

/// Waits for the end of a pull; an engine gives up the pull when nobody reads its progress any longer.
async fn pull(docker: &Docker, image: &Image) -> Result<(), Error> {
    let options = CreateImageOptionsBuilder::default()
        .from_image(&image.repository)
        .tag(&image.digest)
        .build();
    let mut progress = docker.create_image(Some(options), None, None);
    while progress.try_next().await?.is_some() {}
    Ok(())
}

/// Runs the program, and returns the first line of its output that has something expected in it.
async fn run(
    docker: &Docker,
    container: &str,
    pinned: &str,
    runs: &Runs,
) -> Result<String, Finding> {
    let config = ContainerCreateBody {
        image: Some(pinned.to_owned()),
        cmd: Some(runs.args.clone()),
        labels: Some([("claude-bottle.canary".to_owned(), pinned.to_owned())].into()),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            memory: Some(MEMORY),
            pids_limit: Some(256),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(container).build();
    let created = docker.create_container(Some(options), config).await;
    created.map_err(|error| of_engine("creating a container of it", &error))?;
    let (code, text) = output(docker, container).await?;
    let asked = runs.args.join(" ");
    if code != 0 {
        return Err(changed(format!("its program, given {}, ended with {code}", quote(&asked))));
    }
    let gone: Vec<_> = runs.prints.iter().filter(|text_| !text.contains(text_.as_str())).collect();
    if let Some(first_gone) = gone.first() {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let first = Untrusted::new(first.trim()).one_line(TOLD);
        return Err(changed(format!(
            "its program, given {}, does not print {}; its first line is {}",
            quote(&asked),
            quote(first_gone),
            quote(&first)
        )));
    }
    let line = text.lines().find(|line| runs.prints.iter().any(|p| line.contains(p.as_str())));
    Ok(Untrusted::new(line.unwrap_or_default().trim()).one_line(TOLD))
}

/// Starts the container and waits for its end: its exit code, and what it wrote.
async fn output(docker: &Docker, id: &str) -> Result<(i64, String), Finding> {
    if let Err(error) = docker.start_container(id, None).await {
        return Err(match &error {
            // The engine works: what does not is what was pulled.
            Error::DockerResponseServerError { status_code: 400..=500, .. } => {
                changed(format!("its program cannot be started: {}", told(&error)))
            }
            _ => of_engine("starting a container of it", &error),
        });
    }
    let code = match docker.wait_container(id, None).next().await {
        Some(Ok(end)) => end.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => return Err(of_engine("waiting for its program", &error)),
        None => return Err(Finding::Unreachable { why: "the engine did not wait".to_owned() }),
    };
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
    let mut log = docker.logs(id, Some(options));
    let mut bytes = Vec::new();
    while let Some(part) = log.next().await {
        let part = part.map_err(|error| of_engine("what its program wrote", &error))?;
        bytes.extend_from_slice(&part.into_bytes());
        if bytes.len() >= READ {
            break;
        }
    }
    Ok((code, String::from_utf8_lossy(&bytes).into_owned()))
}

async fn removed(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    // Whether this succeeds says nothing of upstream.
    let _ = docker.remove_container(id, Some(options)).await;
}

/// What an error of a registry means, which an engine hands on. Upstream has changed where it answered, and its answer
/// is no, or is not what the digest says; whatever else it is (no route, no name, too many requests, an error of its
/// own), nothing is known of the image.
fn of_registry(what: &str, error: &Error) -> Finding {
    /// Codes of the OCI's distribution specification, and the engine's words for bytes that are not those of a digest, of
    /// both of its stores of images.
    const NO: &[&str] = &[
        "manifest unknown",
        "name unknown",
        "blob unknown",
        "verification failed",
        "unexpected commit digest",
        "does not match provided manifest digest",
        "no matching manifest",
        "pull access denied",
        "denied: ",
    ];
    let message = match error {
        Error::DockerResponseServerError { message, .. } => message,
        Error::DockerStreamError { error } => error,
        _ => "",
    };
    let message = message.to_lowercase();
    let told = told(error);
    // The store of containerd has no code for a manifest that is not there.
    let is_not_there =
        message.starts_with("failed to resolve reference") && message.ends_with(": not found");
    let is_no = is_not_there || NO.iter().any(|no| message.contains(no));
    if is_no && !message.contains("toomanyrequests") {
        changed(format!("{what}: {told}"))
    } else {
        Finding::Unreachable { why: format!("{what}: {told}") }
    }
}

fn changed(what: String) -> Finding {
    Finding::Changed { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_is_a_change_and_silence_is_not() {
        let of = |status_code, message: &str| {
            let message = message.to_owned();
            of_registry("x", &Error::DockerResponseServerError { status_code, message })
        };
        for (status, no) in [
            (404, "manifest for a/b@sha256:0 not found: manifest unknown: manifest unknown"),
            (
                404,
                "pull access denied for a/b, repository does not exist or may require 'docker login'",
            ),
            (500, "manifest verification failed for digest sha256:0"),
            (404, "failed to resolve reference \"r.test/a:1\": r.test/a:1: not found"),
            (
                500,
                "failed commit on ref \"layer-sha256:1\": unexpected commit digest sha256:2, expected \
                 sha256:1: failed precondition",
            ),
            (404, "no matching manifest for linux/amd64 in the manifest list entries"),
        ] {
            assert!(matches!(of(status, no), Finding::Changed { .. }), "{no}");
        }
        for (status, silence) in [
            (
                500,
                "Get \"https://r.test/v2/\": dial tcp 192.0.2.1:443: connect: connection refused",
            ),
            (500, "Get \"https://r.test/v2/\": net/http: TLS handshake timeout"),
            (
                500,
                "failed to resolve reference \"r.test/a:1\": failed to do request: Head \
                 \"https://r.test/v2/a/manifests/1\": dial tcp: lookup r.test: no such host",
            ),
            (500, "received unexpected HTTP status: 502 Bad Gateway"),
            (429, "toomanyrequests: You have reached your pull rate limit. denied: later"),
        ] {
            assert!(matches!(of(status, silence), Finding::Unreachable { .. }), "{silence}");
        }
    }
}
