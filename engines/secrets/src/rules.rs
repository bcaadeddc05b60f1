//! `secrets` in `dodai.yaml`: which recipients what is in a folder has.
//!
//! ```yaml
//! secrets:
//!   people:
//!     alice: age1...
//!     prod: arn:aws:kms:eu-west-1:111122223333:key/...
//!   rules:                      # the first that matches counts
//!   - {path: "envs/prod/**", recipients: [alice, prod]}
//!   - {path: "**", recipients: [alice, age1...]}
//!   revoked: [age1...]          # `lint` tells where they can still read
//!   demoIdentity: demo-identity.txt
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::seal::Recipient;

/// Longest `dodai.yaml`, bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Comment that an identity beside the files must carry: it protects nothing, and says so.
pub const DEMO_MARK: &str = "protects nothing";

/// What `secrets` says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// Names for recipients.
    #[serde(default)]
    pub people: BTreeMap<String, String>,
    /// In the order of the file.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Recipients who must no longer read anything.
    #[serde(default)]
    pub revoked: Vec<String>,
    /// An identity for demonstrations, relative to the file.
    #[serde(default)]
    pub demo_identity: Option<String>,
}

/// For whom the files that a pattern matches are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// A pattern relative to `dodai.yaml`: `*` is anything within a folder's name, `**` any folders.
    pub path: String,
    /// Names of `people`, age recipients or ARNs.
    pub recipients: Vec<String>,
}

impl Rules {
    /// Reads the text of a `dodai.yaml`. A file without `secrets` has no rules.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Rules, String> {
        if text.len() > FILE_BYTES_MAX {
            return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
        }
        let documents = dodai_yaml::parse(text).map_err(|error| error.to_string())?;
        let Some(document) = documents.first() else { return Ok(Rules::default()) };
        let mut value = document.to_json().map_err(|error| error.to_string())?;
        let secrets = value.get_mut("secrets").map(serde_json::Value::take);
        let rules = match secrets {
            None | Some(serde_json::Value::Null) => Rules::default(),
            Some(secrets) => {
                serde_json::from_value(secrets).map_err(|error| format!("`secrets`: {error}"))?
            }
        };
        for (number, rule) in rules.rules.iter().enumerate() {
            rules.resolve(&rule.recipients).map_err(|error| format!("`secrets.rules[{number}]`: {error}"))?;
        }
        rules.resolve(&rules.revoked).map_err(|error| format!("`secrets.revoked`: {error}"))?;
        Ok(rules)
    }

    /// The recipients of a file, given relative to `dodai.yaml`; none if no rule matches.
    pub fn recipients(&self, path: &str) -> Vec<Recipient> {
        let rule = self.rules.iter().find(|rule| matches(&rule.path, path));
        // Every rule was resolved when the file was read.
        rule.and_then(|rule| self.resolve(&rule.recipients).ok()).unwrap_or_default()
    }

    /// Those who must no longer read.
    pub fn revoked(&self) -> Vec<Recipient> {
        self.resolve(&self.revoked).unwrap_or_default()
    }

    /// The name of a recipient, if it has one.
    pub fn name_of(&self, recipient: &Recipient) -> Option<&str> {
        let mut people = self.people.iter();
        people.find(|(_, text)| text.as_str() == recipient.as_str()).map(|(name, _)| name.as_str())
    }

    fn resolve(&self, texts: &[String]) -> Result<Vec<Recipient>, String> {
        let one = |text: &String| {
            let text = self.people.get(text).unwrap_or(text);
            Recipient::parse(text).map_err(|error| error.to_string())
        };
        texts.iter().map(one).collect()
    }
}

/// Whether a pattern matches a path. Both have `/` between names.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts_match(&pattern, &path)
}

fn parts_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.first(), path.first()) {
        (None, None) => true,
        (Some(&"**"), _) => {
            parts_match(&pattern[1..], path) || (!path.is_empty() && parts_match(pattern, &path[1..]))
        }
        (Some(name), Some(part)) => {
            name_matches(name.as_bytes(), part.as_bytes()) && parts_match(&pattern[1..], &path[1..])
        }
        _ => false,
    }
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.first() {
        None => name.is_empty(),
        Some(b'*') => {
            name_matches(&pattern[1..], name) || (!name.is_empty() && name_matches(pattern, &name[1..]))
        }
        Some(byte) => name.first() == Some(byte) && name_matches(&pattern[1..], &name[1..]),
    }
}
