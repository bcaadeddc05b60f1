//! PGP keys, through the `gpg` program of the person: only it knows their key ring, their agent and their smart card.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::seal::keyring::WRAPPED_BYTES_MAX;

/// What decrypts PGP messages. Blocking.
pub trait Pgp: Send + Sync {
    /// The plaintext of an armored message, if a key for it is at hand.
    fn decrypt(&self, message: &[u8]) -> Option<Zeroizing<Vec<u8>>>;
}

/// The `gpg` program.
#[derive(Clone, Debug, Default)]
pub struct Gpg {
    /// Its key ring, where it is not the usual one.
    pub home: Option<PathBuf>,
}

impl Pgp for Gpg {
    fn decrypt(&self, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if message.len() > WRAPPED_BYTES_MAX {
            return None;
        }
        // As sops lets one choose it.
        let program = std::env::var_os("SOPS_GPG_EXEC").filter(|name| !name.is_empty());
        let mut command = Command::new(program.unwrap_or_else(|| "gpg".into()));
        if let Some(home) = &self.home {
            command.arg("--homedir").arg(home);
        }
        command.args(["--no-default-recipient", "--quiet", "--batch", "--decrypt"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.ok()?;
        // A message is shorter than a pipe's buffer: this cannot block for ever.
        child.stdin.take()?.write_all(message).ok()?;
        let output = child.wait_with_output().ok()?;
        let plain = Zeroizing::new(output.stdout);
        output.status.success().then_some(plain)
    }
}
