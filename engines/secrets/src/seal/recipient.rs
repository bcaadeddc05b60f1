//! For whom a data key is wrapped: an age recipient or a KMS key. Both are public.

use std::fmt;

use dodai_api::dodai::encrypted_secret::WrappedRecipient;

use crate::error::Error;

/// Someone who can be given a data key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Recipient {
    /// `age1...`, an X25519 recipient.
    Age(String),
    /// `arn:aws:kms:REGION:ACCOUNT:key/ID` or `.../alias/NAME`.
    Kms(String),
}

impl Recipient {
    /// Reads a recipient.
    ///
    /// # Errors
    /// [`Error::BadRecipient`]; also for an age identity, which is secret: its text is then not repeated.
    pub fn parse(text: &str) -> Result<Recipient, Error> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(Error::BadRecipient("(an identity, which is secret)".to_owned()));
        }
        if text.parse::<age::x25519::Recipient>().is_ok() {
            return Ok(Recipient::Age(text.to_owned()));
        }
        if region(text).is_some() {
            return Ok(Recipient::Kms(text.to_owned()));
        }
        Err(Error::BadRecipient(text.chars().take(80).collect()))
    }

    /// The recipient that an entry of `spec.keys` names.
    ///
    /// # Errors
    /// None named, or two.
    pub fn of(wrapped: &WrappedRecipient) -> Result<Recipient, Error> {
        match (&wrapped.age, &wrapped.kms) {
            (Some(age), None) => Ok(Recipient::Age(age.clone())),
            (None, Some(arn)) if region(arn).is_some() => Ok(Recipient::Kms(arn.clone())),
            (None, Some(arn)) => Err(Error::BadRecipient(arn.chars().take(80).collect())),
            _ => Err(Error::BadRecipient("(an entry with not exactly one of `age` and `kms`)".to_owned())),
        }
    }

    /// `age` or `kms`.
    pub fn kind(&self) -> &'static str {
        match self {
            Recipient::Age(_) => "age",
            Recipient::Kms(_) => "kms",
        }
    }

    /// The text without its kind.
    pub fn as_str(&self) -> &str {
        match self {
            Recipient::Age(text) | Recipient::Kms(text) => text,
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The region in the ARN of a KMS key or alias; `None` for anything else. Only letters, digits and `-`: it becomes part
/// of a host name.
pub fn region(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (head, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_key = resource.strip_prefix("key/").or_else(|| resource.strip_prefix("alias/"))?;
    let named = !is_key.is_empty()
        && is_key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte));
    let digits = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
    (head == "arn" && service == "kms" && plain(partition) && plain(region) && digits && named)
        .then_some(region)
}
