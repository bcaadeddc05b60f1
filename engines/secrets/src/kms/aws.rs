//! The two calls: `Encrypt` and `Decrypt`, with the region of the key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::credentials::{self, Credentials, Environment, Way, signed_post};
use super::http::Http;
use crate::error::{KmsError, KmsErrorKind};
use crate::seal::recipient::region;

/// Longest message of KMS that is passed on, bytes.
const MESSAGE_MAX: usize = 300;

/// A client. Credentials are found at the first call and kept while they are good.
#[derive(Default)]
pub struct AwsKms {
    http: Http,
    credentials: Mutex<Option<Credentials>>,
    /// `None`: that of the environment, else AWS' own.
    endpoint: Option<String>,
    environment: Environment,
    calls: AtomicU64,
}

impl AwsKms {
    /// A client of another endpoint, with fixed credentials.
    pub fn with(endpoint: &str, credentials: Credentials) -> AwsKms {
        AwsKms {
            endpoint: Some(endpoint.to_owned()),
            credentials: Mutex::new(Some(credentials)),
            ..AwsKms::default()
        }
    }

    /// A client that reads this environment.
    pub fn in_environment(environment: Environment) -> AwsKms {
        AwsKms { environment, ..AwsKms::default() }
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Decrypts under a context.
    ///
    /// # Errors
    /// What KMS answered.
    pub async fn decrypt(
        &self,
        arn: &str,
        wrapped: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let body =
            json!({"KeyId": arn, "CiphertextBlob": STANDARD.encode(wrapped), "EncryptionContext": context});
        self.call(arn, "Decrypt", &body, "Plaintext").await
    }

    /// Encrypts under a context.
    ///
    /// # Errors
    /// What KMS answered.
    pub async fn encrypt(
        &self,
        arn: &str,
        plain: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, KmsError> {
        let body = json!({"KeyId": arn, "Plaintext": STANDARD.encode(plain), "EncryptionContext": context});
        self.call(arn, "Encrypt", &body, "CiphertextBlob").await.map(|bytes| bytes.to_vec())
    }

    async fn call(
        &self,
        arn: &str,
        action: &str,
        body: &Value,
        field: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let unreachable = |message: String| KmsError { kind: KmsErrorKind::Unreachable, message };
        let region = region(arn).ok_or_else(|| unreachable("not the ARN of a KMS key".into()))?;
        let credentials = self.credentials(region).await?;
        let env = |name: &str| self.environment.get(name);
        let endpoint = self
            .endpoint
            .clone()
            .or_else(|| env("AWS_ENDPOINT_URL_KMS"))
            .or_else(|| env("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| format!("https://kms.{region}.{}", domain(arn)));
        let target = [("x-amz-target", format!("TrentService.{action}"))];
        let body = Zeroizing::new(body.to_string());
        let request = signed_post(
            &endpoint,
            "kms",
            region,
            "application/x-amz-json-1.1",
            &target,
            body.as_bytes().to_vec(),
            Some(&credentials),
        )
        .map_err(unreachable)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.http.send(request, None).await.map_err(unreachable)?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status != 200 {
            return Err(refusal(answer.status, &value));
        }
        let text = value[field].as_str().map(|text| Zeroizing::new(text.to_owned()));
        let bytes = text.and_then(|text| STANDARD.decode(text.as_bytes()).ok());
        bytes.map(Zeroizing::new).ok_or_else(|| unreachable(format!("an answer without `{field}`")))
    }

    async fn credentials(&self, region: &str) -> Result<Credentials, KmsError> {
        let mut kept = self.credentials.lock().await;
        if let Some(credentials) = kept.as_ref().filter(|credentials| credentials.is_fresh()) {
            return Ok(credentials.clone());
        }
        let found = credentials::find(Way { http: &self.http, environment: &self.environment, region })
            .await
            .map_err(|message| KmsError { kind: KmsErrorKind::NoCredentials, message })?;
        *kept = Some(found.clone());
        Ok(found)
    }
}

fn domain(arn: &str) -> &'static str {
    if arn.starts_with("arn:aws-cn:") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// An answer other than 200.
fn refusal(status: u16, value: &Value) -> KmsError {
    let type_ = value["__type"].as_str().unwrap_or_default();
    let name = type_.rsplit(['#', '.']).next().unwrap_or_default();
    let kind = match name {
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => KmsErrorKind::Denied,
        "NotFoundException"
        | "DisabledException"
        | "KMSInvalidStateException"
        | "KeyUnavailableException"
        | "InvalidKeyUsageException"
        | "InvalidArnException" => KmsErrorKind::Unusable,
        "InvalidCiphertextException" | "IncorrectKeyException" => KmsErrorKind::WrongContext,
        "ThrottlingException" | "LimitExceededException" | "TooManyRequestsException" => {
            KmsErrorKind::Throttled
        }
        _ if status == 429 => KmsErrorKind::Throttled,
        _ if status == 403 => KmsErrorKind::Denied,
        _ => KmsErrorKind::Unreachable,
    };
    let told = value["message"].as_str().or(value["Message"].as_str()).unwrap_or_default();
    let told: String = told.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect();
    let name = if name.is_empty() { status.to_string() } else { name.to_owned() };
    let message = if told.is_empty() { name } else { format!("{name}: {told}") };
    KmsError { kind, message }
}
