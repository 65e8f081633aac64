//! A terminal that a run writes to, as much of one as its progress needs.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};

/// Our end of a terminal of 100 columns, and the end for a command's standard error.
pub(crate) fn terminal() -> (File, Stdio) {
    let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).expect("a terminal");
    (File::from(pair.master), Stdio::from(pair.slave))
}

/// All that is written to it until everybody has closed it.
pub(crate) fn read_all(mut terminal: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // EIO is the end.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    bytes
}

/// What a person sees in the end: the lines, without colours.
pub(crate) fn seen(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if lines.len() == row {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                let mut sequence = String::new();
                for c in characters.by_ref() {
                    sequence.push(c);
                    if c.is_ascii_alphabetic() {
                        break;
                    }
                }
                let count = sequence[1..sequence.len() - 1].parse().unwrap_or(1);
                match sequence.chars().next_back() {
                    Some('K') => lines[row].clear(),
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row = (row + count).min(lines.len() - 1),
                    _ => {}
                }
            }
            c => {
                let line = &mut lines[row];
                if line.len() <= column {
                    line.resize(column + 1, ' ');
                }
                line[column] = c;
                column += 1;
            }
        }
    }
    let lines = lines.into_iter().map(|line| line.into_iter().collect::<String>());
    let mut lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}
