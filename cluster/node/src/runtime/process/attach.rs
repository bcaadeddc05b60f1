//! dodai's side of an attached connection: a task carries frames between the supervisor and pipes in memory.

use std::io;

use futures::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::runtime::{AttachRequest, ExecSession};
use crate::supervisor::protocol::{EVENT_BYTES_MAX, Event, Request, frame};

/// Bytes of a stream on their way.
const PIPE_BYTES: usize = 64 * 1024;
/// Sizes of the terminal on their way; a newer one comes soon.
const SIZES_MAX: usize = 4;

pub(super) async fn start(stream: UnixStream, request: AttachRequest) -> Result<ExecSession> {
    let fail = |error: io::Error| Error::Exec { message: error.to_string() };
    let wants_stdin = request.stdin;
    let (read, mut write) = stream.into_split();
    let mut line =
        serde_json::to_vec(&Request::Attach { attach: request }).map_err(|error| fail(error.into()))?;
    line.push(b'\n');
    write.write_all(&line).await.map_err(fail)?;
    let mut read = BufReader::new(read);
    let mut answer = Vec::new();
    (&mut read).take(EVENT_BYTES_MAX as u64).read_until(b'\n', &mut answer).await.map_err(fail)?;
    let tty = match serde_json::from_slice(&answer) {
        Ok(Event::Attached { tty }) => tty,
        Ok(Event::Refused { message }) => return Err(Error::Exec { message }),
        _ => return Err(Error::Exec { message: "the supervisor gave no sensible answer".to_string() }),
    };
    let (stdout, to_stdout) = duplex(PIPE_BYTES);
    let (stderr, to_stderr) = duplex(PIPE_BYTES);
    let (stdin, from_stdin) = duplex(PIPE_BYTES);
    let (sizes, new_sizes) = mpsc::channel(SIZES_MAX);
    let (mut ended, end) = oneshot::channel::<()>();
    tokio::spawn(async move {
        // The connection lives as long as this: until the container ends, or the session is dropped.
        tokio::select! {
            _ = show(read, to_stdout, to_stderr) => {}
            () = take(write, from_stdin, wants_stdin, new_sizes) => {}
            () = ended.closed() => {}
        }
    });
    Ok(ExecSession {
        stdin: wants_stdin.then(|| Box::pin(stdin) as _),
        stdout: Box::pin(stdout),
        stderr: (!tty).then(|| Box::pin(stderr) as _),
        resize: tty.then(|| {
            Box::new(move |columns: u16, rows: u16| {
                let [a, b] = columns.to_be_bytes();
                let [c, d] = rows.to_be_bytes();
                let _ = sizes.try_send([a, b, c, d]);
            }) as _
        }),
        exit: async move {
            // Either way there is nothing more to see; how the container ended is told by its status.
            let _ = end.await;
            Ok(0)
        }
        .boxed(),
    })
}

async fn show(
    mut read: BufReader<OwnedReadHalf>,
    mut stdout: DuplexStream,
    mut stderr: DuplexStream,
) -> io::Result<()> {
    loop {
        let kind = read.read_u8().await?;
        let length = read.read_u32().await? as usize;
        if length > frame::BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        read.read_exact(&mut bytes).await?;
        match kind {
            frame::STDOUT => stdout.write_all(&bytes).await?,
            frame::STDERR => stderr.write_all(&bytes).await?,
            _ => {}
        }
    }
}

/// Returns only when the supervisor takes no more.
async fn take(
    mut write: OwnedWriteHalf,
    mut stdin: DuplexStream,
    mut is_open: bool,
    mut sizes: mpsc::Receiver<[u8; 4]>,
) {
    let mut buffer = vec![0; frame::BYTES_MAX];
    let mut resizes = true;
    while is_open || resizes {
        let frame = tokio::select! {
            size = stdin.read(&mut buffer), if is_open => {
                let size = size.unwrap_or(0);
                is_open = size > 0;
                frame::encode(frame::STDIN, &buffer[..size])
            }
            size = sizes.recv(), if resizes => match size {
                Some(size) => frame::encode(frame::RESIZE, &size),
                None => {
                    resizes = false;
                    continue;
                }
            },
        };
        if write.write_all(&frame).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}
