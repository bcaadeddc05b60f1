//! What is wrong with a file of EncryptedSecrets, or will be when it is rendered. Never shows a value.

use std::collections::BTreeMap;

use dodai_yaml::{Document, NodeId, NodeKind};

use super::{DataKeys, FileResult, Found, documents, find_all, splice};
use crate::error::Error;
use crate::rules::Rules;
use crate::seal::value::looks_sealed;
use crate::seal::{Keyring, Recipient, SealedValue};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Must not be committed.
    Error,
    /// Should be looked at.
    Warning,
}

/// Something that `lint` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// One CamelCase word.
    pub rule: &'static str,
    /// Line and column, from 1.
    pub position: (usize, usize),
    /// What is wrong and what to do.
    pub message: String,
}

/// What `lint` compares with.
pub struct Context<'a> {
    /// The identities at hand; without one, values are not opened.
    pub keyring: &'a Keyring,
    /// The rules of the repository.
    pub rules: &'a Rules,
    /// The file relative to `dodai.yaml`.
    pub path: &'a str,
    /// Time in seconds since 1970.
    pub now_s: u64,
}

/// Hashes of values that were seen, with where: to find equal values over many files.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<[u8; 32], String>);

/// Looks at one file.
///
/// # Errors
/// A file that does not read.
pub fn lint(text: &str, context: &Context<'_>, seen: &mut Seen) -> FileResult<Vec<Finding>> {
    let mut findings = Vec::new();
    for document in documents(text)? {
        plaintext(&document, document.root_id(), 0, &mut findings);
    }
    for found in find_all(text)? {
        let mut object = Object { found: &found, context, findings: &mut findings };
        object.lint(seen)?;
    }
    findings.sort_by_key(|finding| finding.position);
    Ok(findings)
}

/// Deepest list in a list.
const LISTS_MAX: usize = 4;

/// Tells of Secrets in plaintext: by themselves, in a `List`, as literals of a generator of kustomize.
fn plaintext(document: &Document, node: NodeId, depth: usize, findings: &mut Vec<Finding>) {
    let scalar = |node: NodeId, name: &str| {
        splice::entry(document, node, name).and_then(|(_, value)| splice::scalar_text(document, value))
    };
    let mut tell = |severity, at: NodeId, message: &str| {
        let position = document.position_at(document.node(at).range().start);
        findings.push(Finding {
            severity,
            rule: "PlaintextSecret",
            position: (position.line, position.column),
            message: message.to_owned(),
        });
    };
    if scalar(node, "kind") == Some("Secret") && scalar(node, "apiVersion") == Some("v1") {
        // What SOPS encrypted stays as it is; a value that it left in plaintext does not pass for one.
        let is_sops = splice::entry(document, document.root_id(), "sops").is_some();
        let values =
            ["data", "stringData"].into_iter().filter_map(|name| splice::entry(document, node, name));
        let open = |(_, values): (NodeId, NodeId)| match &document.node(values).kind {
            NodeKind::Mapping { entries, .. } => entries.iter().any(|(_, value)| {
                !splice::scalar_text(document, *value)
                    .is_some_and(|text| is_sops && (text.is_empty() || text.starts_with("ENC[AES256_GCM,")))
            }),
            // All of it in one: an alias, a template of another tool.
            _ => !splice::is_null(document, values),
        };
        if values.into_iter().any(open) {
            let message = "a Secret in plaintext: `dodai secret encrypt` makes an EncryptedSecret of it";
            tell(Severity::Error, node, message);
        }
    }
    let items =
        |name: &str| match splice::entry(document, node, name).map(|(_, list)| &document.node(list).kind) {
            Some(NodeKind::Sequence { items, .. }) => items.clone(),
            _ => Vec::new(),
        };
    for generator in items("secretGenerator") {
        if let Some((_, literals)) = splice::entry(document, generator, "literals")
            && !splice::is_null(document, literals)
        {
            let message =
                "literals of `secretGenerator` are plaintext in git: an EncryptedSecret keeps them sealed";
            tell(Severity::Warning, literals, message);
        }
    }
    if depth < LISTS_MAX && scalar(node, "kind").is_some_and(|kind| kind.ends_with("List")) {
        for item in items("items") {
            plaintext(document, item, depth + 1, findings);
        }
    }
}

struct Object<'a> {
    found: &'a Found,
    context: &'a Context<'a>,
    findings: &'a mut Vec<Finding>,
}

