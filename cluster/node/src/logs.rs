//! Reads the logs that supervisors write: all parts of a rotated log as one, the lines of one run of the container,
//! and what comes later when it is followed.

mod inotify;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::supervisor::{LOG_FILES_MAX, LOG_LINE_BYTES_MAX, log_part};

pub(crate) use inotify::Changes;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of one stored line with its head.
const STORED_LINE_BYTES_MAX: usize = LOG_LINE_BYTES_MAX + 128;

/// Log file of a container.
pub fn log_path(data: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    data.join("logs").join(namespace).join(pod).join(format!("{container}.log"))
}

/// Which lines are wanted, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    /// Lines of a run: from its start, until its end if it has one.
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<u64>,
}

/// A place in a log.
pub(crate) struct Reader {
    path: PathBuf,
    query: Query,
    /// Files to read, the oldest first; the last one is where new lines come.
    files: VecDeque<(File, u64)>,
    pending: Vec<u8>,
    /// Lines that `tail_lines` leaves out.
    skip: u64,
    left: u64,
    in_line: bool,
}

impl Reader {
    /// Opens a log. One that is not there yet is empty.
    pub(crate) fn open(path: &Path, query: Query) -> io::Result<Reader> {
        let mut reader = Reader {
            path: path.to_path_buf(),
            files: VecDeque::new(),
            pending: Vec::new(),
            skip: 0,
            left: query.limit_bytes.unwrap_or(u64::MAX),
            in_line: false,
            query,
        };
        if let Some(tail) = reader.query.tail_lines {
            reader.open_newer(None)?;
            let mut lines = 0_u64;
            while let Some(line) = reader.next_line()? {
                lines += u64::from(reader.wanted(&line).is_some_and(|line| line.full));
            }
            reader.files.clear();
            reader.pending.clear();
            reader.skip = lines.saturating_sub(tail);
        }
        reader.open_newer(None)?;
        Ok(reader)
    }

    /// Text that is there now; empty at the end. Blocks only for the disk.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES && self.left > 0 {
            let Some(line) = self.next_line()? else { break };
            self.format(&line, &mut out);
        }
        Ok(out)
    }

    /// Whether `limit_bytes` are given.
    pub(crate) fn is_full(&self) -> bool {
        self.left == 0
    }

    fn format(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(wanted) = self.wanted(line) else { return };
        let (full, text, time) = (wanted.full, wanted.text.to_vec(), wanted.time.to_vec());
        if self.skip > 0 {
            self.skip -= u64::from(full);
            return;
        }
        let before = out.len();
        if self.query.timestamps && !self.in_line {
            out.extend_from_slice(&time);
            out.push(b' ');
        }
        out.extend_from_slice(&text);
        if full {
            out.push(b'\n');
        }
        self.in_line = !full;
        let added = (out.len() - before) as u64;
        if added > self.left {
            out.truncate(before + self.left as usize);
        }
        self.left = self.left.saturating_sub(added);
    }

    /// The parts of a stored line, if it is of the run that is asked for.
    fn wanted<'a>(&self, line: &'a [u8]) -> Option<Line<'a>> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (time, _, mark, text) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let at: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
        let inside =
            self.query.from.is_none_or(|from| at >= from) && self.query.until.is_none_or(|until| at <= until);
        inside.then_some(Line { full: mark == b"F", text, time })
    }

    /// The next stored line, without its end. `None` when there is no whole one yet.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(Some(line));
            }
            if self.pending.len() > STORED_LINE_BYTES_MAX {
                self.pending.clear(); // Not written by us; nothing to make of it.
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads on. `false` at the end of all that is there.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 8 * 1024];
        loop {
            let Some((file, inode)) = self.files.front_mut() else {
                self.open_newer(None)?;
                if self.files.is_empty() {
                    return Ok(false);
                }
                continue;
            };
            let inode = *inode;
            match file.read(&mut buffer)? {
                0 if self.files.len() > 1 => drop(self.files.pop_front()),
                0 => {
                    self.open_newer(Some(inode))?;
                    if self.files.len() == 1 {
                        return Ok(false);
                    }
                }
                size => {
                    self.pending.extend_from_slice(&buffer[..size]);
                    return Ok(true);
                }
            }
        }
    }

    /// Opens the parts that are newer than the one with this inode, the oldest first; without one, all.
    fn open_newer(&mut self, than: Option<u64>) -> io::Result<()> {
        let mut newer = Vec::new();
        for number in 0..LOG_FILES_MAX {
            let path = if number == 0 { self.path.clone() } else { log_part(&self.path, number) };
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            if Some(inode) == than {
                break;
            }
            newer.push((file, inode));
        }
        self.files.extend(newer.into_iter().rev());
        Ok(())
    }
}

struct Line<'a> {
    full: bool,
    text: &'a [u8],
    time: &'a [u8],
}
