//! `/metrics`: what the server did, in the Prometheus text format 0.0.4, under kube-apiserver's names where it has them.
//!
//! Leaves out durations (the process that serves knows its own CPU time) and labels whose values a client can invent.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::server::Server;

/// Combinations of labels that are kept; requests beyond are counted under `other`.
const SERIES_MAX: usize = 10_000;

/// Verb, storage name of the resource (`group/plural`), HTTP status.
type Labels = (&'static str, Arc<str>, u16);

/// Where further text comes from.
pub(crate) type Source = dyn Fn() -> String + Send + Sync;

/// The counters of a server.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Labels, u64>>,
    inflight: AtomicI64,
}

/// A request that is being answered.
pub(crate) struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A request has come.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.inflight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// A request about a known resource was answered.
    pub(crate) fn answered(&self, verb: &'static str, storage: &Arc<str>, code: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = (verb, storage.clone(), code);
        if let Some(count) = requests.get_mut(&labels) {
            *count += 1;
        } else if requests.len() < SERIES_MAX {
            requests.insert(labels, 1);
        } else {
            *requests.entry(("other", "other/other".into(), 0)).or_default() += 1;
        }
    }
}

/// The whole text. Names of resources are those of registered kinds, so that nothing in it needs escaping.
pub(crate) fn render(server: &Server) -> String {
    let mut text = String::new();
    text.push_str(
        "# HELP apiserver_request_total Requests about known resources, by verb, resource and HTTP status.\n",
    );
    text.push_str("# TYPE apiserver_request_total counter\n");
    let requests = server.metrics.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for ((verb, storage, code), count) in &requests {
        let (group, resource) = split(storage);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "apiserver_request_total{{verb=\"{}\",group=\"{group}\",resource=\"{resource}\",code=\"{code}\"}} {count}",
            verb.to_uppercase()
        );
    }
    gauge(
        &mut text,
        "apiserver_current_inflight_requests",
        "Requests that are being answered, watches not included.",
        server.metrics.inflight.load(Ordering::Relaxed) as f64,
    );
    text.push_str("# HELP apiserver_storage_objects Stored objects, by resource.\n");
    text.push_str("# TYPE apiserver_storage_objects gauge\n");
    for (storage, count) in &server.store.count_in("") {
        let (group, resource) = split(storage);
        let _ =
            writeln!(text, "apiserver_storage_objects{{group=\"{group}\",resource=\"{resource}\"}} {count}");
    }
    gauge(
        &mut text,
        "dodai_store_revision",
        "The newest revision of the store.",
        server.store.revision() as f64,
    );
    let further = server.further_metrics.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(further) = further {
        text.push_str(&further());
    }
    text
}

/// A gauge without labels, with its description.
fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

/// Group (empty for the core group, as upstream writes it) and plural.
fn split(storage: &str) -> (&str, &str) {
    let (group, resource) = storage.split_once('/').unwrap_or(("", storage));
    (if group == "core" { "" } else { group }, resource)
}
