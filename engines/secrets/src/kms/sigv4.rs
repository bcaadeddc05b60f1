//! AWS Signature Version 4 for a request with a body and no query.

use sha2_for_age::{Digest, Sha256};
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::seal::data_key::hmac;

/// What is signed.
pub struct Signing<'a> {
    /// `kms`, `sts`.
    pub service: &'a str,
    /// The region.
    pub region: &'a str,
    /// Path of the URL.
    pub path: &'a str,
    /// Header names in lower case with their values, sorted by name; `host` among them.
    pub headers: &'a [(&'a str, String)],
    /// The body.
    pub body: &'a [u8],
    /// `YYYYMMDDTHHMMSSZ`.
    pub time: &'a str,
}

/// The value of the `authorization` header.
pub fn authorization(signing: &Signing<'_>, credentials: &Credentials) -> String {
    let names: Vec<&str> = signing.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!("POST\n{}\n\n", signing.path);
    for (name, value) in signing.headers {
        canonical.push_str(&format!("{name}:{}\n", value.trim()));
    }
    canonical.push_str(&format!("\n{names}\n{}", hex::encode(Sha256::digest(signing.body))));
    let date = signing.time.get(..8).unwrap_or_default();
    let scope = format!("{date}/{}/{}/aws4_request", signing.region, signing.service);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        signing.time,
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let secret = Zeroizing::new(format!("AWS4{}", *credentials.secret_key));
    let mut key = Zeroizing::new(hmac(secret.as_bytes(), date.as_bytes()));
    for part in [signing.region, signing.service, "aws4_request"] {
        key = Zeroizing::new(hmac(key.as_slice(), part.as_bytes()));
    }
    let signature = hex::encode(hmac(key.as_slice(), to_sign.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.key_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The case `post-vanilla` of AWS' own test suite for Signature Version 4.
    #[test]
    fn a_signature_is_the_one_of_the_test_suite() {
        let credentials = Credentials {
            key_id: "AKIDEXAMPLE".into(),
            secret_key: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            token: None,
            expires_at_s: None,
        };
        let headers =
            [("host", "example.amazonaws.com".to_owned()), ("x-amz-date", "20150830T123600Z".to_owned())];
        let signing = Signing {
            service: "service",
            region: "us-east-1",
            path: "/",
            headers: &headers,
            body: b"",
            time: "20150830T123600Z",
        };
        let got = authorization(&signing, &credentials);
        assert!(
            got.ends_with("Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            "{got}"
        );
    }
}
