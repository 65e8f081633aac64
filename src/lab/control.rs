//! Talking to a prober, in a bottle or at a control's place: one batch in, its lines out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::VERSION;
use claude_bottle_protocol::prober::{Batch, Line, Word};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, Take};

use crate::bottle::lines::Lines;
use crate::report::text::Untrusted;

/// The longest line that a prober may write, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;
/// The most that a prober may write altogether, in bytes.
const MOST: u64 = 16 * 1024 * 1024;

/// How much of what cannot be understood is quoted, in columns.
const QUOTED: usize = 200;

/// What a prober said. Hostile if it ran in a bottle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// It greeted with the batch's token and our version.
    pub greeted: bool,
    /// The inode number of its net namespace, if it told.
    pub netns: Option<u64>,
    /// Per attempt, how it ended and how long it took.
    pub words: BTreeMap<u32, (Word, Duration)>,
    /// It said that it was done, with as many attempts as it had been given.
    pub finished: bool,
    /// Why its answer is not what a prober's is.
    pub trouble: Option<String>,
}

impl Answers {
    /// The answers of a prober that could not even be started.
    pub fn none(why: impl Into<String>) -> Self {
        Self { trouble: Some(why.into()), ..Self::default() }
    }
}

/// What a prober told while it was at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An attempt waits for the outside.
    Ready {
        /// The attempt.
        id: u32,
        /// The port it listens on, if it does.
        port: Option<u16>,
    },
    /// An attempt has ended.
    Done {
        /// The attempt.
        id: u32,
    },
}

/// Where a prober's lines come from.
#[async_trait]
pub trait LineSource: Send {
    /// The next line without its end; none after the last; the reason, where there cannot be one.
    async fn next_line(&mut self) -> Result<Option<Vec<u8>>, String>;
}

#[async_trait]
impl LineSource for Lines {
    async fn next_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.next().await {
            Ok(None) => match self.ended() {
                Some(ended) if !ended.end.is_success() => {
                    Err(format!("it broke off: {}", ended.end))
                }
                _ => Ok(None),
            },
            Ok(line) => Ok(line),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Lines of a byte stream, bounded each and altogether.
pub struct StreamLines<R> {
    stream: BufReader<Take<R>>,
}

impl<R: AsyncRead + Unpin> StreamLines<R> {
    /// The lines of `stream`.
    pub fn new(stream: R) -> Self {
        Self { stream: BufReader::new(stream.take(MOST)) }
    }
}

#[async_trait]
impl<R: AsyncRead + Send + Unpin> LineSource for StreamLines<R> {
    async fn next_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        read.map_err(|error| format!("it broke off: {error}"))?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err("it wrote a line that is too long, or broke off in the middle".into()),
        }
    }
}

/// The batch as the prober reads it.
pub fn batch_line(batch: &Batch) -> Vec<u8> {
    let mut line = serde_json::to_vec(batch).expect("a batch is plain data");
    line.push(b'\n');
    line
}

/// Collects the lines of a prober that was given `batch`, until it is done. One that breaks off, or says what no
/// prober says, is described in [`Answers::trouble`]; what it had said before is kept.
pub async fn converse(
    batch: &Batch,
    lines: &mut dyn LineSource,
    mut heard: impl FnMut(Heard) + Send,
) -> Answers {
    let mut answers = Answers::default();
    let mut waiting = BTreeSet::new();
    loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => {
                answers.trouble = Some("it broke off".into());
                return answers;
            }
            Err(why) => {
                answers.trouble = Some(why);
                return answers;
            }
        };
        match answers.take(batch, &line, &mut waiting, &mut heard) {
            Ok(true) => return answers,
            Ok(false) => {}
            Err(why) => {
                answers.trouble = Some(why);
                return answers;
            }
        }
    }
}

impl Answers {
    /// Takes a line in; true at the end.
    fn take(
        &mut self,
        batch: &Batch,
        line: &[u8],
        waiting: &mut BTreeSet<u32>,
        heard: &mut impl FnMut(Heard),
    ) -> Result<bool, String> {
        let line = serde_json::from_slice::<Line>(line)
            // The parser quotes what it read.
            .map_err(|error| Untrusted::new(error.to_string()).one_line(QUOTED))
            .map_err(|error| format!("it wrote something else than a prober does: {error}"))?;
        match line {
            Line::Hello { version, .. } if version != VERSION => {
                let version = Untrusted::new(version).one_line(QUOTED);
                return Err(format!("it is of another version, {version:?}"));
            }
            Line::Hello { token, .. } if token != batch.token => {
                return Err("it greeted with another batch's token".into());
            }
            Line::Hello { .. } if self.greeted => return Err("it greeted twice".into()),
            Line::Hello { netns, .. } => (self.greeted, self.netns) = (true, netns),
            _ if !self.greeted => return Err("it did not greet".into()),
            Line::Ready { id, port } => {
                exists(batch, id)?;
                if !waiting.insert(id) {
                    return Err(format!("it said twice that attempt {id} waits"));
                }
                heard(Heard::Ready { id, port });
            }
            Line::Done { id, word, took_us } => {
                exists(batch, id)?;
                // A second word may not replace the first.
                let word = (word, Duration::from_micros(took_us));
                if self.words.insert(id, word).is_some() {
                    return Err(format!("it told of attempt {id} twice"));
                }
                heard(Heard::Done { id });
            }
            Line::Bye { attempts } => {
                if self.words.len() != batch.attempts.len() {
                    return Err("it left attempts out".into());
                }
                if usize::try_from(attempts) != Ok(self.words.len()) {
                    return Err(format!("it counts {attempts} attempts"));
                }
                self.finished = true;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn exists(batch: &Batch, id: u32) -> Result<(), String> {
    let known = batch.attempts.iter().any(|attempt| attempt.id == id);
    known.then_some(()).ok_or_else(|| format!("it told of attempt {id}, which does not exist"))
}
