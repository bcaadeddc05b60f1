//! The crate's errors, and the one-word reasons that conditions, events and the manual share.
//!
//! No error ever holds a value, a key or a part of one.

use std::fmt;

/// Why something that is sealed does not open, or something that is open cannot be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form `v1:<key id>:<base64>`.
    #[error("not a sealed value: {0}")]
    Malformed(&'static str),
    /// The value names a data key that the object does not carry.
    #[error("data key `{0}` is not in `spec.keys`")]
    UnknownKey(String),
    /// The authentication tag does not fit: changed, or moved here from elsewhere.
    #[error("the value was changed, or was sealed for another key, name, namespace, type or scope")]
    Refused,
    /// What was unwrapped is not the data key that the id commits to.
    #[error("data key `{0}` was exchanged: its id does not fit it")]
    KeyExchanged(String),
    /// The list of recipients was changed by somebody who does not hold the data key.
    #[error(
        "the recipients of data key `{0}` were changed by somebody who cannot read it, or it was moved here"
    )]
    RecipientsChanged(String),
    /// No identity at hand is among the recipients.
    #[error("none of the {n_identities} identities at hand can unwrap data key `{key}`{}", wrapped_for(.recipients))]
    NoIdentity {
        /// The data key.
        key: String,
        /// Who could.
        recipients: Vec<String>,
        /// How many identities were tried.
        n_identities: usize,
    },
    /// A wrapped data key that is no age file, or one that is damaged.
    #[error("data key `{key}` for `{recipient}` is damaged: {what}")]
    DamagedWrap {
        /// The data key.
        key: String,
        /// For whom it was wrapped.
        recipient: String,
        /// What is wrong with it.
        what: String,
    },
    /// A recipient that is neither an age recipient nor a KMS key.
    #[error("`{0}` is not a recipient: neither `age1...` nor the ARN of a KMS key")]
    BadRecipient(String),
    /// A key without anybody who can read it.
    #[error("no recipient: nobody could read the value")]
    NoRecipient,
    /// Too much of something.
    #[error("{what}: more than {max}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        max: usize,
    },
    /// Something an object must have before a value can be bound to it.
    #[error("{0}")]
    Unbound(&'static str),
    /// The operating system gave no randomness.
    #[error("no randomness from the system")]
    NoRandomness,
    /// KMS did not answer as needed.
    #[error("KMS key `{arn}`: {error}")]
    Kms {
        /// The key.
        arn: String,
        /// What it answered.
        error: KmsError,
    },
}

fn wrapped_for(recipients: &[String]) -> String {
    match recipients {
        [] => String::new(),
        some => format!(" (wrapped for {})", some.join(", ")),
    }
}

/// What KMS, or the way there, answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsError {
    /// What kind of answer.
    pub kind: KmsErrorKind,
    /// The service's own words; it never sees a value.
    pub message: String,
}

/// Kinds of answers of KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KmsErrorKind {
    /// Asked, not answered yet.
    Pending,
    /// The credentials may not use the key.
    Denied,
    /// There is no such key, or it is disabled or about to be deleted.
    Unusable,
    /// The ciphertext or its context is not the one that was encrypted.
    WrongContext,
    /// Too many calls; later is better.
    Throttled,
    /// No credentials were found.
    NoCredentials,
    /// Not reached, or an answer that makes no sense.
    Unreachable,
}

impl KmsErrorKind {
    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, KmsErrorKind::Pending | KmsErrorKind::Throttled | KmsErrorKind::Unreachable)
    }
}

