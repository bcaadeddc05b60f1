//! The streams of exec and attach, over either transport. WebSocket: Kubernetes' channel protocol, v4 and v5: the
//! first byte of each message is its channel (0 stdin, 1 stdout, 2 stderr, 3 how it ended, 4 size of the terminal),
//! and in v5 255 closes a channel. SPDY: a stream each, which the client opens and names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::upgrade::{self, Asked, Known, Socket};
use super::{Body, Query, Refusal};
use crate::error::Result;
use crate::runtime::ExecSession;
use crate::spdy;

const KNOWN: Known =
    Known { websocket: &["v5.channel.k8s.io", "v4.channel.k8s.io"], spdy: &["v4.channel.k8s.io"] };
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Names of the streams over SPDY; the place is the channel.
const NAMES: [&str; 5] = ["stdin", "stdout", "stderr", "error", "resize"];
/// Bytes of output in one message.
const PIECE_BYTES: usize = 16 * 1024;
/// Bytes of a size of the terminal that is not yet whole.
const SIZE_BYTES_MAX: usize = 1024;
/// How long output of what the command left behind is waited for.
const OUTPUT_AFTER_END_MAX: Duration = Duration::from_secs(2);
/// How long a client may take to take the last message.
const GOODBYE_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to open its streams.
const STREAMS_OPEN_MAX: Duration = Duration::from_secs(30);

/// Which streams a request asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    pub(super) fn of(query: &Query) -> Wanted {
        let asked = |name: &str, other: &str| query.flag(name) || query.flag(other);
        Wanted {
            stdin: asked("input", "stdin"),
            stdout: asked("output", "stdout"),
            stderr: asked("error", "stderr"),
            tty: query.flag("tty"),
        }
    }

    fn has(self, channel: u8) -> bool {
        match channel {
            STDIN => self.stdin,
            STDOUT => self.stdout,
            STDERR => self.stderr && !self.tty,
            ERROR => true,
            _ => channel == RESIZE && self.tty,
        }
    }
}

/// Answers with the upgrade, and carries the session that `start` gives over the connection.
pub(super) fn serve<S>(
    mut request: Request<Body>,
    wanted: Wanted,
    start: S,
) -> std::result::Result<Response<Body>, Refusal>
where
    S: Future<Output = Result<ExecSession>> + Send + 'static,
{
    let (response, upgrade, asked) = upgrade::negotiate(&mut request, &KNOWN)?;
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a connection was not upgraded"),
        };
        match asked {
            Asked::WebSocket(_) => over_websocket(upgraded, start).await,
            Asked::Spdy => over_spdy(upgraded, wanted, start).await,
        }
    });
    Ok(response)
}

async fn over_websocket(upgraded: Upgraded, start: impl Future<Output = Result<ExecSession>>) {
    let (sink, messages) = upgrade::websocket(upgraded).await.split();
    let output = Output::WebSocket(Arc::new(Mutex::new(sink)));
    // An empty message says that the connection stands, as upstream's kubelet does.
    if output.send(STDOUT, &[]).await.is_err() {
        return;
    }
    run(Input::WebSocket(messages), &output, start).await;
}

async fn over_spdy(upgraded: Upgraded, wanted: Wanted, start: impl Future<Output = Result<ExecSession>>) {
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    let mut connection = spdy::Connection::new(read, write);
    let Ok(Some(mut streams)) = timeout(STREAMS_OPEN_MAX, open_streams(&mut connection, wanted)).await else {
        return;
    };
    let mut take = |channel: u8| streams[usize::from(channel)].take();
    let (stdin, resize) = (take(STDIN), take(RESIZE));
    let Some(error) = take(ERROR) else { return };
    let outputs = [take(STDOUT), take(STDERR)].map(|stream| stream.map(|stream| stream.output));
    let [stdout, stderr] = outputs;
    let output = Output::Spdy { stdout, stderr, error: error.output };
    let input = Input::Spdy { stdin, resize, connection };
    run(input, &output, start).await;
}

/// Waits for the streams that the request announced.
async fn open_streams(
    connection: &mut spdy::Connection,
    wanted: Wanted,
) -> Option<[Option<spdy::Stream>; 5]> {
    let mut streams = [const { None }; 5];
    let open = |streams: &[Option<spdy::Stream>; 5]| {
        (STDIN..=RESIZE).all(|channel| !wanted.has(channel) || streams[usize::from(channel)].is_some())
    };
    while !open(&streams) {
        let stream = connection.next().await?;
        let place = NAMES.iter().position(|name| *name == stream.header("streamtype"));
        match place.filter(|place| wanted.has(*place as u8) && streams[*place].is_none()) {
            Some(place) => {
                stream.output.accept().await.ok()?;
                streams[place] = Some(stream);
            }
            None => stream.output.reset().await.ok()?,
        }
    }
    Some(streams)
}

async fn run(input: Input, output: &Output, start: impl Future<Output = Result<ExecSession>>) {
    let status = match start.await {
        Ok(session) => talk(session, input, output).await,
        Err(error) => Some(internal_error(&error.to_string())),
    };
    // Without a status the client is gone.
    if let Some(status) = status {
        let _ = timeout(GOODBYE_MAX, output.goodbye(&status)).await;
    }
}

