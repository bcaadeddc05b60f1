//! Which Jobs are gone for certain: asked of the API server itself, since a cache may be behind, and kept, since a uid never
//! comes back.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dodai_kit::Key;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

/// Questions that may wait; one that finds no room is asked again at the next look.
const ASKED_MAX: usize = 256;
/// Answers that are kept; beyond that all are forgotten, and asked for anew.
const KNOWN_MAX: usize = 4096;

type Question = (Key, String);

/// What is known, and who may be asked.
pub struct Gone {
    known: Mutex<BTreeSet<String>>,
    ask: mpsc::Sender<Question>,
}

impl Gone {
    /// Nothing is known yet. The other end goes to [`Gone::answer`].
    pub(super) fn new() -> (Gone, mpsc::Receiver<Question>) {
        let (ask, asked) = mpsc::channel(ASKED_MAX);
        (Gone { known: Mutex::default(), ask }, asked)
    }

    /// Whether the Job of this name and uid is gone for certain. What is not known is asked for.
    pub(super) fn is(&self, job: Key, uid: &str) -> bool {
        if self.known().contains(uid) {
            return true;
        }
        // Without room it is asked again.
        let _ = self.ask.try_send((job, uid.to_owned()));
        false
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for as long as anybody may ask.
    pub(super) async fn answer(&self, client: Client, mut asked: mpsc::Receiver<Question>) {
        while let Some((key, uid)) = asked.recv().await {
            if self.known().contains(&uid) {
                continue;
            }
            let jobs: Api<Job> = Api::namespaced(client.clone(), &key.namespace);
            match jobs.get_metadata_opt(&key.name).await {
                Ok(found) if found.as_ref().is_none_or(|found| found.uid().as_deref() != Some(&uid)) => {
                    let mut known = self.known();
                    if known.len() >= KNOWN_MAX {
                        known.clear();
                    }
                    known.insert(uid);
                }
                Ok(_) => {}
                // Whoever asked looks again.
                Err(error) => tracing::debug!(job = %key, %error, "it is not known whether a Job is gone"),
            }
        }
    }
}
