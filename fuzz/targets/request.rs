//! A whole request to the API server, in process: its first line is method, path and media type, the rest is the body. Whatever comes, the
//! answer is never the server's fault.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use dodai_apiserver::{ApiServer, Config, User};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

/// The server is made anew after so many requests, so that its store stays small.
const REQUESTS_MAX: usize = 5_000;

struct World {
    runtime: tokio::runtime::Runtime,
    server: ApiServer,
    n: usize,
}

fn world() -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let server = runtime.block_on(ApiServer::open(Config::default())).expect("a server in memory opens");
    World { runtime, server, n: 0 }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(head) = std::str::from_utf8(&data[..end]) else { return };
    let mut parts = head.split(' ');
    let method = parts.next().unwrap_or_default();
    let path = parts.next().unwrap_or_default();
    if path.contains("watch") || path.contains("follow") {
        return;
    }
    let media = parts.next().unwrap_or("application/json");
    let body = Bytes::copy_from_slice(data.get(end + 1..).unwrap_or_default());
    let Ok(request) =
        http::Request::builder().method(method).uri(path).header("content-type", media).body(Full::new(body))
    else {
        return;
    };
    WORLD.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|world| world.n >= REQUESTS_MAX) {
            *slot = Some(world());
        }
        let Some(world) = slot.as_mut() else { return };
        world.n += 1;
        let service = world.server.service(User::admin("fuzz"));
        world.runtime.block_on(async {
            let Ok(response) = service.oneshot(request).await;
            let status = response.status().as_u16();
            let answer = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let text = String::from_utf8_lossy(&answer);
            assert!(status != 500 || !text.contains("panic"), "{text}");
        });
    });
});
