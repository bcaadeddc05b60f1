//! Where a Pod may run: tolerations, affinity, spread.

use std::collections::HashSet;

use super::super::selector::label_selector;
use crate::names;
use crate::status::Cause;
use crate::validate::at::At;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(in crate::validate) fn tolerations(list: &At<'_>, causes: &mut Vec<Cause>) {
    for toleration in list.elements() {
        let (operator, value) = (toleration.get("operator"), toleration.get("value"));
        if !toleration.text("key").is_empty() {
            toleration.get("key").qualified(causes);
        } else if operator.own_text() != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.all([detail.to_owned()], causes);
        }
        let effect = toleration.get("effect");
        if toleration.has("tolerationSeconds") && effect.own_text() != "NoExecute" {
            effect.all(["effect must be 'NoExecute' when `tolerationSeconds` is set".to_owned()], causes);
        }
        let text = value.own_text();
        match operator.own_text() {
            "" | "Equal" => {
                if let Some(detail) = names::label_value(text) {
                    operator.invalid_as(text, &detail, causes);
                }
            }
            "Exists" if !text.is_empty() => {
                operator.invalid_as(text, "value must be empty when `operator` is 'Exists'", causes);
            }
            "Exists" => {}
            // `Lt` and `Gt` are of a feature that is off.
            "Lt" | "Gt" => operator.unsupported(&["Equal", "Exists", "Lt", "Gt"], causes),
            _ => operator.unsupported(&["Equal", "Exists"], causes),
        }
        if !effect.own_text().is_empty() {
            effect.one_of(EFFECTS, causes);
        }
    }
}

pub(super) fn affinity(affinity: &At<'_>, causes: &mut Vec<Cause>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = affinity.get("nodeAffinity");
    if node.has(REQUIRED) {
        let terms = node.get(REQUIRED).get("nodeSelectorTerms");
        if terms.elements().is_empty() {
            terms.required("must have at least one node selector term", causes);
        }
        for term in terms.elements() {
            node_term(&term, true, causes);
        }
    }
    for term in node.items(PREFERRED) {
        weight(&term, causes);
        node_term(&term.get("preference"), false, causes);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let rules = affinity.get(kind);
        for term in rules.items(REQUIRED) {
            pod_term(&term, causes);
        }
        for term in rules.items(PREFERRED) {
            weight(&term, causes);
            pod_term(&term.get("podAffinityTerm"), causes);
        }
    }
}

fn weight(term: &At<'_>, causes: &mut Vec<Cause>) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        term.get("weight").invalid_as(weight, "must be in the range 1-100", causes);
    }
}

fn node_term(term: &At<'_>, check_values: bool, causes: &mut Vec<Cause>) {
    const NO_OPERATOR: &str = "not a valid selector operator";
    for requirement in term.items("matchExpressions") {
        let values = requirement.get("values");
        let count = values.elements().len();
        match requirement.text("operator") {
            "In" | "NotIn" if count == 0 => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'", causes);
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                values
                    .forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", causes);
            }
            "Gt" | "Lt" if count != 1 => {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'", causes);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => requirement.get("operator").all([NO_OPERATOR.to_owned()], causes),
        }
        requirement.get("key").qualified(causes);
        for value in values.elements().iter().filter(|_| check_values) {
            value.all(names::label_value(value.own_text()), causes);
        }
    }
    for requirement in term.items("matchFields") {
        let values = requirement.get("values");
        match requirement.text("operator") {
            "In" | "NotIn" => {
                if values.elements().len() != 1 {
                    let detail =
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                    values.required(detail, causes);
                }
            }
            _ => requirement.get("operator").all([NO_OPERATOR.to_owned()], causes),
        }
        if requirement.text("key") == "metadata.name" {
            for value in values.elements() {
                value.subdomain(causes);
            }
        } else {
            requirement.get("key").all(["not a valid field selector key".to_owned()], causes);
        }
    }
}

fn pod_term(term: &At<'_>, causes: &mut Vec<Cause>) {
    label_selector(&term.get("labelSelector"), causes);
    label_selector(&term.get("namespaceSelector"), causes);
    for name in term.items("namespaces") {
        name.moved(&term.get("namespace").path).label(causes);
    }
    label_keys(term, &["matchLabelKeys", "mismatchLabelKeys"], causes);
    let key = term.get("topologyKey");
    if key.own_text().is_empty() {
        key.required("can not be empty", causes);
    }
    key.qualified(causes);
}

/// `matchLabelKeys` and its opposite.
fn label_keys(holder: &At<'_>, fields: &[&str], causes: &mut Vec<Cause>) {
    let selector = holder.get("labelSelector");
    for field in fields {
        let keys = holder.get(field);
        if keys.elements().is_empty() {
            continue;
        }
        if !selector.is_set() {
            keys.forbidden("must not be specified when labelSelector is not set", causes);
            continue;
        }
        for key in keys.elements() {
            key.qualified(causes);
        }
    }
    let matching = holder.items("matchLabelKeys");
    if selector.is_set() {
        let entries = selector.get("matchLabels").entries();
        let mut seen: HashSet<&str> = entries.iter().map(|(key, _)| *key).collect();
        for expression in selector.items("matchExpressions") {
            let key = expression.text("key");
            let found = matching.iter().rposition(|found| found.own_text() == key);
            if let Some(at) = found.filter(|_| seen.contains(key)) {
                let path = format!("{}[{at}]", holder.path);
                let detail = "exists in both matchLabelKeys and labelSelector";
                causes.push(Cause::invalid(path, &key.into(), detail));
            }
            seen.insert(key);
        }
    }
    let opposite = holder.items("mismatchLabelKeys");
    for key in matching {
        if fields.len() > 1 && opposite.iter().any(|other| other.own_text() == key.own_text()) {
            key.invalid("exists in both matchLabelKeys and mismatchLabelKeys", causes);
        }
    }
}

pub(super) fn spread(list: &At<'_>, causes: &mut Vec<Cause>) {
    let constraints = list.elements();
    for (at, constraint) in constraints.iter().enumerate() {
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        let positive = |field: &str, causes: &mut Vec<Cause>| {
            let number = constraint.int(field).unwrap_or(0);
            if number <= 0 {
                constraint.get(field).invalid_as(number, "must be greater than zero", causes);
            }
        };
        positive("maxSkew", causes);
        if key.is_empty() {
            constraint.get("topologyKey").required("can not be empty", causes);
        }
        constraint.get("whenUnsatisfiable").one_of(&["DoNotSchedule", "ScheduleAnyway"], causes);
        let again =
            |other: &At<'_>| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action;
        if constraints[at + 1..].iter().any(again) {
            let path = constraint.get("{topologyKey, whenUnsatisfiable}").path;
            causes.push(Cause::duplicate(path, &format!("{{{key}, {action}}}").into()));
        }
        let domains = constraint.get("minDomains");
        if domains.is_set() {
            positive("minDomains", causes);
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                domains.invalid(&detail, causes);
            }
        }
        constraint.get("nodeAffinityPolicy").one_of_if_set(&["Honor", "Ignore"], causes);
        constraint.get("nodeTaintsPolicy").one_of_if_set(&["Honor", "Ignore"], causes);
        label_keys(constraint, &["matchLabelKeys"], causes);
        label_selector(&constraint.get("labelSelector"), causes);
    }
}
