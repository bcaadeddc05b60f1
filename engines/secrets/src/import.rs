//! Secrets in the forms of other tools, in plaintext, on their way into EncryptedSecrets or Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_api::SealedSecret;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::file::convert::PlainSecret;
use crate::seal::Keyring;
use crate::sealed;
use crate::sops::{self, Format, Tree};

/// Why something is not imported. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A SOPS file does not open.
    #[error("the SOPS file does not open: {0}")]
    Sops(#[from] sops::Error),
    /// A SealedSecret does not open.
    #[error("SealedSecret `{name}`: {error}")]
    Sealed {
        /// Its name.
        name: String,
        /// Why.
        error: sealed::Error,
    },
    /// The file is no YAML.
    #[error("{0}")]
    Yaml(String),
    /// Something in it makes no sense.
    #[error("{0}")]
    Bad(String),
}

/// The Secrets that a file holds: a SOPS file in any of its formats, `SealedSecret`s, Secrets in plaintext. What holds no
/// object (dotenv, binary) becomes one Secret with the given name.
///
/// # Errors
/// See [`Error`].
pub fn secrets(text: &str, format: Format, name: &str, keyring: &Keyring) -> Result<Vec<PlainSecret>, Error> {
    let is_sops = match format {
        Format::Yaml | Format::Json => is_sops(text),
        Format::Dotenv | Format::Ini | Format::Binary => true,
    };
    if is_sops {
        return of_sops(text, format, name, keyring);
    }
    let mut found = Vec::new();
    for document in dodai_yaml::parse(text).map_err(|error| Error::Yaml(error.to_string()))? {
        let value = document.to_json().map_err(|error| Error::Yaml(error.to_string()))?;
        if value["kind"] == "SealedSecret" {
            found.push(of_sealed(value, keyring)?);
        } else {
            found.extend(PlainSecret::of(&value).map_err(Error::Bad)?);
        }
    }
    Ok(found)
}

/// Whether a YAML or JSON text has a `sops` section.
pub fn is_sops(text: &str) -> bool {
    sops::looks_encrypted(text)
        && dodai_yaml::parse(text).is_ok_and(|documents| {
            documents.iter().any(|document| document.to_json().is_ok_and(|value| value["sops"].is_object()))
        })
}

fn of_sealed(value: Value, keyring: &Keyring) -> Result<PlainSecret, Error> {
    let object: SealedSecret =
        serde_json::from_value(value).map_err(|error| Error::Bad(format!("a SealedSecret: {error}")))?;
    let name = object.metadata.name.clone().unwrap_or_default();
    sealed::open(&object, keyring).map_err(|error| Error::Sealed { name, error })
}

fn of_sops(text: &str, format: Format, name: &str, keyring: &Keyring) -> Result<Vec<PlainSecret>, Error> {
    let trees = sops::decrypt(text, format, keyring)?;
    let one = |data| vec![PlainSecret { name: name.to_owned(), data, ..PlainSecret::default() }];
    match format {
        Format::Binary => {
            let value = sops::decrypt::binary_value(&trees).ok_or_else(|| Error::Bad("no `data`".into()))?;
            Ok(one([("data".to_owned(), value)].into()))
        }
        Format::Dotenv => Ok(one(trees.iter().flat_map(leaves).collect())),
        Format::Ini => Err(Error::Bad("an INI file has sections; a Secret has none".into())),
        Format::Yaml | Format::Json => {
            let mut found = Vec::new();
            for tree in &trees {
                found.extend(of_tree(tree, name)?);
            }
            Ok(found)
        }
    }
}

fn leaves(tree: &Tree) -> Vec<(String, Zeroizing<Vec<u8>>)> {
    let Tree::Map(entries) = tree else { return Vec::new() };
    entries
        .iter()
        .filter_map(|(key, value)| match value {
            Tree::Leaf(leaf) => Some((key.clone(), leaf.mac_bytes())),
            _ => None,
        })
        .collect()
}

/// A Secret, a `SopsSecret` of the SOPS operator with its templates, or a flat map.
fn of_tree(tree: &Tree, name: &str) -> Result<Vec<PlainSecret>, Error> {
    let value = tree.to_json();
    if value["kind"] == "SopsSecret" {
        return of_operator(&value);
    }
    if let Some(secret) = PlainSecret::of(&value).map_err(Error::Bad)? {
        return Ok(vec![secret]);
    }
    if value["kind"].is_string() && value["apiVersion"].is_string() {
        return Err(Error::Bad(format!(
            "the encrypted {} is not a Secret",
            value["kind"].as_str().unwrap_or_default()
        )));
    }
    Ok(vec![PlainSecret {
        name: name.to_owned(),
        data: leaves(tree).into_iter().collect(),
        ..PlainSecret::default()
    }])
}

/// `isindir.github.com/v1alpha3`.
fn of_operator(value: &Value) -> Result<Vec<PlainSecret>, Error> {
    let field = |name: &str| {
        ["secretTemplates", "secret_templates"]
            .iter()
            .find_map(|known| value["spec"][*known].as_array())
            .cloned()
            .ok_or_else(|| Error::Bad(format!("no `{name}`")))
    };
    let namespace = value["metadata"]["namespace"].as_str().map(str::to_owned);
    let mut found = Vec::new();
    for template in field("spec.secretTemplates")? {
        let name = template["name"].as_str().ok_or_else(|| Error::Bad("a template without `name`".into()))?;
        let map = |field: &str| -> Result<std::collections::BTreeMap<String, String>, Error> {
            match &template[field] {
                Value::Null => Ok(Default::default()),
                value => serde_json::from_value(value.clone())
                    .map_err(|_| Error::Bad(format!("template `{name}`: `{field}` must hold texts"))),
            }
        };
        let mut secret = PlainSecret {
            namespace: namespace.clone(),
            name: name.to_owned(),
            type_: template["type"].as_str().map(str::to_owned),
            labels: map("labels")?,
            annotations: map("annotations")?,
            data: Default::default(),
        };
        for (key, encoded) in map("data")? {
            let bytes = STANDARD.decode(encoded.trim());
            let bytes =
                bytes.map_err(|_| Error::Bad(format!("template `{name}`: `data.{key}` is not base64")))?;
            secret.data.insert(key, Zeroizing::new(bytes));
        }
        for (key, text) in map("stringData")? {
            secret.data.insert(key, Zeroizing::new(text.into_bytes()));
        }
        found.push(secret);
    }
    Ok(found)
}
