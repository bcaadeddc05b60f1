//! KMS for controllers: answers from what it knows, and asks in the background. One call for each data key, however many
//! objects and passes ask for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2_for_age::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::aws::AwsKms;
use crate::error::{KmsError, KmsErrorKind};
use crate::seal::Kms;
use crate::seal::binding::push;

/// Most data keys that are kept.
const KEYS_MAX: usize = 20_000;
/// How long an unwrapped data key is kept: a key that is disabled meanwhile is seen at the next change after that.
const KEPT: Duration = Duration::from_secs(300);
/// How long a refusal is kept, so that passes do not become calls.
const REFUSED: Duration = Duration::from_secs(25);
/// Calls at the same time.
const CALLS_MAX: usize = 8;

enum Entry {
    Asked,
    Known(Zeroizing<Vec<u8>>, Instant),
    Refused(KmsError, Instant),
}

/// The cache and the way to KMS.
#[derive(Clone)]
pub struct Cached {
    client: Arc<AwsKms>,
    runtime: Handle,
    entries: Arc<Mutex<HashMap<[u8; 32], Entry>>>,
    calls: Arc<Semaphore>,
    kept: Duration,
    refused: Duration,
}

impl Cached {
    /// Calls are made on this runtime.
    pub fn new(client: Arc<AwsKms>, runtime: Handle) -> Cached {
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        Cached { client, runtime, entries: Arc::default(), calls, kept: KEPT, refused: REFUSED }
    }

    /// With other times for which data keys and refusals are remembered.
    #[must_use]
    pub fn remembering(mut self, kept: Duration, refused: Duration) -> Cached {
        (self.kept, self.refused) = (kept, refused);
        self
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(arn: &str, wrapped: &[u8], context: &BTreeMap<String, String>) -> [u8; 32] {
    let mut bytes = Vec::new();
    push(&mut bytes, arn.as_bytes());
    push(&mut bytes, wrapped);
    for (name, value) in context {
        push(&mut bytes, name.as_bytes());
        push(&mut bytes, value.as_bytes());
    }
    Sha256::digest(&bytes).into()
}

impl Kms for Cached {
    fn decrypt(
        &self,
        arn: &str,
        wrapped: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let id = hash(arn, wrapped, context);
        let pending = || KmsError { kind: KmsErrorKind::Pending, message: "asked, not answered yet".into() };
        let now = Instant::now();
        let mut entries = self.lock();
        match entries.get(&id) {
            Some(Entry::Asked) => return Err(pending()),
            Some(Entry::Known(key, until)) if *until > now => return Ok(key.clone()),
            Some(Entry::Refused(error, until)) if *until > now => return Err(error.clone()),
            _ => {}
        }
        if entries.len() >= KEYS_MAX {
            entries.retain(|_, entry| match entry {
                Entry::Asked => true,
                Entry::Known(_, until) | Entry::Refused(_, until) => *until > now,
            });
            if entries.len() >= KEYS_MAX {
                return Err(KmsError {
                    kind: KmsErrorKind::Throttled,
                    message: "too many keys at once".into(),
                });
            }
        }
        entries.insert(id, Entry::Asked);
        drop(entries);
        let (this, arn, wrapped, context) = (self.clone(), arn.to_owned(), wrapped.to_vec(), context.clone());
        self.runtime.spawn(async move {
            // Never closed.
            let _permit = this.calls.acquire().await;
            let answer = super::patiently(|| this.client.decrypt(&arn, &wrapped, &context)).await;
            let entry = match answer {
                Ok(key) => Entry::Known(key, Instant::now() + this.kept),
                Err(error) => Entry::Refused(error, Instant::now() + this.refused),
            };
            this.lock().insert(id, entry);
        });
        Err(pending())
    }

    fn encrypt(&self, _: &str, _: &[u8], _: &BTreeMap<String, String>) -> Result<Vec<u8>, KmsError> {
        // Controllers open; they never seal.
        Err(KmsError { kind: KmsErrorKind::Denied, message: "a controller does not encrypt".into() })
    }
}
