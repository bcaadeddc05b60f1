//! AWS KMS: a small client of our own, since the SDK brings a second TLS stack and hundreds of crates for two calls.
//!
//! - [`aws`]: the calls, signed ([`sigv4`]), with credentials found the usual way ([`credentials`]).
//! - [`cached`]: for controllers, which must not wait: answers from what it knows, and asks in the background.

pub mod aws;
pub mod cached;
pub mod credentials;
mod http;
pub mod sigv4;

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{KmsError, KmsErrorKind};
use crate::seal::Kms;
use aws::AwsKms;

/// How often a call that was throttled is made again.
const TRIES_MAX: u32 = 4;
/// The first wait before another try; each is twice the one before.
const FIRST_WAIT_MS: u64 = 200;

/// For a command: waits for KMS.
#[derive(Clone, Default)]
pub struct Blocking(Arc<AwsKms>);

impl Blocking {
    /// With a client.
    pub fn new(client: Arc<AwsKms>) -> Blocking {
        Blocking(client)
    }

    /// Runs a call to its end on a thread of its own, so that it works inside and outside of a runtime.
    fn wait<T: Send>(
        &self,
        call: impl AsyncFn(&AwsKms) -> Result<T, KmsError> + Send + Sync,
    ) -> Result<T, KmsError> {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| KmsError {
                kind: KmsErrorKind::Unreachable,
                message: format!("cannot ask it: {error}"),
            })?;
            runtime.block_on(patiently(|| call(&self.0)))
        };
        let joined = std::thread::scope(|scope| scope.spawn(run).join());
        joined.unwrap_or_else(|_| {
            Err(KmsError { kind: KmsErrorKind::Unreachable, message: "asking it panicked".into() })
        })
    }
}

/// Makes a call again, later and later, while KMS says that there are too many.
async fn patiently<T, F: Future<Output = Result<T, KmsError>>>(call: impl Fn() -> F) -> Result<T, KmsError> {
    let mut wait_ms = FIRST_WAIT_MS;
    for _ in 1..TRIES_MAX {
        match call().await {
            Err(error) if error.kind == KmsErrorKind::Throttled => {
                tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await;
                wait_ms *= 2;
            }
            result => return result,
        }
    }
    call().await
}

impl Kms for Blocking {
    fn decrypt(
        &self,
        arn: &str,
        wrapped: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        self.wait(async |client| client.decrypt(arn, wrapped, context).await)
    }

    fn encrypt(
        &self,
        arn: &str,
        plain: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, KmsError> {
        self.wait(async |client| client.encrypt(arn, plain, context).await)
    }
}
