//! One connection: a task that reads frames and hands them to their streams, and a writer that the streams share.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{self, Frame};
use super::headers::{Headers, Unpacker, empty_block};

/// Streams of a connection at a time.
const STREAMS_MAX: usize = 256;
/// Pieces that wait in a stream for its reader.
const PIECES_MAX: usize = 8;
/// New streams that wait to be taken.
const NEW_STREAMS_MAX: usize = 8;
/// Bytes of data in one frame of ours.
const PIECE_BYTES_MAX: usize = 32 * 1024;
/// Status of a reset: the stream was not taken.
const REFUSED: u32 = 3;
/// Status of a reset: the stream is not wanted any more.
const CANCELLED: u32 = 5;

struct Writer {
    half: Box<dyn AsyncWrite + Send + Unpin>,
    replied: bool,
}

type Shared = Arc<Mutex<Writer>>;

/// The server's side of a connection. Dropping it ends the connection and all its streams.
pub(crate) struct Connection {
    streams: mpsc::Receiver<Stream>,
    _open: DropGuard,
}

/// A stream that the client opened.
pub(crate) struct Stream {
    /// What the client said of it, names in lower case.
    pub(crate) headers: Headers,
    /// What the client sends; ended when it sends no more.
    pub(crate) input: mpsc::Receiver<Vec<u8>>,
    /// The sending half.
    pub(crate) output: Output,
    /// Cancelled when the client throws the stream away, the connection ends, or nobody can send on the stream.
    pub(crate) gone: CancellationToken,
}

/// The sending half of a stream.
#[derive(Clone)]
pub(crate) struct Output {
    stream: u32,
    writer: Shared,
    /// With the last of a stream's sending halves the stream is over.
    _open: Arc<DropGuard>,
}

impl Connection {
    /// Speaks SPDY as the server over a connection.
    pub(crate) fn new(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Connection {
        let writer = Arc::new(Mutex::new(Writer { half: Box::new(write), replied: false }));
        let (new, streams) = mpsc::channel(NEW_STREAMS_MAX);
        let open = CancellationToken::new();
        let closed = open.clone();
        tokio::spawn(async move {
            let mut reader = Reader { writer, new, known: HashMap::new() };
            tokio::select! {
                () = closed.cancelled() => {}
                ended = reader.run(read) => if let Err(error) = ended {
                    tracing::debug!(%error, "a SPDY connection ended badly");
                },
            }
            for stream in reader.known.values() {
                stream.gone.cancel();
            }
            let _ = reader.writer.lock().await.half.shutdown().await;
        });
        Connection { streams, _open: open.drop_guard() }
    }

    /// The next stream that the client opens; it must be accepted. `None` when the client is gone.
    pub(crate) async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

struct Known {
    /// `None` once the client sends no more.
    input: Option<mpsc::Sender<Vec<u8>>>,
    gone: CancellationToken,
}

struct Reader {
    writer: Shared,
    new: mpsc::Sender<Stream>,
    known: HashMap<u32, Known>,
}

impl Reader {
    async fn run(&mut self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut unpacker = Unpacker::new();
        while let Some(frame) = frame::read(&mut from, &mut unpacker).await? {
            match frame {
                Frame::Open { stream, headers, fin } => self.open(stream, headers, fin).await?,
                Frame::Data { stream, bytes, fin } => self.data(stream, bytes, fin).await,
                Frame::Reset { stream } => {
                    if let Some(known) = self.known.remove(&stream) {
                        known.gone.cancel();
                    }
                }
                Frame::Ping { number } => self.write(&frame::ping(number)).await?,
                Frame::GoAway | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.half.write_all(bytes).await?;
        writer.half.flush().await
    }

    async fn open(&mut self, stream: u32, headers: Headers, fin: bool) -> io::Result<()> {
        // Streams whose both sides are done have nobody left who reads them.
        self.known.retain(|_, known| !known.gone.is_cancelled());
        if self.known.len() >= STREAMS_MAX || self.known.contains_key(&stream) {
            return self.write(&frame::reset(stream, REFUSED)).await;
        }
        let (sender, input) = mpsc::channel(PIECES_MAX);
        let gone = CancellationToken::new();
        self.known.insert(stream, Known { input: (!fin).then_some(sender), gone: gone.clone() });
        let writer = Arc::clone(&self.writer);
        let output = Output { stream, writer, _open: Arc::new(gone.clone().drop_guard()) };
        let taken = self.new.send(Stream { headers, input, output, gone }).await;
        taken.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))
    }

    async fn data(&mut self, stream: u32, bytes: Vec<u8>, fin: bool) {
        let Some(known) = self.known.get_mut(&stream) else { return };
        if let Some(input) = &known.input
            && !bytes.is_empty()
            && input.send(bytes).await.is_err()
        {
            known.input = None; // Nobody reads it any more; what it sends is thrown away.
        }
        if fin {
            known.input = None;
        }
    }
}

impl Stream {
    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

impl Output {
    /// Tells the client that the stream is taken.
    pub(crate) async fn accept(&self) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        let block = empty_block(!writer.replied);
        writer.replied = true;
        writer.half.write_all(&frame::reply(self.stream, &block)).await?;
        writer.half.flush().await
    }

    /// Sends bytes; returns when they are written.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            let mut writer = self.writer.lock().await;
            writer.half.write_all(&frame::data(self.stream, piece, false)).await?;
            writer.half.flush().await?;
        }
        Ok(())
    }

    /// Says that no more comes from here.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.half.write_all(&frame::data(self.stream, &[], true)).await?;
        writer.half.flush().await
    }

    /// Throws the stream away.
    pub(crate) async fn reset(&self) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.half.write_all(&frame::reset(self.stream, CANCELLED)).await?;
        writer.half.flush().await
    }
}
