//! Which requests a policy, a binding or a webhook is about: rules, selectors, and the other versions of a resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::attributes::{Attributes, Operation};
use crate::kinds::Kind;
use crate::selector::LabelSelector;
use crate::status::ApiError;
use crate::store::{Key, Labels};

/// One rule: operations and resources.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    names: Vec<String>,
}

impl Rule {
    fn read(rule: &Value) -> Rule {
        let words = |name: &str| -> Vec<String> {
            let list = rule[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            operations: words("operations"),
            groups: words("apiGroups"),
            versions: words("apiVersions"),
            resources: words("resources"),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
            names: words("resourceNames"),
        }
    }

    fn matches(&self, attributes: &Attributes<'_>, kind: &Kind) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
        let is_cluster = kind.is("", "namespaces") || attributes.namespace.is_empty();
        let scope = match self.scope.as_str() {
            "*" => true,
            "Namespaced" => !is_cluster,
            "Cluster" => is_cluster,
            _ => false,
        };
        scope
            && any(&self.operations, attributes.operation.name())
            && any(&self.groups, &kind.group)
            && any(&self.versions, &kind.version)
            && self.resources.iter().any(|resource| {
                let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
                (name == "*" || name == kind.plural) && (sub == "*" || sub == attributes.subresource)
            })
            && (self.names.is_empty() || self.names.contains(&attributes.name))
    }
}

/// Everything that selects requests.
#[derive(Debug)]
pub(crate) struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether a rule also covers requests for other versions of its resource.
    equivalent: bool,
    /// Whether no rules at all means every request.
    open: bool,
    namespace: LabelSelector,
    object: LabelSelector,
}

impl Criteria {
    /// Reads `MatchResources`.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub(crate) fn of_policy(spec: &Value) -> Result<Criteria, String> {
        Criteria::read(spec, &spec["resourceRules"], true)
    }

    /// Reads a webhook.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub(crate) fn of_webhook(webhook: &Value) -> Result<Criteria, String> {
        Criteria::read(webhook, &webhook["rules"], false)
    }

    fn read(spec: &Value, rules: &Value, open: bool) -> Result<Criteria, String> {
        let read =
            |rules: &Value| -> Vec<Rule> { rules.as_array().into_iter().flatten().map(Rule::read).collect() };
        // Selectors have a default, so that one that is missing was stored before there was one.
        let selector = |name: &str| match &spec[name] {
            Value::Null => Ok(LabelSelector::default()),
            selector => LabelSelector::from_object(selector),
        };
        let rules = read(rules);
        Ok(Criteria {
            open: open && rules.is_empty(),
            rules,
            excluded: read(&spec["excludeResourceRules"]),
            equivalent: spec["matchPolicy"].as_str().unwrap_or("Equivalent") == "Equivalent",
            namespace: selector("namespaceSelector")?,
            object: selector("objectSelector")?,
        })
    }

    /// The version of the resource in which the request is looked at, if it is one of those meant.
    ///
    /// # Errors
    /// When the namespace of the request is gone.
    pub(crate) fn matches(&self, attributes: &Attributes<'_>) -> Result<Option<Arc<Kind>>, ApiError> {
        let in_namespace = self.in_namespace(attributes);
        if let Ok(false) = in_namespace {
            return Ok(None);
        }
        if !self.object.is_empty() {
            let selected = |object: Option<&Value>| {
                object.is_some_and(|object| {
                    object.get("metadata").is_some()
                        && self.object.matches(&Labels::of(&object["metadata"]["labels"]))
                })
            };
            if !selected(attributes.object) && !selected(attributes.old) {
                return Ok(None);
            }
        }
        if self.find(&self.excluded, attributes).is_some() {
            return Ok(None);
        }
        let found =
            if self.open { Some(attributes.kind.clone()) } else { self.find(&self.rules, attributes) };
        match found {
            None => Ok(None),
            Some(kind) => in_namespace.map(|_| Some(kind)),
        }
    }

    fn find(&self, rules: &[Rule], attributes: &Attributes<'_>) -> Option<Arc<Kind>> {
        if rules.iter().any(|rule| rule.matches(attributes, attributes.kind)) {
            return Some(attributes.kind.clone());
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let others = equivalents(attributes);
        rules.iter().find_map(|rule| others.iter().find(|kind| rule.matches(attributes, kind))).cloned()
    }

    fn in_namespace(&self, attributes: &Attributes<'_>) -> Result<bool, ApiError> {
        let is_namespace = attributes.kind.is("", "namespaces");
        if self.namespace.is_empty() || attributes.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let own = is_namespace
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update);
        if let (true, Some(object)) = (own, attributes.object) {
            return Ok(self.namespace.matches(&Labels::of(&object["metadata"]["labels"])));
        }
        let name = if is_namespace { &attributes.name } else { attributes.namespace };
        let key = Key::new(&attributes.server.namespaces, "", name);
        match attributes.server.store.get_head(&key) {
            Some(namespace) => Ok(self.namespace.matches(&namespace.labels)),
            None => Err(ApiError::not_found("namespaces", "", name)),
        }
    }
}

/// The other served versions of the resource.
fn equivalents(attributes: &Attributes<'_>) -> Vec<Arc<Kind>> {
    let registry = attributes.server.registry();
    let storage = attributes.kind.storage();
    let same = |kind: &&Arc<Kind>| {
        kind.storage() == storage
            && (kind.group != attributes.kind.group || kind.version != attributes.kind.version)
            && (attributes.subresource.is_empty() || kind.subresource(attributes.subresource).is_some())
    };
    // Versions are of one group, but for events.
    let kinds = registry
        .groups
        .iter()
        .filter(|(group, _)| **group == attributes.kind.group || attributes.kind.plural == "events");
    kinds
        .flat_map(|(_, versions)| versions.values())
        .flat_map(BTreeMap::values)
        .filter(same)
        .cloned()
        .collect()
}
