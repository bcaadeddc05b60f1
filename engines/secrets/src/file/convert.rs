//! Other forms into EncryptedSecrets: a `v1` Secret in plaintext, or what another tool's file held.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_api::dodai::encrypted_secret::{EncryptedSecretSpec, SecretTemplate, TemplateMetadata};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::back::Sealing;
use super::{ENCRYPTED, FileError, FileResult, Found};
use crate::seal::{Binding, DataKey, SealedValue, wrapping};

/// Where `kubectl apply` keeps what it was given.
const ANNOTATION_LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Secret in plaintext. Its values are gone from memory when dropped.
#[derive(Clone, Default)]
pub struct PlainSecret {
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// `type`.
    pub type_: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Values by key.
    pub data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlainSecret({}, {} values)", self.name, self.data.len())
    }
}

impl PlainSecret {
    /// Reads a `v1` Secret. `None` if the object is another.
    ///
    /// # Errors
    /// What is wrong with it; never a value.
    pub fn of(value: &Value) -> Result<Option<PlainSecret>, String> {
        if value["kind"] != "Secret" || value["apiVersion"] != "v1" {
            return Ok(None);
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let name = text(&value["metadata"]["name"]).ok_or("a Secret without `metadata.name`")?;
        let map = |field: &Value, what: &str| -> Result<BTreeMap<String, String>, String> {
            match field {
                Value::Null => Ok(BTreeMap::new()),
                field => serde_json::from_value(field.clone())
                    .map_err(|_| format!("Secret `{name}`: `{what}` must hold texts")),
            }
        };
        let mut data = BTreeMap::new();
        for (key, encoded) in map(&value["data"], "data")? {
            let bytes = STANDARD
                .decode(encoded.trim())
                .map_err(|_| format!("Secret `{name}`: `data.{key}` is not base64"))?;
            data.insert(key, Zeroizing::new(bytes));
        }
        for (key, value) in map(&value["stringData"], "stringData")? {
            data.insert(key, Zeroizing::new(value.into_bytes()));
        }
        let mut annotations = map(&value["metadata"]["annotations"], "metadata.annotations")?;
        // What `kubectl apply` leaves there is the whole Secret, in plaintext.
        annotations.remove(ANNOTATION_LAST_APPLIED);
        Ok(Some(PlainSecret {
            namespace: text(&value["metadata"]["namespace"]),
            type_: text(&value["type"]),
            labels: map(&value["metadata"]["labels"], "metadata.labels")?,
            annotations,
            name,
            data,
        }))
    }

    /// The EncryptedSecret that becomes this Secret, as a document of a file.
    ///
    /// # Errors
    /// No recipients, no namespace.
    pub fn encrypt(&self, sealing: &Sealing<'_>) -> FileResult<String> {
        let failed = |error: crate::Error| FileError::new(format!("`{}`: {error}", self.name));
        let has_metadata = !self.labels.is_empty() || !self.annotations.is_empty();
        let metadata = has_metadata
            .then(|| TemplateMetadata { labels: self.labels.clone(), annotations: self.annotations.clone() });
        let type_ = self.type_.clone().filter(|type_| type_ != "Opaque");
        let template = (metadata.is_some() || type_.is_some()).then_some(SecretTemplate { metadata, type_ });
        let mut spec = EncryptedSecretSpec { template, ..EncryptedSecretSpec::default() };
        let binding = Binding::new(self.namespace.as_deref(), &self.name, &spec).map_err(failed)?;
        let key = DataKey::generate().map_err(failed)?;
        let wrapped = wrapping::wrap(&key, &binding, sealing.recipients, &sealing.created(), sealing.keyring);
        spec.keys = vec![wrapped.map_err(failed)?];
        for (name, value) in &self.data {
            let sealed = SealedValue::seal(&key, &binding, name, value, sealing.now_s).map_err(failed)?;
            spec.data.insert(name.clone(), sealed.to_string());
        }
        let object = json!({
            "apiVersion": "dodai.dev/v1alpha1",
            "kind": ENCRYPTED,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        });
        Ok(dodai_yaml::to_string(&object))
    }
}

/// Replaces every `v1` Secret of a file by an EncryptedSecret. Comments inside those documents go; the rest stays.
///
/// # Errors
/// What does not read, no recipients.
pub fn encrypt_secrets(text: &str, sealing: &Sealing<'_>) -> FileResult<Option<String>> {
    let mut edits = super::splice::Edits::default();
    let mut any = false;
    for document in super::documents(text)? {
        let value = document.to_json().map_err(|error| FileError::yaml(&error))?;
        let secret =
            PlainSecret::of(&value).map_err(|error| FileError::at(&document, document.root_id(), error))?;
        let Some(secret) = secret else { continue };
        let start = document.root().range().start;
        let end = super::splice::end_of_lines(&document, document.root_id());
        edits.replace(start..end, secret.encrypt(sealing)?.trim_end());
        any = true;
    }
    match any {
        true => edits.apply(text).map(Some).ok_or_else(|| FileError::new("documents overlap")),
        false => Ok(None),
    }
}

/// Keys of an object, for messages.
pub fn keys_of(found: &Found) -> Vec<&str> {
    found.data.iter().map(|entry| entry.key.as_str()).collect()
}
