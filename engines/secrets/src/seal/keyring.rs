//! The identities at hand, and the way to KMS: what can unwrap a data key.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::str::FromStr;
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::error::KmsError;
use crate::seal::data_key::hmac;
use crate::sops::gpg::Pgp;

/// Longest wrapped data key, bytes.
pub const WRAPPED_BYTES_MAX: usize = 16 << 10;
/// Most identities that are tried.
pub const IDENTITIES_MAX: usize = 256;

/// An identity: what is secret of an age key pair, or an SSH key used as one.
#[derive(Clone)]
pub enum Identity {
    /// `AGE-SECRET-KEY-1...`
    Age(age::x25519::Identity),
    /// An unencrypted SSH key, for files of SOPS only.
    Ssh(Arc<age::ssh::Identity>),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::Age(identity) => write!(f, "Identity({})", identity.to_public()),
            Identity::Ssh(_) => f.write_str("Identity(ssh)"),
        }
    }
}

impl Identity {
    /// A new age identity.
    pub fn generate() -> Identity {
        Identity::Age(age::x25519::Identity::generate())
    }

    /// The public half: `age1...`; none for SSH keys.
    pub fn recipient(&self) -> Option<String> {
        match self {
            Identity::Age(identity) => Some(identity.to_public().to_string()),
            Identity::Ssh(_) => None,
        }
    }

    /// The text to keep secret; none for SSH keys.
    pub fn secret_text(&self) -> Option<Zeroizing<String>> {
        match self {
            Identity::Age(identity) => Some(Zeroizing::new(identity.to_string().expose_secret().to_owned())),
            Identity::Ssh(_) => None,
        }
    }

    fn as_age(&self) -> &dyn age::Identity {
        match self {
            Identity::Age(identity) => identity,
            Identity::Ssh(identity) => identity.as_ref(),
        }
    }
}

/// Reads identities, one a line, `#` for comments, as age's identity files have them; or one SSH key.
///
/// # Errors
/// What is wrong and in which line, without repeating anything of it.
pub fn parse_identities(text: &str) -> Result<Vec<Identity>, String> {
    if text.trim_start().starts_with("-----BEGIN") {
        let identity = age::ssh::Identity::from_buffer(std::io::Cursor::new(text.as_bytes()), None)
            .map_err(|_| "not an SSH key that age can use".to_owned())?;
        return match identity {
            age::ssh::Identity::Unencrypted(_) => Ok(vec![Identity::Ssh(Arc::new(identity))]),
            age::ssh::Identity::Encrypted(_) => Err("an SSH key with a passphrase".to_owned()),
            age::ssh::Identity::Unsupported(_) => Err("an SSH key of a kind that age cannot use".to_owned()),
        };
    }
    let mut identities = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |what: &str| format!("line {}: {what}", number + 1);
        if line.starts_with("AGE-PLUGIN-") {
            return Err(at("identities of plugins are not used: no program is run for a key"));
        }
        if line.starts_with("AGE-SECRET-KEY-PQ-") {
            return Err(at("post-quantum identities are not supported"));
        }
        let identity = age::x25519::Identity::from_str(line).map_err(|_| at("not an age identity"))?;
        identities.push(Identity::Age(identity));
        if identities.len() > IDENTITIES_MAX {
            return Err(format!("more than {IDENTITIES_MAX} identities"));
        }
    }
    Ok(identities)
}

