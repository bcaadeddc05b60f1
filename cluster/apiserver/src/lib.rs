//! A Kubernetes-compatible API server as a library.
//!
//! A request goes `handle` (routing, limits) -> `authorize` -> `read` or `write`/`delete` -> `store`. One path serves
//! every kind: what kinds differ in is data (`data/`, `kinds`), schemas (`schema` for built-in kinds, `crd` for
//! custom resources) and a small table of functions (`strategy`, `defaults`, `validate`).
//!
//! Deliberately left out: answers in protobuf, API aggregation, conversion webhooks.
//! A request for any of them gets an error that says so.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use dodai_apiserver::{ApiServer, Config, User};
//!
//! let server = ApiServer::open(Config::default()).await?;
//! let client: kube::Client = server.client(User::admin("me"));
//! # Ok(()) }
//! ```

mod admission;
mod allocate;
mod api;
mod authenticate;
mod authorize;
mod changed;
mod clock;
mod codec;
mod components;
mod convert;
mod crd;
mod defaults;
mod delete;
mod discovery;
mod error;
mod fieldset;
mod handle;
mod https;
mod impersonate;
mod kinds;
mod kubelet;
mod meter;
mod metrics;
mod names;
mod openapi;
mod patch;
mod pki;
mod pod;
mod proto;
mod published;
mod rbac;
mod read;
mod reply;
mod request;
mod review;
mod scale;
mod schema;
mod selector;
mod server;
mod special;
mod status;
pub mod store;
mod strategy;
mod subresource;
#[cfg(test)]
mod suite;
mod table;
mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod user;
mod validate;
mod warnings;
mod write;

pub use api::ApiServer;
pub use clock::Clock;
pub use components::Component;
pub use error::Error;
pub use https::Serving;
pub use pki::Pki;
pub use reply::{Body, BoxError};
pub use server::{Config, KubeletService, Storage};
pub use store::seal::{KeyError, KeyPlace};
pub use user::User;
