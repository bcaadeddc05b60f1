//! The certificate of a Sealed Secrets controller, of which only the RSA key and the end of validity are of use.
//!
//! Its chain is not checked: whoever seals has it from the controller, as `kubeseal --fetch-cert` prints it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;

/// Tags of DER.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const VERSION: u8 = 0xa0;
}

/// What values are sealed for.
#[derive(Debug, Clone)]
pub struct Certificate(RsaPublicKey);

impl Certificate {
    /// Reads a PEM certificate, or a PEM public key.
    ///
    /// # Errors
    /// No certificate, one of another kind of key, one that has ended.
    pub fn parse(text: &str, now: Timestamp) -> Result<Certificate, String> {
        if let Some(der) = pem(text, "PUBLIC KEY") {
            let key =
                RsaPublicKey::from_public_key_der(&der).map_err(|_| "a public key that is no RSA key")?;
            return Ok(Certificate(key));
        }
        let der = pem(text, "CERTIFICATE").ok_or("no certificate in it")?;
        let (end, key) = parts(&der).ok_or("a certificate that does not read")?;
        if end < now {
            return Err(format!(
                "the certificate ended at {end}: `kubeseal --fetch-cert` prints the present one"
            ));
        }
        let key =
            RsaPublicKey::from_public_key_der(key).map_err(|_| "a certificate whose key is no RSA key")?;
        Ok(Certificate(key))
    }

    pub(crate) fn key(&self) -> &RsaPublicKey {
        &self.0
    }
}

fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let symbols: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(symbols).ok()
}

/// An element: its tag, what is in it, itself with its head, and what follows.
struct Element<'a> {
    tag: u8,
    inner: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // At most four bytes of length: nothing here is larger.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (inner, rest) = rest.split_at_checked(length)?;
    Some(Element { tag, inner, whole: &bytes[..bytes.len() - rest.len()], rest })
}

/// The next element, which must have this tag.
fn next<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<Element<'a>> {
    let found = element(bytes).filter(|found| found.tag == tag)?;
    *bytes = found.rest;
    Some(found)
}

/// End of validity, and the key with its algorithm (RFC 5280, section 4.1).
fn parts(certificate: &[u8]) -> Option<(Timestamp, &[u8])> {
    let mut outer = element(certificate).filter(|found| found.tag == tag::SEQUENCE)?.inner;
    let mut fields = next(&mut outer, tag::SEQUENCE)?.inner;
    // The version, which the first one lacks.
    let _ = next(&mut fields, tag::VERSION);
    next(&mut fields, tag::INTEGER)?;
    // Algorithm of the signature, issuer.
    next(&mut fields, tag::SEQUENCE)?;
    next(&mut fields, tag::SEQUENCE)?;
    let mut validity = next(&mut fields, tag::SEQUENCE)?.inner;
    let begin = element(validity)?;
    validity = begin.rest;
    let end = time(&element(validity)?)?;
    // Subject.
    next(&mut fields, tag::SEQUENCE)?;
    Some((end, next(&mut fields, tag::SEQUENCE)?.whole))
}

/// `YYMMDDhhmmssZ`, 1950 to 2049, or `YYYYMMDDhhmmssZ`.
fn time(found: &Element<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(found.inner).ok()?.strip_suffix('Z')?;
    let text = match found.tag {
        tag::UTC_TIME => {
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
            format!("{century}{text}")
        }
        tag::GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
}
