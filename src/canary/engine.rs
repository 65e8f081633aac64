//! The kind `engine`: the Docker engine of this host is asked what bottles will ask it. It is also how the kind `image`
//! comes to its engine.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use serde::Serialize;
use serde_json::Value;

use super::definition::{Answer, Engine, Question};
use super::outcome::Finding;
use crate::error_chain;
use crate::host::Host;
use crate::nearest::quote;
use crate::report::text::Untrusted;

/// How long an engine may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of an engine's words is told, in columns.
const TOLD: usize = 300;

/// A client of the host's engine, at the version of the API that both know.
///
/// # Errors
///
/// The finding that follows where there is none.
pub(super) async fn connect(host: &Host) -> Result<Docker, Finding> {
    let endpoint = match &host.docker {
        Ok(docker) => &docker.endpoint,
        Err(lack) => return Err(Finding::Skipped { why: format!("needs docker: {lack}") }),
    };
    let client = endpoint.client(PATIENCE).await;
    client.map_err(|error| of_engine(&format!("`GET /version` at {endpoint}"), &error))
}

/// Asks the engine.
pub(super) async fn check(docker: &Docker, assumed: &Engine) -> Finding {
    match ask(docker, assumed).await {
        Ok(seen) => Finding::Unchanged { seen },
        Err(finding) => finding,
    }
}

async fn ask(docker: &Docker, assumed: &Engine) -> Result<String, Finding> {
    let ping = docker.ping().await.map_err(|error| of_engine("`GET /_ping`", &error))?;
    if ping.trim() != "OK" {
        let ping = Untrusted::new(ping.trim()).one_line(TOLD);
        return Err(changed(format!("`GET /_ping` is answered with {}", quote(&ping))));
    }
    let spoken = docker.client_version();
    let spoken = (spoken.major_version, spoken.minor_version);
    if spoken < assumed.api {
        let what = format!(
            "the engine speaks version {} of its API, and {} is the oldest that will do",
            shown(spoken),
            shown(assumed.api)
        );
        return Err(changed(what));
    }
    for answer in &assumed.answers {
        let got = answer_to(docker, answer.of).await?;
        let gone = missing(&got, answer);
        if !gone.is_empty() {
            let what = format!("the answer to {} has no {}", asked(answer.of), gone.join(", "));
            return Err(changed(what));
        }
    }
    let version = answer_to(docker, Question::Version).await?;
    let version = version.get("Version").and_then(Value::as_str).unwrap_or("of unknown version");
    let version = Untrusted::new(version).one_line(TOLD);
    Ok(format!("engine {version}, API {}", shown(spoken)))
}

/// The answer as our client understands it: a field that has another name or type by now is not in there.
async fn answer_to(docker: &Docker, question: Question) -> Result<Value, Finding> {
    let answer = match question {
        Question::Version => docker.version().await.map(|answer| value(&answer)),
        Question::Info => docker.info().await.map(|answer| value(&answer)),
        Question::Network => {
            docker.inspect_network("bridge", None).await.map(|answer| value(&answer))
        }
    };
    answer.map_err(|error| of_engine(asked(question), &error))
}

fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

fn asked(question: Question) -> &'static str {
    match question {
        Question::Version => "`GET /version`",
        Question::Info => "`GET /info`",
        Question::Network => "`GET /networks/bridge`",
    }
}

/// The fields that are not there, or empty.
fn missing<'a>(got: &Value, answer: &'a Answer) -> Vec<&'a str> {
    let has = |field: &str| {
        let found = field.split('.').try_fold(got, |value, key| match value {
            Value::Array(list) => list.get(key.parse::<usize>().ok()?),
            value => value.get(key),
        });
        found.is_some_and(|value| !value.is_null())
    };
    answer.has.iter().map(String::as_str).filter(|field| !has(field)).collect()
}

/// What an error of the engine itself means: one that answers something else than it should has changed.
pub(super) fn of_engine(asked: &str, error: &Error) -> Finding {
    match error {
        Error::JsonDataError { .. }
        | Error::JsonSerdeError { .. }
        | Error::APIVersionParseError { .. }
        | Error::DockerResponseServerError { status_code: 400..500, .. } => {
            changed(format!("{asked} is not answered as it was: {}", told(error)))
        }
        _ => Finding::Unreachable { why: format!("{asked} is not answered: {}", told(error)) },
    }
}

/// What an error says, fit for a report.
pub(super) fn told(error: &Error) -> String {
    Untrusted::new(error_chain(error)).one_line(TOLD)
}

fn changed(what: String) -> Finding {
    Finding::Changed { what }
}

fn shown((major, minor): (usize, usize)) -> String {
    format!("{major}.{minor}")
}