/// Carries bytes until the command ends; its status, or `None` if the client went away first.
async fn talk(session: ExecSession, input: Input, output: &Output) -> Option<Value> {
    let ExecSession { stdin, stdout, stderr, resize, exit } = session;
    let carried = async {
        tokio::join!(pump(stdout, STDOUT, output), async {
            if let Some(stderr) = stderr {
                pump(stderr, STDERR, output).await;
            }
        });
    };
    let ended = async {
        tokio::pin!(carried);
        tokio::pin!(exit);
        let mut drained = false;
        let code = loop {
            tokio::select! {
                code = &mut exit => break code,
                _ = &mut carried, if !drained => drained = true,
            }
        };
        if !drained {
            let _ = timeout(OUTPUT_AFTER_END_MAX, carried).await;
        }
        match code {
            Ok(0) => json!({"metadata": {}, "status": "Success"}),
            Ok(code) => exit_status(code),
            Err(error) => internal_error(&error.to_string()),
        }
    };
    let to_command = ToCommand { stdin, resize };
    tokio::select! {
        status = ended => Some(status),
        () = input.carry(to_command) => None,
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, channel: u8, output: &Output) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(size @ 1..) = from.read(&mut buffer).await {
        if output.send(channel, &buffer[..size]).await.is_err() {
            return;
        }
    }
}

/// Where the client's bytes go.
struct ToCommand {
    stdin: Option<std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send + Sync>>>,
    resize: Option<Box<dyn Fn(u16, u16) + Send + Sync>>,
}

impl ToCommand {
    async fn write(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.stdin
            && open.write_all(bytes).await.is_err()
        {
            self.stdin = None; // The command reads no more; its output still matters.
        }
    }

    fn resize(&self, size: &Value) {
        let number = |name: &str| size[name].as_u64().and_then(|number| u16::try_from(number).ok());
        if let (Some(resize), Some(width), Some(height)) = (&self.resize, number("Width"), number("Height")) {
            resize(width, height);
        }
    }
}

/// What comes from the client.
enum Input {
    WebSocket(SplitStream<Socket>),
    Spdy { stdin: Option<spdy::Stream>, resize: Option<spdy::Stream>, connection: spdy::Connection },
}

impl Input {
    /// Returns when the client is gone.
    async fn carry(self, to: ToCommand) {
        match self {
            Input::WebSocket(messages) => carry_messages(messages, to).await,
            Input::Spdy { stdin, resize, connection } => carry_streams(stdin, resize, connection, to).await,
        }
    }
}

async fn carry_messages(mut messages: SplitStream<Socket>, mut to: ToCommand) {
    while let Some(Ok(message)) = messages.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            _ => continue,
        };
        match data.split_first() {
            Some((&STDIN, bytes)) if !bytes.is_empty() => to.write(bytes).await,
            Some((&CLOSE, [STDIN])) => to.stdin = None,
            Some((&RESIZE, bytes)) => to.resize(&serde_json::from_slice(bytes).unwrap_or_default()),
            _ => {}
        }
    }
}

async fn carry_streams(
    mut stdin: Option<spdy::Stream>,
    mut resize: Option<spdy::Stream>,
    mut connection: spdy::Connection,
    mut to: ToCommand,
) {
    let mut size = Vec::new();
    loop {
        tokio::select! {
            bytes = next(&mut stdin) => match bytes {
                Some(bytes) => to.write(&bytes).await,
                None => (stdin, to.stdin) = (None, None),
            },
            bytes = next(&mut resize) => match bytes {
                Some(bytes) if size.len() + bytes.len() <= SIZE_BYTES_MAX => {
                    size.extend_from_slice(&bytes);
                    take_sizes(&mut size, &to);
                }
                _ => resize = None,
            },
            stream = connection.next() => match stream {
                Some(stream) => drop(stream.output.reset().await),
                None => return,
            },
        }
    }
}

/// What comes next on a stream that is open.
async fn next(stream: &mut Option<spdy::Stream>) -> Option<Vec<u8>> {
    match stream {
        Some(stream) => stream.input.recv().await,
        None => std::future::pending().await,
    }
}

/// Sizes come one JSON object after the other, cut anywhere.
fn take_sizes(bytes: &mut Vec<u8>, to: &ToCommand) {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    while let Some(Ok(size)) = values.next() {
        to.resize(&size);
    }
    let taken = values.byte_offset();
    bytes.drain(..taken);
}

/// What goes to the client.
enum Output {
    WebSocket(Arc<Mutex<SplitSink<Socket, Message>>>),
    Spdy { stdout: Option<spdy::Output>, stderr: Option<spdy::Output>, error: spdy::Output },
}

impl Output {
    async fn send(&self, channel: u8, bytes: &[u8]) -> std::result::Result<(), ()> {
        match self {
            Output::WebSocket(sink) => {
                let mut message = Vec::with_capacity(bytes.len() + 1);
                message.push(channel);
                message.extend_from_slice(bytes);
                sink.lock().await.send(Message::Binary(Bytes::from(message))).await.map_err(drop)
            }
            Output::Spdy { stdout, stderr, .. } => match if channel == STDOUT { stdout } else { stderr } {
                Some(stream) => stream.send(bytes).await.map_err(drop),
                None => Ok(()), // The client did not ask for it.
            },
        }
    }

    /// The status, and the end of the connection.
    async fn goodbye(&self, status: &Value) {
        let status = status.to_string();
        match self {
            Output::WebSocket(sink) => {
                let _ = self.send(ERROR, status.as_bytes()).await;
                let mut sink = sink.lock().await;
                // kubectl takes a close without a code for an accident.
                let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
                let _ = sink.send(Message::Close(Some(normal))).await;
                let _ = sink.close().await;
            }
            Output::Spdy { stdout, stderr, error } => {
                let _ = error.send(status.as_bytes()).await;
                for stream in [stdout.as_ref(), stderr.as_ref(), Some(error)].into_iter().flatten() {
                    let _ = stream.finish().await;
                }
            }
        }
    }
}

fn exit_status(code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal_error(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}
