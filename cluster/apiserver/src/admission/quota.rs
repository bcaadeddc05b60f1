//! ResourceQuota: what a new object uses is charged before it is stored, and refused when it is too much.
//!
//! As upstream, the quota's *status* decides (`status.hard`, `status.used`); `tasks/quota.rs` copies the spec there and
//! counts anew after deletions. Left out: quota for extended and device resources of Pods beyond their requests.

pub(crate) mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::schema::quantity::Quantity;
use crate::server::Server;
use crate::status::ApiError;
use crate::store::{Change, Key, Object, View};
use crate::write::{Request, name_of};
pub(crate) use usage::pod_amounts;
use usage::{matches, usage};

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Names for which every container must say what it needs, if they are limited.
const DEMANDED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Reads a map of quantities; what is none is left out.
pub(crate) fn read_amounts(map: &Value) -> Amounts {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), Quantity::parse(value.as_str()?)?))).collect()
}

/// As a map of quantities.
pub(crate) fn write_amounts(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.canonical()))).collect()
}

/// `a=1,b=2` of the named amounts.
fn show<'a>(amounts: &Amounts, names: impl IntoIterator<Item = &'a String>) -> String {
    let shown = |name: &String| amounts.get(name).map(|amount| format!("{name}={}", amount.canonical()));
    names.into_iter().filter_map(shown).collect::<Vec<String>>().join(",")
}

/// What has been added to quotas for an object that is about to be stored.
#[derive(Debug, Default)]
pub(crate) struct Charge(Vec<(Key, Amounts)>);

impl Charge {
    /// The object was not stored: takes the amounts off again.
    pub(crate) async fn give_back(self, server: &Server) {
        for (key, amounts) in self.0 {
            let decide = |current: Option<&Arc<Object>>, _: &View<'_>| {
                let Some(current) = current else { return Ok(Change::Nothing) };
                let mut quota = current.value();
                let mut used = read_amounts(&quota["status"]["used"]);
                for (name, amount) in &amounts {
                    if let Some(known) = used.get_mut(name) {
                        *known = known.minus(amount);
                    }
                }
                quota["status"]["used"] = write_amounts(&used);
                Ok::<_, ApiError>(Change::Put(quota))
            };
            if let Err(error) = server.store.write(&key, decide).await {
                tracing::warn!(quota = %key.name, %error, "the use of a quota cannot be taken back");
            }
        }
    }
}

/// Charges an object to the quotas of its namespace.
pub(crate) async fn charge(
    request: &Request<'_>,
    old: Option<&Value>,
    object: &Value,
) -> Result<Charge, ApiError> {
    let kind = &request.kind;
    if old.is_some() && !kind.is("", "services") && !kind.is("", "persistentvolumeclaims") {
        return Ok(Charge::default());
    }
    let resource = "core/resourcequotas".into();
    let quotas = request.server.store.list(&resource, &request.key.namespace).objects;
    if quotas.is_empty() {
        return Ok(Charge::default());
    }
    let mut added = usage(&kind.group, &kind.plural, object);
    if let Some(old) = old {
        for (name, amount) in usage(&kind.group, &kind.plural, old) {
            let now = added.get(&name).copied().unwrap_or(Quantity::ZERO);
            added.insert(name, now.minus(&amount));
        }
        added.retain(|_, amount| amount.nano() != 0);
    }
    let forbidden = |text: String| ApiError::forbidden(&kind.plural, &kind.group, &name_of(object), &text);
    let mut charged = Charge::default();
    for quota in quotas {
        let key = Key::new(&resource, &quota.namespace, &quota.name);
        let mut amounts = None;
        let decide = |current: Option<&Arc<Object>>, _: &View<'_>| {
            let Some(current) = current else { return Ok(Change::Nothing) };
            let mut value = current.value();
            let Some((used, counted)) =
                check(&key.name, &value, kind.is("", "pods"), object, &added).map_err(&forbidden)?
            else {
                return Ok(Change::Nothing);
            };
            if request.dry_run {
                return Ok(Change::Nothing);
            }
            value["status"]["used"] = write_amounts(&used);
            amounts = Some(counted);
            Ok(Change::Put(value))
        };
        match request.server.store.write(&key, decide).await {
            Ok(_) => charged.0.extend(amounts.map(|amounts| (key, amounts))),
            Err(error) => {
                charged.give_back(request.server).await;
                return Err(error);
            }
        }
    }
    Ok(charged)
}

/// The new use of a quota and what is added to it; `None` if the object does not count. The error is upstream's text.
fn check(
    name: &str,
    quota: &Value,
    is_pod: bool,
    object: &Value,
    added: &Amounts,
) -> Result<Option<(Amounts, Amounts)>, String> {
    if !matches(quota, is_pod, object) {
        return Ok(None);
    }
    let hard = read_amounts(&quota["status"]["hard"]);
    let mut used = read_amounts(&quota["status"]["used"]);
    if is_pod {
        demand(&hard, object).map_err(|text| format!("failed quota: {name}: {text}"))?;
    }
    let counted: Amounts = added
        .iter()
        .filter(|(name, _)| hard.contains_key(*name))
        .map(|(name, a)| (name.clone(), *a))
        .collect();
    let unknown: Vec<&str> =
        counted.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    if counted.is_empty() {
        return Ok(None);
    }
    let before = used.clone();
    let mut exceeded = Vec::new();
    for (name, amount) in &counted {
        let new = before[name].plus(amount);
        if amount.nano() > 0 && new.nano() > hard[name].nano() {
            exceeded.push(name.clone());
        }
        used.insert(name.clone(), new);
    }
    if exceeded.is_empty() {
        return Ok(Some((used, counted)));
    }
    Err(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        show(&counted, &exceeded),
        show(&before, &exceeded),
        show(&hard, &exceeded)
    ))
}

/// Where compute is limited, every container must say how much it takes.
fn demand(hard: &Amounts, pod: &Value) -> Result<(), String> {
    let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let resources = &container["resources"];
            let said = |name: &str| match name.split_once('.') {
                Some((part, name)) => !resources[part][name].is_null(),
                None => !resources["requests"][name].is_null(),
            };
            for name in DEMANDED.into_iter().filter(|name| hard.contains_key(*name) && !said(name)) {
                missing.entry(name).or_default().insert(crate::crd::text(&container["name"]));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts = missing.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", texts.collect::<Vec<String>>().join("; ")))
}

/// The status of a quota after counting everything in its namespace.
pub(crate) fn count(server: &Server, quota: &Value, namespace: &str) -> Value {
    let hard = read_amounts(&quota["spec"]["hard"]);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    let registry = server.registry();
    for (resource, _) in server.store.count_in(namespace) {
        let Some(kind) = registry.by_storage(&resource) else { continue };
        let is_pod = kind.is("", "pods");
        for object in server.store.list(&resource, namespace).objects {
            let value = object.value();
            if is_pod && usage::is_over(&value) || !matches(quota, is_pod, &value) {
                continue;
            }
            for (name, amount) in usage(&kind.group, &kind.plural, &value) {
                if let Some(known) = used.get_mut(&name) {
                    *known = known.plus(&amount);
                }
            }
        }
    }
    json!({ "hard": write_amounts(&hard), "used": write_amounts(&used) })
}
