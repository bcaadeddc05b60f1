//! The environment of a container: what the node gives, the image, `envFrom`, `env`, in this order, later ones win;
//! `$(NAME)` stands for what is defined before.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container as Spec, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector,
};

use super::lookup::Lookup;
use crate::error::{Error, Result};

/// Variables in the order of their definition.
#[derive(Default)]
pub(crate) struct Env {
    names: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Env {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_string(), value).is_none() {
            self.names.push(name.to_string());
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn into_pairs(mut self) -> Vec<(String, String)> {
        let take = |name: String, values: &mut BTreeMap<String, String>| {
            let value = values.remove(&name)?;
            Some((name, value))
        };
        self.names.into_iter().filter_map(|name| take(name, &mut self.values)).collect()
    }

    /// As [`Env::expand`]; `None` if a name is not defined.
    pub(crate) fn expand_all(&self, text: &str) -> Option<String> {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("$(") {
            let (name, after) = after.split_once(')')?;
            self.get(name)?;
            rest = after;
        }
        Some(self.expand(text))
    }

    /// Replaces `$(NAME)` by its value, `$$` by `$`; a name that is not defined stays as it is, as in Kubernetes.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            match name {
                Some((name, after)) => {
                    match self.get(name) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&format!("$({name})")),
                    }
                    rest = after;
                }
                None => out.push('$'),
            }
        }
        out.push_str(rest);
        out
    }
}

/// Adds `envFrom` and `env` of a container.
pub(crate) async fn add_declared(env: &mut Env, pod: &Pod, spec: &Spec, lookup: &dyn Lookup) -> Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for from in spec.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut values = BTreeMap::new();
        if let Some(source) = &from.config_map_ref {
            let optional = source.optional.unwrap_or(false);
            values.extend(lookup.config_map(namespace, &source.name, optional).await?.unwrap_or_default());
        }
        if let Some(source) = &from.secret_ref {
            let optional = source.optional.unwrap_or(false);
            values.extend(lookup.secret(namespace, &source.name, optional).await?.unwrap_or_default());
        }
        for (name, value) in values {
            // Upstream leaves out what cannot be a variable, and goes on.
            let name = format!("{prefix}{name}");
            if is_name(&name)
                && let Ok(value) = String::from_utf8(value)
            {
                env.set(&name, value);
            }
        }
    }
    for variable in spec.env.iter().flatten() {
        if let Some(source) = &variable.value_from {
            if let Some(value) = resolve(pod, spec, source, lookup).await? {
                env.set(&variable.name, value);
            }
            continue;
        }
        let value = env.expand(variable.value.as_deref().unwrap_or_default());
        env.set(&variable.name, value);
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('=') && !name.contains('\0')
}

async fn resolve(
    pod: &Pod,
    spec: &Spec,
    source: &EnvVarSource,
    lookup: &dyn Lookup,
) -> Result<Option<String>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let text = |kind: &str, name: &str, key: &str, value: Vec<u8>| {
        String::from_utf8(value).map_err(|_| Error::Config {
            reason: "CreateContainerConfigError",
            message: format!("key {key} of {kind} {namespace}/{name} is not text"),
        })
    };
    let missing = |kind: &str, name: &str, key: &str| Error::Config {
        reason: "CreateContainerConfigError",
        message: format!("couldn't find key {key} in {kind} {namespace}/{name}"),
    };
    if let Some(from) = &source.config_map_key_ref {
        let optional = from.optional.unwrap_or(false);
        let data = lookup.config_map(namespace, &from.name, optional).await?.unwrap_or_default();
        return match data.get(&from.key) {
            Some(value) => text("ConfigMap", &from.name, &from.key, value.clone()).map(Some),
            None if optional => Ok(None),
            None => Err(missing("ConfigMap", &from.name, &from.key)),
        };
    }
    if let Some(from) = &source.secret_key_ref {
        let optional = from.optional.unwrap_or(false);
        let data = lookup.secret(namespace, &from.name, optional).await?.unwrap_or_default();
        return match data.get(&from.key) {
            Some(value) => text("Secret", &from.name, &from.key, value.clone()).map(Some),
            None if optional => Ok(None),
            None => Err(missing("Secret", &from.name, &from.key)),
        };
    }
    if let Some(field) = &source.field_ref {
        return field_ref(pod, field).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_ref(spec, resource).map(Some);
    }
    Err(unsupported("a `valueFrom` of this kind"))
}

fn unsupported(what: &str) -> Error {
    Error::Config {
        reason: "CreateContainerConfigError",
        message: format!("{what} is not supported by the process runtime"),
    }
}

/// The downward API's fields.
pub(crate) fn field_ref(pod: &Pod, field: &ObjectFieldSelector) -> Result<String> {
    let path = field.field_path.as_str();
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some(key) = path.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']")) {
        return Ok(meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']")) {
        return Ok(meta.annotations.as_ref().and_then(|notes| notes.get(key)).cloned().unwrap_or_default());
    }
    let lines = |map: &Option<BTreeMap<String, String>>| {
        let lines = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(&meta.labels)),
        "metadata.annotations" => Some(lines(&meta.annotations)),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => Some(
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".to_string()),
        ),
        // The process runtime's one address; a runtime with more gives the Pod's own before it starts anything.
        "status.hostIP" | "status.hostIPs" | "status.podIP" | "status.podIPs" => Some(pod_address(pod)),
        _ => return Err(unsupported(&format!("field `{path}`"))),
    };
    Ok(value.unwrap_or_default())
}

fn pod_address(pod: &Pod) -> String {
    let known = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    known.unwrap_or_else(|| "127.0.0.1".to_string())
}

/// What a container asks for or may have, in units of the divisor, rounded up.
pub(crate) fn resource_ref(spec: &Spec, selector: &ResourceFieldSelector) -> Result<String> {
    let resource = selector.resource.as_str();
    let divisor = selector.divisor.as_ref().and_then(|divisor| super::node_object::quantity(&divisor.0));
    // None and 0 both stand for 1.
    let divisor = divisor.filter(|divisor| *divisor > 0.0).unwrap_or(1.0);
    let (kind, name) = resource.split_once('.').unwrap_or_default();
    let resources = spec.resources.as_ref();
    let list = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unsupported(&format!("resource `{resource}`"))),
    };
    match list.and_then(|list| list.get(name)) {
        Some(quantity) => super::node_object::quantity(&quantity.0)
            .map(|value| (value / divisor).ceil().to_string())
            .ok_or_else(|| unsupported(&format!("quantity `{}`", quantity.0))),
        None => Ok("0".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_in_kubernetes() {
        let mut env = Env::default();
        env.set("A", "1".to_string());
        env.set("B", env.expand("$(A)2"));
        for (text, want) in [
            ("$(A)-$(B)", "1-12"),
            ("$(NONE) $A $$(A) $", "$(NONE) $A $(A) $"),
            ("$(A", "$(A"),
            ("--bind=127.0.0.1:$(A)", "--bind=127.0.0.1:1"),
        ] {
            assert_eq!(env.expand(text), want);
        }
    }
}