impl fmt::Display for KmsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a Secret is not, or not wholly, what it should be: one word, the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// All values are in the Secret.
    Written,
    /// The Secret is being written.
    Writing,
    /// KMS was asked and has not answered yet.
    AskingKms,
    /// A value is not of the form of sealed values; perhaps it was never encrypted.
    NotSealed,
    /// A value names a data key that is not there.
    UnknownKey,
    /// A value was changed or moved.
    ValueRefused,
    /// A data key does not fit its id.
    KeyExchanged,
    /// A list of recipients was changed by somebody who cannot read.
    RecipientsChanged,
    /// No identity at hand is among the recipients.
    NoIdentity,
    /// A wrapped data key is damaged.
    DamagedKey,
    /// KMS refused: not allowed.
    KmsDenied,
    /// KMS has no such key, or it is disabled.
    KmsKeyUnusable,
    /// KMS refused: the data key was encrypted for another object.
    KmsWrongContext,
    /// KMS asks to come back later.
    KmsThrottled,
    /// KMS cannot be reached.
    KmsUnreachable,
    /// There are no credentials for KMS.
    KmsNoCredentials,
    /// The Secret of that name belongs to somebody else.
    SecretNotOurs,
    /// A type that the API gives a meaning of its own.
    TypeRefused,
    /// The spec says something that cannot be done.
    InvalidSpec,
    /// A SOPS file does not decrypt.
    SopsRefused,
    /// A SealedSecret does not decrypt.
    SealRefused,
    /// `rotateAfter` has passed for a value.
    ValueOld,
    /// No value is older than `rotateAfter`.
    ValuesFresh,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Written => "Written",
            Reason::Writing => "Writing",
            Reason::AskingKms => "AskingKms",
            Reason::NotSealed => "NotSealed",
            Reason::UnknownKey => "UnknownKey",
            Reason::ValueRefused => "ValueRefused",
            Reason::KeyExchanged => "KeyExchanged",
            Reason::RecipientsChanged => "RecipientsChanged",
            Reason::NoIdentity => "NoIdentity",
            Reason::DamagedKey => "DamagedKey",
            Reason::KmsDenied => "KmsDenied",
            Reason::KmsKeyUnusable => "KmsKeyUnusable",
            Reason::KmsWrongContext => "KmsWrongContext",
            Reason::KmsThrottled => "KmsThrottled",
            Reason::KmsUnreachable => "KmsUnreachable",
            Reason::KmsNoCredentials => "KmsNoCredentials",
            Reason::SecretNotOurs => "SecretNotOurs",
            Reason::TypeRefused => "TypeRefused",
            Reason::InvalidSpec => "InvalidSpec",
            Reason::SopsRefused => "SopsRefused",
            Reason::SealRefused => "SealRefused",
            Reason::ValueOld => "ValueOld",
            Reason::ValuesFresh => "ValuesFresh",
        }
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.as_str().to_owned()
    }
}

impl Error {
    /// The word for conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Malformed(_) => Reason::NotSealed,
            Error::UnknownKey(_) => Reason::UnknownKey,
            Error::Refused => Reason::ValueRefused,
            Error::KeyExchanged(_) => Reason::KeyExchanged,
            Error::RecipientsChanged(_) => Reason::RecipientsChanged,
            Error::NoIdentity { .. } => Reason::NoIdentity,
            Error::DamagedWrap { .. } => Reason::DamagedKey,
            Error::BadRecipient(_) | Error::NoRecipient | Error::TooMuch { .. } | Error::Unbound(_) => {
                Reason::InvalidSpec
            }
            Error::NoRandomness => Reason::InvalidSpec,
            Error::Kms { error, .. } => match error.kind {
                KmsErrorKind::Pending => Reason::AskingKms,
                KmsErrorKind::Denied => Reason::KmsDenied,
                KmsErrorKind::Unusable => Reason::KmsKeyUnusable,
                KmsErrorKind::WrongContext => Reason::KmsWrongContext,
                KmsErrorKind::Throttled => Reason::KmsThrottled,
                KmsErrorKind::NoCredentials => Reason::KmsNoCredentials,
                KmsErrorKind::Unreachable => Reason::KmsUnreachable,
            },
        }
    }

    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Kms { error, .. } if error.kind.is_transient())
    }
}
