//! Which endpoints there are, which of them may be picked, and how much is in flight on each Pod.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Limits;

/// Pause before endpoints that all refused a connection are tried again.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);

/// A Pod's address for one port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Of the Pod; empty for an endpoint that is none.
    pub(super) uid: String,
}

/// What is in flight on each Pod, and which of them take nothing new. Shared by forwarder and kubelet.
#[derive(Clone, Default)]
pub struct Drains(Arc<DrainsInner>);

#[derive(Default)]
struct DrainsInner {
    pods: Mutex<HashMap<String, Load>>,
    changed: Notify,
}

#[derive(Default)]
struct Load {
    in_flight: usize,
    draining: bool,
}

impl Drains {
    /// Gives the Pod nothing new, and waits until nothing is in flight on it, at most for `grace`.
    pub async fn drain(&self, uid: &str, grace: Duration) {
        let until = Instant::now() + grace;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut pods = self.0.pods.lock().unwrap_or_else(PoisonError::into_inner);
                let load = pods.entry(uid.to_string()).or_default();
                load.draining = true;
                if load.in_flight == 0 {
                    return;
                }
            }
            if timeout_at(until, changed).await.is_err() {
                return;
            }
        }
    }

    /// The Pod is gone.
    pub fn forget(&self, uid: &str) {
        let mut pods = self.0.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if pods.get(uid).is_some_and(|load| load.in_flight == 0) {
            pods.remove(uid);
        }
    }

    /// Counts one more on the Pod, unless it takes nothing new.
    fn enter(&self, uid: &str) -> Option<InFlight> {
        let mut pods = self.0.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let load = pods.entry(uid.to_string()).or_default();
        if load.draining {
            return None;
        }
        load.in_flight += 1;
        Some(InFlight { drains: self.clone(), uid: uid.to_string() })
    }
}

/// One request or connection on a Pod, for as long as this is held.
pub(super) struct InFlight {
    drains: Drains,
    uid: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut pods = self.drains.0.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = pods.get_mut(&self.uid) {
            load.in_flight -= 1;
            if load.in_flight == 0 {
                if !load.draining {
                    pods.remove(&self.uid);
                }
                drop(pods);
                self.drains.0.changed.notify_waiters();
            }
        }
    }
}

/// The ready endpoints of a Service's port.
pub(super) struct Backend {
    /// `namespace/name` of the Service.
    pub(super) name: String,
    drains: Drains,
    limits: Limits,
    endpoints: watch::Sender<Arc<Vec<Endpoint>>>,
    next: AtomicUsize,
}

impl Backend {
    pub(super) fn new(name: String, drains: Drains, limits: Limits) -> Backend {
        Backend {
            name,
            drains,
            limits,
            endpoints: watch::Sender::new(Arc::default()),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn set(&self, endpoints: Vec<Endpoint>) {
        self.endpoints.send_if_modified(|current| {
            let changed = **current != endpoints;
            if changed {
                *current = Arc::new(endpoints);
            }
            changed
        });
    }

    /// A connection to an endpoint, waiting for one that takes it. Nothing was sent on it, so trying the next one when
    /// one refuses repeats nothing. The error is for the client.
    pub(super) async fn connect(&self) -> Result<(TcpStream, InFlight), String> {
        let until = Instant::now() + self.limits.hold_max;
        let mut changes = self.endpoints.subscribe();
        let mut last_failure = None;
        loop {
            let endpoints = changes.borrow_and_update().clone();
            let start = self.next.fetch_add(1, Ordering::Relaxed);
            let mut tried = false;
            for offset in 0..endpoints.len() {
                let endpoint = &endpoints[(start + offset) % endpoints.len()];
                let Some(in_flight) = self.drains.enter(&endpoint.uid) else { continue };
                tried = true;
                match timeout(self.limits.connect_max, TcpStream::connect(endpoint.address)).await {
                    Ok(Ok(stream)) => {
                        let _ = stream.set_nodelay(true);
                        return Ok((stream, in_flight));
                    }
                    Ok(Err(error)) => last_failure = Some(format!("{}: {}", endpoint.address, error.kind())),
                    Err(_) => last_failure = Some(format!("{}: does not accept", endpoint.address)),
                }
            }
            if Instant::now() >= until {
                return Err(match last_failure {
                    Some(failure) => format!("no endpoint of {} accepts a connection ({failure})", self.name),
                    None => format!("no endpoint of {} is ready", self.name),
                });
            }
            // A Pod that refuses is about to become unready, or to listen again; one that drains stays so.
            let pause = async {
                if tried {
                    sleep(CONNECT_AGAIN).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = timeout_at(until, changes.changed()) => {}
                () = pause => {}
            }
        }
    }
}
