//! Running programs that end: on this machine, or wherever else smolvm lives.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::process::Stdio;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// The most that is kept of an output stream, in bytes. What comes after is read and thrown away.
const KEPT: u64 = 1024 * 1024;

/// Something in which a program can be started.
#[async_trait]
pub trait Runs: Send + Sync + fmt::Debug {
    /// Starts `argv`, a program by its path and its arguments. Without `input` it reads nothing: whoever asks a question
    /// finds the end of its input at once. Dropping [`Started::end`] kills it.
    async fn start(&self, argv: &[String], input: bool) -> io::Result<Started>;

    /// Whether whatever it starts ends with this process.
    fn ends_with_us(&self) -> bool {
        false
    }
}

/// Bytes to a program.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;
/// Bytes from a program.
pub type Stream = Pin<Box<dyn AsyncRead + Send>>;
/// Its exit code, or 128 and the number of the signal that killed it.
pub type End = Pin<Box<dyn Future<Output = io::Result<i32>> + Send>>;

/// A program that runs.
pub struct Started {
    /// Its standard input, where it has one. Dropping it is its end.
    pub input: Option<Input>,
    /// Its standard output.
    pub output: Stream,
    /// Its standard error.
    pub error: Stream,
    /// Its end.
    pub end: End,
}

/// A program that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code, or 128 and the number of the signal that killed it.
    pub code: i32,
    /// The beginning of its standard output.
    pub output: Vec<u8>,
    /// The beginning of its standard error.
    pub error: Vec<u8>,
}

impl Started {
    /// Waits for its end, and keeps what it writes until then.
    pub async fn collect(self) -> io::Result<Ran> {
        let Self { input, output, error, end } = self;
        drop(input);
        let (output, error, code) = tokio::try_join!(keep(output), keep(error), end)?;
        Ok(Ran { code, output, error })
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}

async fn keep(mut stream: Stream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut stream).take(KEPT).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

/// This machine, as this process sees it.
#[derive(Debug, Clone, Default)]
pub struct Here {
    env: BTreeMap<String, String>,
    before: Vec<String>,
}

impl Here {
    /// With these variables beside those of this process.
    pub fn with_env(
        mut self,
        env: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.env.extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Every program by way of another one, such as `unshare --net`.
    pub fn by_way_of(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.before = words.into_iter().map(Into::into).collect();
        self
    }
}

#[async_trait]
impl Runs for Here {
    async fn start(&self, argv: &[String], input: bool) -> io::Result<Started> {
        let mut words = self.before.iter().chain(argv);
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = tokio::process::Command::new(program);
        command.args(words).envs(&self.env).kill_on_drop(true);
        // A group of its own: what a person types is for this process alone.
        command.process_group(0);
        command.stdin(if input { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(output), Some(error)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let input = child.stdin.take().map(|input| Box::pin(input) as Input);
        let end = Box::pin(async move {
            let status = child.wait().await?;
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            Ok(status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default()))
        });
        Ok(Started { input, output: Box::pin(output), error: Box::pin(error), end })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_program_without_input_finds_its_end_at_once() {
        let here = Here::default().with_env([("WHO", "me")]);
        let script = "read answer; echo \"$? $WHO\"; echo no >&2; exit 7";
        let ran = here.start(&argv(&["/bin/sh", "-c", script]), false).await.unwrap();
        let ran = ran.collect().await.unwrap();
        assert_eq!(ran, Ran { code: 7, output: b"1 me\n".to_vec(), error: b"no\n".to_vec() });
    }

    #[tokio::test]
    async fn more_than_is_kept_does_not_keep_a_program_from_its_end() {
        let script = "head -c 3000000 /dev/zero; kill -9 $$";
        let started = Here::default().start(&argv(&["/bin/sh", "-c", script]), false).await;
        let ran = started.unwrap().collect().await.unwrap();
        assert_eq!((ran.code, ran.output.len() as u64), (137, KEPT));
    }

    #[tokio::test]
    async fn whoever_is_not_waited_for_is_killed() {
        let here = Here::default().by_way_of(["/usr/bin/env"]);
        let started = here.start(&argv(&["/bin/sh", "-c", "echo up; exec sleep 60"]), true).await;
        let Started { input: _input, mut output, end, .. } = started.unwrap();
        let mut up = [0; 3];
        output.read_exact(&mut up).await.unwrap();
        drop(end);
        // The pipe's other end closes with the process.
        let rest = tokio::time::timeout(Duration::from_secs(30), keep(output)).await;
        assert_eq!(rest.expect("it is gone").unwrap(), b"");
    }
}