/// The way to AWS KMS. Blocking; a caller that must not block gives an implementation that answers from what it knows.
pub trait Kms: Send + Sync {
    /// Decrypts what [`Kms::encrypt`] gave, under the same context.
    ///
    /// # Errors
    /// What KMS answered.
    fn decrypt(
        &self,
        arn: &str,
        wrapped: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError>;

    /// Encrypts up to 4 KiB.
    ///
    /// # Errors
    /// What KMS answered.
    fn encrypt(
        &self,
        arn: &str,
        plain: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, KmsError>;
}

/// What can unwrap data keys here.
#[derive(Clone, Default)]
pub struct Keyring {
    /// Identities of age.
    pub identities: Vec<Identity>,
    /// The way to KMS, if there is one.
    pub kms: Option<Arc<dyn Kms>>,
    /// The way to PGP keys, for files of SOPS.
    pub pgp: Option<Arc<dyn Pgp>>,
    /// Private keys of a Sealed Secrets controller that were imported.
    pub sealing_keys: Vec<Arc<rsa::RsaPrivateKey>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("identities", &self.identities)
            .field("kms", &self.kms.is_some())
            .field("pgp", &self.pgp.is_some())
            .field("sealing_keys", &self.sealing_keys.len())
            .finish()
    }
}

/// Why an age file does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgeError {
    /// None of the identities is a recipient.
    NoMatch,
    /// It is no age file, or a damaged one.
    Damaged(&'static str),
}

impl Keyring {
    /// A keyring of identities alone.
    pub fn of(identities: Vec<Identity>) -> Keyring {
        Keyring { identities, ..Keyring::default() }
    }

    /// The public halves of the identities.
    pub fn recipients(&self) -> Vec<String> {
        self.identities.iter().filter_map(Identity::recipient).collect()
    }

    /// A hash of a value that tells only whoever has the first identity whether two values are equal; it stays the same
    /// when a value is sealed anew. `None` without an age identity.
    pub fn keyed_hash(&self, value: &[u8]) -> Option<[u8; 32]> {
        let secret = self.identities.iter().find_map(Identity::secret_text)?;
        let key = Zeroizing::new(hmac(secret.as_bytes(), b"dodai.dev/EncryptedSecret/v1/local-hash"));
        Some(hmac(key.as_slice(), value))
    }

    /// Opens a small age file, binary or armored.
    ///
    /// # Errors
    /// See [`AgeError`].
    pub fn open_age(&self, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
        self.open_age_up_to(file, WRAPPED_BYTES_MAX)
    }

    /// Opens an age file of up to so many bytes. Nothing is given out unless all of it is whole.
    ///
    /// # Errors
    /// See [`AgeError`].
    pub fn open_age_up_to(&self, file: &[u8], bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, AgeError> {
        if file.len() > bytes_max {
            return Err(AgeError::Damaged("too long"));
        }
        // Armored or not, it finds out itself; armor may stand behind blank space.
        let trimmed = file.trim_ascii_start();
        let file = if trimmed.starts_with(b"-----BEGIN ") { trimmed } else { file };
        self.open_age_reader(age::armor::ArmoredReader::new(file))
    }

    fn open_age_reader<R: BufRead>(&self, reader: R) -> Result<Zeroizing<Vec<u8>>, AgeError> {
        let decryptor = age::Decryptor::new_buffered(reader).map_err(|error| damage(&error))?;
        let identities = self.identities.iter().map(Identity::as_age);
        let mut stream = decryptor.decrypt(identities).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => AgeError::NoMatch,
            other => damage(&other),
        })?;
        let mut plain = Zeroizing::new(Vec::new());
        stream
            .read_to_end(&mut plain)
            .map_err(|_| AgeError::Damaged("the payload was changed or cut off"))?;
        Ok(plain)
    }
}

fn damage(error: &age::DecryptError) -> AgeError {
    AgeError::Damaged(match error {
        age::DecryptError::InvalidMac => "its header was changed",
        age::DecryptError::InvalidHeader => "its header is not valid",
        age::DecryptError::UnknownFormat => "not an age file that is known here",
        age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => "it does not decrypt",
        age::DecryptError::ExcessiveWork { .. } => "it asks for too much work",
        age::DecryptError::NoMatchingKeys => "no identity fits",
        _ => "it is cut off",
    })
}

/// Encrypts for one age recipient, as a binary age file.
pub(crate) fn seal_age(recipient: &str, plain: &[u8]) -> Option<Vec<u8>> {
    let recipient: age::x25519::Recipient = recipient.parse().ok()?;
    age::encrypt(&recipient, plain).ok()
}
