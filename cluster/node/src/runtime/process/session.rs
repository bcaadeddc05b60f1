//! dodai's side of one exec: takes the streams that the supervisor's helper passes over the socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::error::{Error, Result};
use crate::runtime::{ExecRequest, ExecSession};
use crate::supervisor::protocol::{EVENT_BYTES_MAX, Event, Request};
use crate::supervisor::sys;

pub(super) async fn start(mut stream: UnixStream, request: ExecRequest) -> Result<ExecSession> {
    let (tty, wants_stdin) = (request.tty, request.stdin);
    let fail = |error: io::Error| Error::Exec { message: error.to_string() };
    let mut line =
        serde_json::to_vec(&Request::Exec { exec: request }).map_err(|error| fail(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(fail)?;
    let mut received = Vec::new();
    let mut fds = Vec::new();
    while !received.contains(&b'\n') {
        let (bytes, mut more) = receive(&stream).await.map_err(fail)?;
        if bytes.is_empty() || received.len() > EVENT_BYTES_MAX {
            return Err(Error::Exec { message: "the supervisor ended the connection".to_string() });
        }
        received.extend(bytes);
        fds.append(&mut more);
    }
    let end = received.iter().position(|byte| *byte == b'\n').unwrap_or(received.len());
    let rest = received.split_off((end + 1).min(received.len()));
    match serde_json::from_slice(&received) {
        Ok(Event::ExecStarted) => {}
        Ok(Event::ExecExited { message, .. }) => {
            return Err(Error::Exec {
                message: message.unwrap_or_else(|| "it could not be started".to_string()),
            });
        }
        _ => return Err(Error::Exec { message: "the supervisor gave no sensible answer".to_string() }),
    }
    let exit = wait(stream, rest).boxed();
    if tty { terminal(fds, exit) } else { pipes(fds, wants_stdin, exit) }.map_err(fail)
}

type Exit = futures::future::BoxFuture<'static, Result<i32>>;

fn pipes(fds: Vec<OwnedFd>, wants_stdin: bool, exit: Exit) -> io::Result<ExecSession> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("a standard stream is missing"));
    let stdin = match wants_stdin {
        true => {
            Some(Box::pin(pipe::Sender::from_owned_fd(next()?)?) as Pin<Box<dyn AsyncWrite + Send + Sync>>)
        }
        false => None,
    };
    let stdout = Box::pin(pipe::Receiver::from_owned_fd(next()?)?);
    let stderr = Box::pin(pipe::Receiver::from_owned_fd(next()?)?);
    Ok(ExecSession { stdin, stdout, stderr: Some(stderr), resize: None, exit })
}

fn terminal(fds: Vec<OwnedFd>, exit: Exit) -> io::Result<ExecSession> {
    let master = fds.into_iter().next().ok_or_else(|| io::Error::other("the terminal is missing"))?;
    sys::set_nonblocking(&master)?;
    // Safety: the descriptor is owned by the value that is registered with it, and is closed only with it.
    let master = unsafe { AsyncFd::register_with_interest(master, Interest::READABLE | Interest::WRITABLE) };
    let master = Arc::new(master.map_err(io::Error::from)?);
    let for_resize = Arc::clone(&master);
    let resize = move |columns: u16, rows: u16| {
        sys::resize(for_resize.get_ref().as_raw_fd(), columns, rows);
    };
    Ok(ExecSession {
        stdin: Some(Box::pin(Terminal(Arc::clone(&master)))),
        stdout: Box::pin(Terminal(master)),
        stderr: None,
        resize: Some(Box::new(resize)),
        exit,
    })
}

async fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; 4096];
    let (size, fds) = loop {
        stream.readable().await?;
        let read =
            stream.try_io(Interest::READABLE, || sys::receive_with_fds(stream.as_raw_fd(), &mut buffer));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => break other?,
        }
    };
    buffer.truncate(size);
    Ok((buffer, fds))
}

async fn wait(stream: UnixStream, mut received: Vec<u8>) -> Result<i32> {
    let fail = |message: &str| Error::Exec { message: message.to_string() };
    let mut limited = stream.take(EVENT_BYTES_MAX as u64);
    limited.read_to_end(&mut received).await.map_err(|error| fail(&error.to_string()))?;
    let line = received.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(line) {
        Ok(Event::ExecExited { message: Some(message), .. }) => Err(fail(&message)),
        Ok(Event::ExecExited { code, .. }) => Ok(code),
        _ => Err(fail("the container ended before the command did")),
    }
}

/// One end of a pseudo-terminal.
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|fd| nix::unistd::read(fd.get_ref(), room).map_err(io::Error::from)) {
                Ok(Ok(size)) => {
                    buffer.advance(size);
                    return Poll::Ready(Ok(()));
                }
                // The last process that had the terminal is gone.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
