//! A whole request to the API server, in process: the first line is method, path and media type, the rest the body.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use dodai_apiserver::{ApiServer, Config, User};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

/// The server is made anew after so many requests, so that its store stays small and a find can be repeated.
const REQUESTS_MAX: usize = 2_000;
/// What of an answer is read: a watch does not end.
const ANSWER_MAX: usize = 1 << 20;

struct World {
    runtime: tokio::runtime::Runtime,
    server: ApiServer,
    requests: usize,
}

impl World {
    fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs nothing that is missing here");
        let server = runtime.block_on(ApiServer::open(Config::default())).expect("a server in memory opens");
        World { runtime, server, requests: 0 }
    }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn parse(data: &[u8]) -> Option<http::Request<Full<Bytes>>> {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let head = std::str::from_utf8(&data[..end]).ok()?;
    let mut parts = head.split(' ');
    let (method, path) = (parts.next()?, parts.next()?);
    let media = parts.next().unwrap_or("application/json");
    let body = Bytes::copy_from_slice(data.get(end + 1..).unwrap_or_default());
    http::Request::builder().method(method).uri(path).header("content-type", media).body(Full::new(body)).ok()
}

/// Whatever comes, there is an answer, and it is not the server's fault but where upstream says so too.
pub(crate) fn request(data: &[u8]) {
    let Some(request) = parse(data) else { return };
    let shown = format!("{} {}", request.method(), request.uri());
    WORLD.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|world| world.requests >= REQUESTS_MAX) {
            *slot = Some(World::new());
        }
        let world = slot.as_mut().expect("made above");
        world.requests += 1;
        let service = world.server.service(User::admin("fuzz"));
        world.runtime.block_on(async {
            let Ok(response) = service.oneshot(request).await;
            let status = response.status().as_u16();
            let text = answer(response.into_body()).await;
            // An apply that does not fit the Go type is a 500 upstream.
            let as_upstream = status == 500
                && ["failed to create typed patch object", "failed to convert new object"]
                    .iter()
                    .any(|part| text.contains(part));
            assert!(
                status < 500 || [501, 503, 504].contains(&status) || as_upstream,
                "{shown} gave {status}: {text}"
            );
        });
    });
}

/// The beginning of the answer; what follows later (a watch, a log) is not waited for.
async fn answer(mut body: impl BodyExt<Data = Bytes> + Unpin) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX {
        match tokio::time::timeout(Duration::from_millis(1), body.frame()).await {
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