impl Object<'_> {
    fn tell(
        &mut self,
        severity: Severity,
        rule: &'static str,
        node: Option<dodai_yaml::NodeId>,
        message: String,
    ) {
        let document = &self.found.document;
        let node = node.unwrap_or(document.root_id());
        let position = document.position_at(document.node(node).range().start);
        self.findings.push(Finding { severity, rule, position: (position.line, position.column), message });
    }

    fn lint(&mut self, seen: &mut Seen) -> FileResult<()> {
        let found = self.found;
        if found.decrypted {
            let node = splice::find(&found.document, &["kind"]);
            let message = format!("`{}` is decrypted: `dodai secret encrypt`", found.display_name());
            self.tell(Severity::Error, "Decrypted", node, message);
        }
        self.recipients();
        let binding = match found.binding() {
            Ok(binding) => binding,
            Err(error) => {
                self.tell(Severity::Error, "InvalidSpec", None, error.message);
                return Ok(());
            }
        };
        let keys = found.data_keys(&binding, self.context.keyring);
        for (_, key) in keys.iter() {
            if let Err(
                error @ (Error::KeyExchanged(_) | Error::RecipientsChanged(_) | Error::DamagedWrap { .. }),
            ) = key
            {
                let node = splice::find(&found.document, &["spec", "keys"]);
                self.tell(Severity::Error, error.reason().as_str(), node, error.to_string());
            }
        }
        self.values(&keys, &binding, seen);
        let used = |id: &str| {
            found
                .data
                .iter()
                .any(|entry| entry.text.as_deref().is_some_and(|text| text.split(':').nth(1) == Some(id)))
        };
        let n_used = found.spec.keys.iter().filter(|key| used(&key.id)).count();
        let node = splice::find(&found.document, &["spec", "keys"]);
        if n_used > 1 {
            let message = format!("{n_used} data keys: `dodai secret rekey` brings them to one");
            self.tell(Severity::Warning, "SeveralKeys", node, message);
        }
        if found.spec.keys.len() > n_used {
            let message = "a data key that no value uses: `dodai secret rekey` drops it".to_owned();
            self.tell(Severity::Warning, "UnusedKey", node, message);
        }
        Ok(())
    }

    fn recipients(&mut self) {
        let node = splice::find(&self.found.document, &["spec", "keys"]);
        let have = match self.found.recipients() {
            Ok(have) => have,
            Err(error) => return self.tell(Severity::Error, "InvalidSpec", node, error.to_string()),
        };
        let wanted = self.context.rules.recipients(self.context.path);
        let revoked = self.context.rules.revoked();
        let named = |recipient: &Recipient| match self.context.rules.name_of(recipient) {
            Some(name) => format!("`{name}` ({recipient})"),
            None => format!("`{recipient}`"),
        };
        let mut told = Vec::new();
        for recipient in &have {
            if revoked.contains(recipient) {
                told.push((
                    "RevokedRecipient",
                    format!("{} was revoked and can read: `dodai secret rekey`", named(recipient)),
                ));
            } else if !wanted.is_empty() && !wanted.contains(recipient) {
                told.push((
                    "UnknownRecipient",
                    format!("{} can read and no rule says so: `dodai secret rekey`", named(recipient)),
                ));
            }
        }
        if !have.is_empty() {
            for recipient in wanted.iter().filter(|recipient| !have.contains(recipient)) {
                told.push((
                    "MissingRecipient",
                    format!("{} should be able to read: `dodai secret rotate`", named(recipient)),
                ));
            }
        }
        for (rule, message) in told {
            self.tell(Severity::Error, rule, node, message);
        }
    }

    fn values(&mut self, keys: &DataKeys, binding: &crate::seal::Binding, seen: &mut Seen) {
        let rotate_after = self.found.spec.rotate_after.as_deref().and_then(crate::rotation::parse);
        for entry in &self.found.data {
            let name = &entry.key;
            let Some(text) = entry.text.as_deref().filter(|text| looks_sealed(text)) else {
                let message = format!("`{name}` is not sealed: `dodai secret encrypt`");
                self.tell(Severity::Error, "Plaintext", Some(entry.node), message);
                continue;
            };
            let opened = SealedValue::parse(text)
                .and_then(|value| value.open(keys.get(&value.key_id)?, binding, name));
            match opened {
                Ok(opened) => {
                    if let Some(hash) = self.context.keyring.keyed_hash(&opened.value)
                        && !opened.value.is_empty()
                    {
                        let here = format!("{} `{name}`", self.found.display_name());
                        if let Some(first) = seen.0.get(&hash) {
                            let message = format!("`{name}` has the same value as {first}");
                            self.tell(Severity::Warning, "EqualValues", Some(entry.node), message);
                        } else {
                            seen.0.insert(hash, here);
                        }
                    }
                    let due = rotate_after
                        .is_some_and(|after| opened.set_at_s + after.as_secs() < self.context.now_s);
                    if due {
                        let message = format!("`{name}` is older than `rotateAfter`");
                        self.tell(Severity::Warning, "ValueOld", Some(entry.node), message);
                    }
                }
                // Without an identity that is among the recipients there is nothing to say.
                Err(Error::NoIdentity { .. } | Error::Kms { .. }) => {}
                Err(error) => {
                    let message = format!("`{name}`: {error}");
                    self.tell(Severity::Error, error.reason().as_str(), Some(entry.node), message);
                }
            }
        }
    }
}

/// Compares the objects of a file with what a renderer made of them: an overlay that changes what values are bound to
/// makes them useless.
///
/// # Errors
/// A text that does not read.
pub fn lint_rendered(text: &str, rendered: &str) -> FileResult<Vec<Finding>> {
    let after = find_all(rendered)?;
    let mut findings = Vec::new();
    for found in find_all(text)? {
        let ids = |found: &Found| found.spec.keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        let own = ids(&found);
        let Some(rendered) = after.iter().find(|other| ids(other).iter().any(|id| own.contains(id))) else {
            continue;
        };
        if let (Ok(before), Ok(after)) = (found.binding(), rendered.binding())
            && before.value_data("", "") != after.value_data("", "")
        {
            let node =
                splice::find(&found.document, &["metadata", "name"]).unwrap_or(found.document.root_id());
            let position = found.document.position_at(found.document.node(node).range().start);
            findings.push(Finding {
                severity: Severity::Error,
                rule: "RenderedElsewhere",
                position: (position.line, position.column),
                message: format!(
                    "`{}` is rendered as `{}`, and its scope `{}` binds its values to where they were sealed: \
                     encrypt it where it will be, or give it a wider scope",
                    found.display_name(),
                    rendered.display_name(),
                    before.scope.as_str()
                ),
            });
        }
    }
    Ok(findings)
}
