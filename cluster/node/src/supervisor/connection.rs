//! One connection to a supervisor: lines of JSON both ways, or, when attached, frames. Never waits.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::Supervisor;
use super::protocol::{AttachRequest, Event, REQUEST_BYTES_MAX, frame};

/// Bytes waiting to be taken by dodai; a dodai that takes nothing is dropped and can connect again. So is one who is
/// attached and looks away: the container must not wait for it.
const UNSENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes taken from one who is attached before the others get their turn.
const ATTACHED_BYTES_MAX: usize = 2 * frame::BYTES_MAX;

pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) control: bool,
    /// The container whose streams it carries, and whether it may write to stdin.
    pub(super) attached: Option<AttachRequest>,
    pub(super) received: Vec<u8>,
    pub(super) unsent: Vec<u8>,
    pub(super) closed: bool,
    /// To be closed when everything is sent.
    pub(super) ending: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Connection {
        Connection {
            stream,
            control: false,
            attached: None,
            received: Vec::new(),
            unsent: Vec::new(),
            closed: false,
            ending: false,
        }
    }

    pub(super) fn fill(&mut self) {
        let mut buffer = [0; 64 * 1024];
        while !self.closed {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(size) => {
                    self.received.extend_from_slice(&buffer[..size]);
                    self.closed |= self.received.len() > REQUEST_BYTES_MAX;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
    }

    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        let rest = self.received.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.received, rest);
        line.pop();
        Some(line)
    }

    pub(super) fn send(&mut self, event: &Event) {
        self.closed |= self.unsent.len() > UNSENT_BYTES_MAX;
        if !self.closed {
            self.unsent.extend(serde_json::to_vec(event).unwrap_or_default());
            self.unsent.push(b'\n');
        }
    }

    pub(super) fn refuse(&mut self, message: &str) {
        self.send(&Event::Refused { message: message.to_string() });
    }

    pub(super) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            // Safety: the stream is open for the whole call.
            let fd = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
            match nix::unistd::write(fd, &self.unsent) {
                Ok(size) => drop(self.unsent.drain(..size)),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
        self.closed |= self.ending;
    }
}

impl Connection {
    pub(super) fn is_attached_to(&self, container: &str) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.container == container)
    }

    fn fill_attached(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while !self.closed && self.received.len() < ATTACHED_BYTES_MAX {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(size) => self.received.extend_from_slice(&buffer[..size]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
    }
}

/// What attached connections need of the supervisor.
impl Supervisor {
    /// Whether the container takes no more of what the connection sends.
    pub(super) fn is_throttled(&self, connection: &Connection) -> bool {
        let Some(attached) = &connection.attached else { return false };
        let run = self.slots.get(&attached.container).and_then(|slot| slot.run.as_ref());
        run.is_some_and(|run| run.stdin.is_full())
    }

    pub(super) fn attach(&mut self, attach: AttachRequest, connection: &mut Connection) {
        match self.slots.get_mut(&attach.container) {
            Some(slot) if slot.run.is_some() => {
                connection.send(&Event::Attached { tty: slot.start.tty });
                connection.attached = Some(attach);
            }
            _ => {
                connection.refuse(&format!("container `{}` is not running", attach.container));
                connection.ending = true;
            }
        }
    }

    /// Takes what one who is attached sends.
    pub(super) fn serve_attached(&mut self, connection: &mut Connection) {
        if self.is_throttled(connection) {
            return;
        }
        connection.fill_attached();
        let Some(attached) = &connection.attached else { return };
        let run = self.slots.get_mut(&attached.container).and_then(|slot| slot.run.as_mut());
        let Some(run) = run else { return };
        let mut taken = 0;
        loop {
            let rest = &connection.received[taken..];
            let (kind, at) = match frame::decode(rest) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(()) => {
                    connection.closed = true;
                    break;
                }
            };
            taken += at.end;
            match (kind, &rest[at]) {
                (frame::STDIN, _) if !attached.stdin => {}
                (frame::STDIN, []) => run.stdin.client_gone(),
                (frame::STDIN, bytes) => run.stdin.push(bytes),
                (frame::RESIZE, [a, b, c, d]) => {
                    run.stdin.resize(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                }
                _ => {}
            }
        }
        connection.received.drain(..taken);
    }

    /// Hands new output to those who are attached, and says goodbye to those whose container has ended.
    pub(super) fn show_attached(&mut self) {
        for (name, slot) in &mut self.slots {
            let fresh = std::mem::take(&mut slot.fresh);
            for connection in self.connections.iter_mut().filter(|connection| connection.is_attached_to(name))
            {
                connection.closed |= connection.unsent.len() > UNSENT_BYTES_MAX;
                connection.unsent.extend_from_slice(&fresh);
                connection.ending |= slot.run.is_none();
                connection.flush();
            }
        }
    }

    /// One who was attached has left.
    pub(super) fn client_gone(&mut self, connection: &Connection) {
        let Some(attached) = connection.attached.as_ref().filter(|attached| attached.stdin) else { return };
        if let Some(run) = self.slots.get_mut(&attached.container).and_then(|slot| slot.run.as_mut()) {
            run.stdin.client_gone();
        }
    }
}
