//! Role-based access control: which rules hold for a user, and whether they allow a request.
//!
//! The rules are read from the store into an index when the first request of somebody outside `system:masters` comes,
//! and again after one of the four kinds has changed; nothing is kept in memory before.

pub(crate) mod bootstrap;
pub(crate) mod escalation;
pub(crate) mod rule;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::request::Attributes;
use crate::status::quote;
use crate::store::{Object, Store};
use crate::user::User;
pub(crate) use rule::Rule;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// Storage names of what the index is made of.
pub(crate) const RESOURCES: [&str; 4] = [
    "rbac.authorization.k8s.io/clusterroles",
    "rbac.authorization.k8s.io/clusterrolebindings",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/rolebindings",
];

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

impl Subject {
    fn read(value: &Value, binding: &Object) -> Option<Subject> {
        let name = value["name"].as_str()?.to_owned();
        match value["kind"].as_str()? {
            "User" => Some(Subject::User(name)),
            "Group" => Some(Subject::Group(name)),
            "ServiceAccount" => {
                let namespace = value["namespace"].as_str().unwrap_or(&binding.namespace).to_owned();
                Some(Subject::ServiceAccount { namespace, name })
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.is_in(name),
            Subject::ServiceAccount { namespace, name } => {
                crate::user::split_service_account(&user.name) == Some((namespace, name))
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Subject::User(name) => format!("User {}", quote(name)),
            Subject::Group(name) => format!("Group {}", quote(name)),
            Subject::ServiceAccount { namespace, name } => {
                format!("ServiceAccount {}", quote(&format!("{name}/{namespace}")))
            }
        }
    }
}

#[derive(Debug)]
struct Binding {
    /// `ClusterRoleBinding "a"` or `RoleBinding "a/namespace"`.
    described: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

impl Binding {
    fn read(object: &Object) -> Binding {
        let value = object.value();
        let text = |field: &str| value["roleRef"][field].as_str().unwrap_or_default().to_owned();
        let described = match &*object.namespace {
            "" => format!("ClusterRoleBinding {}", quote(&object.name)),
            namespace => format!("RoleBinding {}", quote(&format!("{}/{namespace}", object.name))),
        };
        let subjects = value["subjects"].as_array().into_iter().flatten();
        Binding {
            described,
            role_kind: text("kind"),
            role_name: text("name"),
            subjects: subjects.filter_map(|subject| Subject::read(subject, object)).collect(),
        }
    }
}

/// Everything that decides, parsed.
#[derive(Debug, Default)]
struct Index {
    revisions: [u64; 4],
    /// Rules by namespace (empty for cluster roles) and name.
    roles: HashMap<(String, String), Arc<[Rule]>>,
    cluster_bindings: Vec<Binding>,
    bindings: HashMap<String, Vec<Binding>>,
}

impl Index {
    fn build(store: &Store, revisions: [u64; 4]) -> Index {
        let [cluster_roles, cluster_bindings, roles, bindings] =
            RESOURCES.map(|resource| store.list(&resource.into(), "").objects);
        let mut index = Index { revisions, ..Index::default() };
        for object in cluster_roles.iter().chain(&roles) {
            let key = (object.namespace.to_string(), object.name.to_string());
            index.roles.insert(key, Rule::read_all(&object.value()["rules"]).into());
        }
        index.cluster_bindings = cluster_bindings.iter().map(|object| Binding::read(object)).collect();
        for object in &bindings {
            index.bindings.entry(object.namespace.to_string()).or_default().push(Binding::read(object));
        }
        index
    }

    /// The rules of a role that is referred to from `namespace`.
    fn rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let place = if kind == "ClusterRole" { "" } else { namespace };
        self.roles
            .get(&(place.to_owned(), name.to_owned()))
            .cloned()
            .ok_or_else(|| format!("{}.{GROUP} {} not found", kind.to_lowercase(), quote(name)))
    }

    /// Hands every rule of a user to `visit`, with where it comes from, until it returns true. The result are the
    /// roles that could not be found.
    fn visit(
        &self,
        user: &User,
        namespace: &str,
        mut visit: impl FnMut(&Binding, &Subject, &Rule) -> bool,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        let local = (!namespace.is_empty()).then(|| self.bindings.get(namespace)).flatten();
        for binding in self.cluster_bindings.iter().chain(local.into_iter().flatten()) {
            let Some(subject) = binding.subjects.iter().find(|subject| subject.is(user)) else { continue };
            match self.rules(&binding.role_kind, &binding.role_name, namespace) {
                Err(error) => missing.push(error),
                Ok(rules) => {
                    for rule in rules.iter() {
                        if visit(binding, subject, rule) {
                            return missing;
                        }
                    }
                }
            }
        }
        missing
    }
}

/// Whether a request is allowed, and why.
#[derive(Debug)]
pub(crate) struct Decision {
    pub allowed: bool,
    /// Upstream's text; may be empty.
    pub reason: String,
}

/// The index, made when it is needed.
#[derive(Debug, Default)]
pub(crate) struct Rbac(Mutex<Option<Arc<Index>>>);

impl Rbac {
    fn index(&self, store: &Store) -> Arc<Index> {
        // Read before the objects, so that a change in between makes the index old, not wrong.
        let revisions = RESOURCES.map(|resource| store.changed(resource));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(index) if index.revisions == revisions => index.clone(),
            _ => {
                let index = Arc::new(Index::build(store, revisions));
                *kept = Some(index.clone());
                index
            }
        }
    }

    /// Decides by the rules alone; `system:masters` needs none.
    pub(crate) fn decide(&self, store: &Store, user: &User, attributes: &Attributes) -> Decision {
        if user.is_in(crate::user::MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let index = self.index(store);
        let mut reason = None;
        let missing = index.visit(user, &attributes.namespace, |binding, subject, rule| {
            if !rule.allows(attributes) {
                return false;
            }
            reason = Some(format!(
                "RBAC: allowed by {} of {} {} to {}",
                binding.described,
                binding.role_kind,
                quote(&binding.role_name),
                subject.describe()
            ));
            true
        });
        match reason {
            Some(reason) => Decision { allowed: true, reason },
            None if missing.is_empty() => Decision { allowed: false, reason: String::new() },
            None => Decision { allowed: false, reason: format!("RBAC: {}", aggregate(&missing)) },
        }
    }

    /// All rules that hold for a user in a namespace, and the roles that could not be found.
    pub(crate) fn rules_for(&self, store: &Store, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut rules = Vec::new();
        let missing = self.index(store).visit(user, namespace, |_, _, rule| {
            rules.push(rule.clone());
            false
        });
        (rules, missing)
    }

    /// The rules behind the `roleRef` of a binding in `namespace`.
    pub(crate) fn role_rules(
        &self,
        store: &Store,
        kind: &str,
        name: &str,
        namespace: &str,
    ) -> Option<Arc<[Rule]>> {
        self.index(store).rules(kind, name, namespace).ok()
    }
}

/// Several errors as one text, as upstream joins them.
pub(crate) fn aggregate(errors: &[String]) -> String {
    match errors {
        [only] => only.clone(),
        many => {
            let mut seen: Vec<&str> = Vec::new();
            for error in many {
                if !seen.contains(&error.as_str()) {
                    seen.push(error);
                }
            }
            if seen.len() == 1 { seen[0].to_owned() } else { format!("[{}]", seen.join(", ")) }
        }
    }
}
