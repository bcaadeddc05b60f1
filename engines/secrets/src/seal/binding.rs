//! What a sealed value is bound to: the object it stands in.
//!
//! The bytes are unambiguous: each part is preceded by its length, so that no two different objects give the same ones.

use std::collections::BTreeMap;

use dodai_api::dodai::encrypted_secret::{EncryptedSecret, EncryptedSecretSpec, Scope};
use kube::ResourceExt;

use crate::error::Error;
use crate::seal::checks::{Check, on};

/// Context of sealed values.
const VALUE_CONTEXT: &str = "dodai.dev/EncryptedSecret/v1/value";
/// Context of lists of recipients.
const RECIPIENTS_CONTEXT: &str = "dodai.dev/EncryptedSecret/v1/recipients";
/// The Secret's type where the template names none.
pub const TYPE_DEFAULT: &str = "Opaque";

/// The parts of an object that its values are bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// How much of namespace and name counts.
    pub scope: Scope,
    /// The namespace.
    pub namespace: String,
    /// The name, of the object and of its Secret.
    pub name: String,
    /// The Secret's type.
    pub type_: String,
}

impl Binding {
    /// The binding of an object.
    ///
    /// # Errors
    /// A scope that needs a namespace, in an object that names none.
    pub fn of(object: &EncryptedSecret) -> Result<Binding, Error> {
        Binding::new(object.namespace().as_deref(), &object.name_any(), &object.spec)
    }

    /// The binding of an object given by its parts.
    ///
    /// # Errors
    /// See [`Binding::of`].
    pub fn new(namespace: Option<&str>, name: &str, spec: &EncryptedSecretSpec) -> Result<Binding, Error> {
        let scope = spec.scope.unwrap_or_default();
        let namespace = namespace.unwrap_or_default();
        if namespace.is_empty() && scope != Scope::Cluster {
            return Err(Error::Unbound("`metadata.namespace` is missing: the values are bound to it"));
        }
        let type_ = spec.template.as_ref().and_then(|template| template.type_.clone());
        Ok(Binding {
            scope,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            type_: type_.filter(|type_| !type_.is_empty()).unwrap_or_else(|| TYPE_DEFAULT.to_owned()),
        })
    }

    /// The namespace as far as the scope binds it.
    fn bound_namespace(&self) -> &str {
        if self.scope == Scope::Cluster { "" } else { &self.namespace }
    }

    /// The name as far as the scope binds it.
    fn bound_name(&self) -> &str {
        if self.scope == Scope::Strict { &self.name } else { "" }
    }

    /// Additional data of a value.
    pub fn value_data(&self, key: &str, key_id: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(&mut bytes, VALUE_CONTEXT.as_bytes());
        push_if(Check::BindScope, &mut bytes, self.scope.as_str());
        push_if(Check::BindNamespace, &mut bytes, self.bound_namespace());
        push_if(Check::BindName, &mut bytes, self.bound_name());
        push_if(Check::BindKey, &mut bytes, key);
        push_if(Check::BindType, &mut bytes, &self.type_);
        push_if(Check::BindKeyId, &mut bytes, key_id);
        bytes
    }

    /// The beginning of what the MAC over a list of recipients covers.
    pub(crate) fn recipients_data(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(&mut bytes, RECIPIENTS_CONTEXT.as_bytes());
        push(&mut bytes, self.scope.as_str().as_bytes());
        push(&mut bytes, self.bound_namespace().as_bytes());
        push(&mut bytes, self.bound_name().as_bytes());
        bytes
    }

    /// The encryption context that KMS is given: computed, never read from a file.
    pub fn kms_context(&self, key_id: &str) -> BTreeMap<String, String> {
        let mut context = BTreeMap::new();
        let mut put = |name: &str, value: &str| context.insert(name.to_owned(), value.to_owned());
        put("dodai.dev/kind", "EncryptedSecret");
        put("dodai.dev/scope", self.scope.as_str());
        put("dodai.dev/key-id", key_id);
        // KMS refuses empty values.
        if on(Check::KmsContext) {
            if !self.bound_namespace().is_empty() {
                put("dodai.dev/namespace", self.bound_namespace());
            }
            if !self.bound_name().is_empty() {
                put("dodai.dev/name", self.bound_name());
            }
        }
        context
    }
}

/// Adds a part with its length before it: four bytes, big-endian.
pub(crate) fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    // Parts are names and identifiers; nothing near 4 GiB gets here (`VALUE_BYTES_MAX`, the API's own limits).
    let length = u32::try_from(part.len()).expect("a name is shorter than 4 GiB");
    if on(Check::LengthPrefix) {
        bytes.extend_from_slice(&length.to_be_bytes());
    }
    bytes.extend_from_slice(part);
}

fn push_if(check: Check, bytes: &mut Vec<u8>, part: &str) {
    push(bytes, if on(check) { part.as_bytes() } else { b"" });
}
