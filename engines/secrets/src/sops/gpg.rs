//! PGP keys, through the `gpg` program of the person: only it knows their key ring, their agent and their smart card.
//!
//! [`Gpg`] waits for the program; [`Background`] is for controllers, which must not wait: it answers from what it knows, and
//! asks on another thread.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use sha2_for_age::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::seal::keyring::WRAPPED_BYTES_MAX;

/// Longest wait for `gpg`: a person may have to type a passphrase or touch a card.
const GPG_WAIT_MAX: Duration = Duration::from_secs(60);
/// Most messages that are remembered.
const MESSAGES_MAX: usize = 1000;
/// Most programs at the same time; they queue at the agent anyway.
const PROGRAMS_MAX: usize = 2;
/// How long an opened message is remembered.
const KEPT: Duration = Duration::from_secs(300);
/// How long a refusal is remembered, so that passes do not become programs.
const REFUSED: Duration = Duration::from_secs(25);

/// Why a message is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgpError {
    /// The program was asked and has not answered yet.
    Pending,
    /// No key for it is at hand, or no program.
    NoKey,
}

/// What decrypts PGP messages.
pub trait Pgp: Send + Sync {
    /// The plaintext of an armored message.
    ///
    /// # Errors
    /// See [`PgpError`].
    fn decrypt(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, PgpError>;
}

/// The `gpg` program. Blocking.
#[derive(Clone, Debug, Default)]
pub struct Gpg {
    /// Its key ring, where it is not the usual one.
    pub home: Option<PathBuf>,
    /// Another program than `gpg`, or what `SOPS_GPG_EXEC` names.
    pub program: Option<PathBuf>,
}

impl Pgp for Gpg {
    fn decrypt(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, PgpError> {
        if message.len() > WRAPPED_BYTES_MAX {
            return Err(PgpError::NoKey);
        }
        self.run(message).ok_or(PgpError::NoKey)
    }
}

impl Gpg {
    fn run(&self, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        // As sops lets one choose it.
        let chosen = std::env::var_os("SOPS_GPG_EXEC").filter(|name| !name.is_empty());
        let program = self.program.clone().or_else(|| chosen.map(PathBuf::from));
        let mut command = Command::new(program.unwrap_or_else(|| "gpg".into()));
        if let Some(home) = &self.home {
            command.arg("--homedir").arg(home);
        }
        command.args(["--no-default-recipient", "--quiet", "--batch", "--decrypt"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.ok()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        let (done, is_done) = mpsc::channel::<()>();
        let watched = child.clone();
        let watchdog = std::thread::spawn(move || {
            if is_done.recv_timeout(GPG_WAIT_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
                // It may have ended by itself meanwhile.
                let _ = watched.lock().unwrap_or_else(PoisonError::into_inner).kill();
            }
        });
        let mut plain = Zeroizing::new(Vec::new());
        let exchange = || -> std::io::Result<()> {
            // A message is shorter than a pipe's buffer: this cannot block for ever.
            input.ok_or(std::io::ErrorKind::BrokenPipe)?.write_all(message)?;
            let output = output.ok_or(std::io::ErrorKind::BrokenPipe)?;
            output.take(WRAPPED_BYTES_MAX as u64).read_to_end(&mut plain).map(drop)
        };
        let exchanged = exchange();
        drop(done);
        // Nobody who panicked holds it.
        let _ = watchdog.join();
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        (exchanged.is_ok() && status.is_ok_and(|status| status.success())).then_some(plain)
    }
}

enum Entry {
    Asked,
    Known(Zeroizing<Vec<u8>>, Instant),
    Refused(Instant),
}

/// For controllers: remembers what was opened, and asks in the background.
#[derive(Clone)]
pub struct Background {
    inner: Arc<dyn Pgp>,
    runtime: Handle,
    entries: Arc<Mutex<HashMap<[u8; 32], Entry>>>,
    programs: Arc<Semaphore>,
}

impl Background {
    /// Asks `inner`, on threads of this runtime that may block.
    pub fn new(inner: Arc<dyn Pgp>, runtime: Handle) -> Background {
        Background {
            inner,
            runtime,
            entries: Arc::default(),
            programs: Arc::new(Semaphore::new(PROGRAMS_MAX)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pgp for Background {
    fn decrypt(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, PgpError> {
        let id: [u8; 32] = Sha256::digest(message).into();
        let now = Instant::now();
        let mut entries = self.lock();
        match entries.get(&id) {
            Some(Entry::Asked) => return Err(PgpError::Pending),
            Some(Entry::Known(plain, until)) if *until > now => return Ok(plain.clone()),
            Some(Entry::Refused(until)) if *until > now => return Err(PgpError::NoKey),
            _ => {}
        }
        entries.retain(|_, entry| match entry {
            Entry::Asked => true,
            Entry::Known(_, until) | Entry::Refused(until) => *until > now,
        });
        if entries.len() >= MESSAGES_MAX {
            return Err(PgpError::Pending);
        }
        entries.insert(id, Entry::Asked);
        drop(entries);
        let (this, message) = (self.clone(), message.to_vec());
        self.runtime.spawn(async move {
            // Never closed.
            let _permit = this.programs.acquire().await;
            let inner = this.inner.clone();
            let answer = tokio::task::spawn_blocking(move || inner.decrypt(&message)).await;
            let entry = match answer {
                Ok(Ok(plain)) => Entry::Known(plain, Instant::now() + KEPT),
                Ok(Err(_)) | Err(_) => Entry::Refused(Instant::now() + REFUSED),
            };
            this.lock().insert(id, entry);
        });
        Err(PgpError::Pending)
    }
}
