//! `/exec/...`: one command in a container. `/attach/...`: the streams of the command that the container runs.

use http::{Request, Response, StatusCode};

use super::remote_command::{Wanted, serve};
use super::{Body, Query, Refusal};
use crate::kubelet::Here;
use crate::runtime::{AttachRequest, ExecRequest};

pub(super) fn exec(
    request: Request<Body>,
    here: Here,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::of(query);
    let exec = ExecRequest {
        container: container.to_string(),
        command: query.all("command"),
        tty: wanted.tty,
        stdin: wanted.stdin,
    };
    if exec.command.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 command".to_string()));
    }
    serve(request, wanted, async move { here.handle.exec(exec).await })
}

pub(super) fn attach(
    request: Request<Body>,
    here: Here,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::of(query);
    let attach = AttachRequest { container: container.to_string(), stdin: wanted.stdin };
    serve(request, wanted, async move { here.handle.attach(attach).await })
}
