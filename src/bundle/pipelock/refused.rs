//! What pipelock's log tells of what it refused.
//!
//! A line of JSON for each event: <https://github.com/luckyPipewrench/pipelock/blob/main/internal/audit/logger.go>.

use serde::Deserialize;

use crate::bundle::refusals::Refusal;

/// One event. There are many more keys.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "event")]
    kind: String,
    action: Option<String>,
    url: Option<String>,
    target: Option<String>,
    reason: Option<String>,
    scanner: Option<String>,
}

impl Event {
    /// Whether it is that something was refused. What is looked through and found wanting has an event of its own, and
    /// `block` as its action.
    fn is_refusal(&self) -> bool {
        let kind = self.kind.as_str();
        let blocked = kind == "blocked" || kind.ends_with("_blocked");
        let denied = kind.ends_with("_deny") || kind == "sni_mismatch";
        blocked || denied || self.action.as_deref() == Some("block")
    }
}

/// What a line of the log says was refused, if it says that. It is the guest's word: nothing of it has been made harmless.
pub fn refused(line: &[u8]) -> Option<Refusal> {
    let event: Event = serde_json::from_slice(line).ok()?;
    if !event.is_refusal() {
        return None;
    }
    let target = event.target.or_else(|| event.url.as_deref().map(without_path));
    let why = event.reason.or(event.scanner).unwrap_or(event.kind);
    Some(Refusal { target: target.unwrap_or_default(), why })
}

/// A URL's scheme and authority: what is behind them may be a secret, and is another one each time.
fn without_path(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    url[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<(String, String)> {
        refused(line.as_bytes()).map(|Refusal { target, why }| (target, why))
    }

    #[test]
    fn what_was_refused_is_found_among_the_events() {
        for (line, target, why) in [
            (
                r#"{"level":"warn","event":"blocked","method":"CONNECT","target":"evil.test:443","client_ip":"10.0.0.3",
                   "scanner":"allowlist","reason":"domain not in allowlist","message":"request blocked"}"#,
                "evil.test:443",
                "domain not in allowlist",
            ),
            (
                r#"{"event":"blocked","method":"GET","url":"http://a.test/x?token=1","scanner":"dlp","reason":"a key"}"#,
                "http://a.test",
                "a key",
            ),
            (
                r#"{"event":"body_dlp","action":"block","url":"https://a.test"}"#,
                "https://a.test",
                "body_dlp",
            ),
            (r#"{"event":"sni_mismatch","target":"a.test:443"}"#, "a.test:443", "sni_mismatch"),
            (r#"{"event":"ws_blocked","scanner":"ssrf"}"#, "", "ssrf"),
        ] {
            assert_eq!(told(line), Some((target.to_owned(), why.to_owned())), "{line}");
        }
    }

    #[test]
    fn everything_else_is_passed_over() {
        for line in [
            r#"{"event":"allowed","url":"https://a.test/"}"#,
            r#"{"event":"body_dlp","action":"warn","url":"https://a.test/"}"#,
            r#"{"level":"info","message":"listening"}"#,
            "pipelock 3.3.0",
            "",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
