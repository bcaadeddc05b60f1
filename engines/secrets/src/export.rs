//! The way out: EncryptedSecrets as SealedSecrets for another's controller, or as Secrets in plaintext.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_api::bitnami::sealed_secret::{ANNOTATION_CLUSTER_WIDE, ANNOTATION_NAMESPACE_WIDE};
use dodai_api::dodai::encrypted_secret::Scope;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::file::convert::PlainSecret;
use crate::file::{FileError, FileResult, Found, find_all, view};
use crate::seal::Keyring;
use crate::sealed::certificate::Certificate;
use crate::sealed::seal_value;

/// Each EncryptedSecret of a text as a SealedSecret with the same scope, as a file. Whatever else the text holds is left out.
///
/// # Errors
/// A value that does not open here, a certificate that cannot be used.
pub fn sealed(text: &str, keyring: &Keyring, certificate: &Certificate) -> FileResult<String> {
    let mut documents = Vec::new();
    for found in all(text)? {
        let plain = open(&found, keyring)?;
        let scope = found.spec.scope.unwrap_or_default();
        let namespace = plain.namespace.clone().unwrap_or_default();
        let (label, annotations) = match scope {
            Scope::Strict => (format!("{namespace}/{}", plain.name), json!({})),
            Scope::Namespace => (namespace, json!({ANNOTATION_NAMESPACE_WIDE: "true"})),
            Scope::Cluster => (String::new(), json!({ANNOTATION_CLUSTER_WIDE: "true"})),
        };
        let mut values = Map::new();
        for (key, value) in &plain.data {
            let sealed = seal_value(value, &label, certificate.key())
                .ok_or_else(|| found.error(&format!("`{key}` cannot be encrypted for this certificate")))?;
            values.insert(key.clone(), STANDARD.encode(sealed).into());
        }
        // The controller looks for the scope in the template too, and gives its annotations to the Secret.
        let mut template = metadata(&plain);
        let own = template["annotations"].as_object().cloned().unwrap_or_default();
        let merged: Map<String, Value> =
            annotations.as_object().cloned().unwrap_or_default().into_iter().chain(own).collect();
        if !merged.is_empty() {
            template["annotations"] = merged.into();
        }
        let object = json!({
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"name": plain.name, "namespace": plain.namespace, "annotations": annotations},
            "spec": {
                "encryptedData": values,
                "template": {"metadata": template, "type": plain.type_.as_deref().unwrap_or("Opaque")},
            },
        });
        documents.push(dodai_yaml::to_string(&without_empty(object)));
    }
    Ok(documents.join("---\n"))
}

/// Each EncryptedSecret of a text as a `v1` Secret in plaintext.
///
/// # Errors
/// A value that does not open here.
pub fn plaintext(text: &str, keyring: &Keyring) -> FileResult<Zeroizing<String>> {
    let mut documents = Zeroizing::new(String::new());
    for found in all(text)? {
        let plain = open(&found, keyring)?;
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(&plain),
            "type": plain.type_.as_deref().unwrap_or("Opaque"),
        });
        let values =
            plain.data.iter().map(|(key, value)| (key.clone(), STANDARD.encode(value.as_slice()).into()));
        object["data"] = values.collect::<Map<_, _>>().into();
        if !documents.is_empty() {
            documents.push_str("---\n");
        }
        documents.push_str(&Zeroizing::new(dodai_yaml::to_string(&without_empty(object))));
    }
    Ok(documents)
}

fn all(text: &str) -> FileResult<Vec<Found>> {
    let found = find_all(text)?;
    match found.is_empty() {
        true => Err(FileError::new("no EncryptedSecret in the file")),
        false => Ok(found),
    }
}

fn metadata(plain: &PlainSecret) -> Value {
    json!({
        "name": plain.name, "namespace": plain.namespace, "labels": plain.labels, "annotations": plain.annotations,
    })
}

/// An object without empty maps and nulls in its metadata, which only make a file longer.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(name, value)| {
                let is_empty = value.as_object().is_some_and(Map::is_empty) || value.is_null();
                !(is_empty && ["labels", "annotations", "namespace"].contains(&name.as_str()))
            });
            kept.map(|(name, value)| (name, without_empty(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// The Secret that an EncryptedSecret becomes.
fn open(found: &Found, keyring: &Keyring) -> FileResult<PlainSecret> {
    let template = found.spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut plain = PlainSecret {
        namespace: found.namespace.clone(),
        name: found.name.clone(),
        type_: template.type_,
        labels: metadata.labels,
        annotations: metadata.annotations,
        data: Default::default(),
    };
    for entry in &found.data {
        let text = entry.text.as_deref().unwrap_or_default();
        let opened = view::open(found, &entry.key, text, keyring).map_err(|error| {
            FileError::at(&found.document, entry.node, format!("`{}`: {error}", entry.key))
        })?;
        plain.data.insert(entry.key.clone(), opened.value);
    }
    Ok(plain)
}
