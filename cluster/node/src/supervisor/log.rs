//! Writes the output of a container in the log format of Kubernetes' container runtime interface:
//! `<time> stdout F <text>`, with `P` for a part of a line that goes on. Rotated by size. Times never go back, so that
//! a reader can tell the runs of a container apart by them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::protocol::MESSAGE_BYTES_MAX;

/// Size at which a log file is put aside.
pub(crate) const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Files per container, the current one among them.
pub(crate) const FILES_MAX: u32 = 3;
/// Longest line that is kept in one piece.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Lines kept for the termination message.
const TAIL_LINES_MAX: usize = 20;

/// The log of one container, one run after the other.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    last_time: Timestamp,
    tail: VecDeque<String>,
    /// A failed write is told once in the termination message, it never stops the container.
    pub(crate) failure: Option<io::Error>,
}

/// One of stdout and stderr: the bytes of a line that has not ended yet.
#[derive(Default)]
pub(crate) struct Stream {
    pending: Vec<u8>,
}

impl LogWriter {
    pub(crate) fn open(path: &Path) -> io::Result<LogWriter> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(LogWriter {
            path: path.to_path_buf(),
            file: Some(file),
            size,
            last_time: Timestamp::now(),
            tail: VecDeque::new(),
            failure: None,
        })
    }

    /// Takes bytes that came from a stream and writes the lines that are complete.
    pub(crate) fn write(&mut self, stream: &mut Stream, name: &str, mut bytes: &[u8]) {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - stream.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    stream.pending.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.line(&mut out, stream, name, 'F');
                }
                None => {
                    stream.pending.extend_from_slice(window);
                    bytes = &bytes[window.len()..];
                    if stream.pending.len() == LINE_BYTES_MAX {
                        self.line(&mut out, stream, name, 'P');
                    }
                }
            }
        }
        self.append(&out);
    }

    /// Writes what is left of a line that was never ended.
    pub(crate) fn finish(&mut self, stream: &mut Stream, name: &str) {
        if !stream.pending.is_empty() {
            let mut out = Vec::new();
            self.line(&mut out, stream, name, 'F');
            self.append(&out);
        }
    }

    /// The last lines, within the bound of a termination message.
    pub(crate) fn tail(&self) -> String {
        let mut lines = Vec::new();
        let mut size = 0;
        for line in self.tail.iter().rev() {
            size += line.len() + 1;
            if size > MESSAGE_BYTES_MAX {
                break;
            }
            lines.push(line.as_str());
        }
        lines.reverse();
        lines.join("\n")
    }

    fn line(&mut self, out: &mut Vec<u8>, stream: &mut Stream, name: &str, mark: char) {
        let now = Timestamp::now().max(self.last_time);
        self.last_time = now;
        let _ = write!(out, "{now:.9} {name} {mark} ");
        out.extend_from_slice(&stream.pending);
        out.push(b'\n');
        if self.tail.len() == TAIL_LINES_MAX {
            self.tail.pop_front();
        }
        let mut text = String::from_utf8_lossy(&stream.pending).into_owned();
        if text.len() > MESSAGE_BYTES_MAX / 2 {
            let end = (0..=MESSAGE_BYTES_MAX / 2).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        self.tail.push_back(text);
        stream.pending.clear();
    }

    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Err(error) = self.try_append(bytes) {
            self.failure.get_or_insert(error);
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size + bytes.len() as u64 > FILE_BYTES_MAX && self.size > 0 {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
            self.size = 0;
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.size += bytes.len() as u64;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..FILES_MAX).rev() {
            let from = if number == 1 { self.path.clone() } else { part(&self.path, number - 1) };
            match fs::rename(from, part(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Name of an older part of a log: `web.log.1` is the youngest of them.
pub(crate) fn part(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
