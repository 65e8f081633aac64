//! A command's output, by lines.

use super::error::BottleError;
use super::running::{Ended, Event, Running};

/// The longest line in bytes, its end not counted.
pub const LONGEST: usize = 64 * 1024;
/// How many bytes of standard error are kept beside the lines.
const KEPT: usize = 16 * 1024;

/// The lines of a running command's standard output. Dropping it kills the command.
#[derive(Debug)]
pub struct Lines {
    running: Running,
    /// What has arrived and not been handed over, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here there is no end of a line.
    searched: usize,
    stderr: Vec<u8>,
    ended: Option<Ended>,
}

impl Lines {
    pub(super) fn new(running: Running) -> Self {
        let (buffer, stderr) = (Vec::new(), Vec::new());
        Self { running, buffer, start: 0, searched: 0, stderr, ended: None }
    }

    /// The next line, without its end; none after the last. What follows the last line's end counts as a line, if
    /// it is not empty. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BottleError> {
        loop {
            if let Some(line) = self.line()? {
                return Ok(Some(line));
            }
            if self.ended.is_some() {
                let rest = self.buffer.split_off(self.start);
                (self.buffer, self.start, self.searched) = (Vec::new(), 0, 0);
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            }
            match self.running.next().await? {
                Event::Stdout(bytes) => self.push(&bytes),
                Event::Stderr(bytes) => {
                    let room = KEPT.saturating_sub(self.stderr.len());
                    self.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Event::Ended(ended) => self.ended = Some(ended),
            }
        }
    }

    /// How the command ended, once there are no more lines.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// What has arrived of its standard error so far, up to 16 KiB.
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }

    /// The command.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, BottleError> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.buffer.len(), |found| self.searched + found);
        if end - self.start > LONGEST {
            return Err(BottleError::LineTooLong { most: LONGEST });
        }
        self.searched = end;
        if found.is_none() {
            return Ok(None);
        }
        let line = self.buffer[self.start..end].to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line))
    }
}
