//! The supervisor's end of a container's stdin: a pipe, or the terminal. Never waits: what the command does not take
//! yet is kept, up to a bound, past which those who are attached are not read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use super::sys;

/// Bytes kept for a command that does not read.
const PENDING_BYTES_MAX: usize = 128 * 1024;

/// Where those who are attached write to.
pub(crate) struct Stdin {
    /// `None` once it is closed.
    file: Option<File>,
    pending: VecDeque<u8>,
    is_terminal: bool,
    takes_input: bool,
    once: bool,
    /// Close it when everything pending is written.
    closing: bool,
}

impl Stdin {
    fn new(file: Option<File>) -> Stdin {
        Stdin {
            file,
            pending: VecDeque::new(),
            is_terminal: false,
            takes_input: true,
            once: false,
            closing: false,
        }
    }

    /// The command's stdin is empty.
    pub(crate) fn none() -> Stdin {
        Stdin::new(None)
    }

    /// `once`: the first who has gone closes it.
    pub(crate) fn pipe(write: OwnedFd, once: bool) -> io::Result<Stdin> {
        sys::set_nonblocking(&write)?;
        Ok(Stdin { once, ..Stdin::new(Some(write.into())) })
    }

    /// A terminal, which has a size even if nobody may type.
    pub(crate) fn terminal(master: OwnedFd, takes_input: bool) -> io::Result<Stdin> {
        sys::set_nonblocking(&master)?;
        Ok(Stdin { is_terminal: true, takes_input, ..Stdin::new(Some(master.into())) })
    }

    /// What waits to be written needs this descriptor to be ready.
    pub(crate) fn waits_for(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| !self.pending.is_empty())
    }

    /// Whether no more should be taken from clients.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_BYTES_MAX
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.file.is_some() && self.takes_input && !self.closing {
            self.pending.extend(bytes);
            self.write();
        }
    }

    /// A client sends no more. A terminal stays: its other users would lose it.
    pub(crate) fn client_gone(&mut self) {
        self.closing |= self.once && !self.is_terminal;
        self.write();
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_terminal) {
            sys::resize(file.as_raw_fd(), columns, rows);
        }
    }

    /// Writes what the command takes now.
    pub(crate) fn write(&mut self) {
        while let Some(file) = &mut self.file {
            if self.pending.is_empty() {
                if self.closing {
                    self.file = None;
                }
                return;
            }
            match file.write(self.pending.as_slices().0) {
                Ok(size @ 1..) => drop(self.pending.drain(..size)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The command reads no more.
                Ok(_) | Err(_) => {
                    self.file = None;
                    self.pending.clear();
                }
            }
        }
    }
}
