//! SPDY/3.1, the server's side, as far as Kubernetes' clients use it for exec, attach and port-forward: streams with
//! headers, data, half-close and reset over any byte stream.
//!
//! Left out, since neither kubectl nor client-go do it: flow control (windows are neither sent nor obeyed, as in the
//! library that those use), pushed streams, credentials. A client that sends more than a stream's reader takes waits,
//! and with it its other streams. Every number of streams, size of a frame and queue is bounded.

mod connection;
mod frame;
mod headers;

pub(crate) use connection::{Connection, Output, Stream};
