//! HorizontalPodAutoscalers.

use serde_json::Value;

use super::at::At;
use super::pod;
use crate::names;
use crate::status::Cause;

const STABILIZATION_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;
const METRICS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// Members of a metric and the type that goes with each, in the order in which they are looked at.
const SOURCES: &[(&str, &str)] = &[
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

/// A new or changed autoscaler. Zero replicas are a feature; an object that has them keeps them.
pub(super) fn autoscaler(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let (least, most) = (min.value.as_i64(), max.value.as_i64().unwrap_or(0));
    if least.is_some_and(|least| least < 1) {
        min.invalid("must be greater than or equal to 1", causes);
    }
    match most {
        0 => max.required("must be set and greater than 0", causes),
        ..0 => max.invalid("must be greater than or equal to 1", causes),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        max.invalid_as(most, "must be greater than or equal to `minReplicas`", causes);
    }
    reference(&spec.get("scaleTargetRef"), false, causes);
    let metrics = spec.get("metrics");
    for metric in metrics.elements() {
        self::metric(&metric, causes);
    }
    let outside = |metric: &At<'_>| matches!(metric.text("type"), "Object" | "External");
    if least == Some(0) && !metrics.elements().iter().any(outside) {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        metrics.forbidden(detail, causes);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.get("behavior").get(direction);
        if rules.is_set() {
            scaling_rules(&rules, causes);
        }
    }
}

fn reference(target: &At<'_>, core: bool, causes: &mut Vec<Cause>) {
    for field in ["kind", "name"] {
        match target.text(field) {
            "" => target.get(field).required("", causes),
            text => target.get(field).all(names::path_segment(text), causes),
        }
    }
    let version = target.get("apiVersion");
    match version.own_text().split('/').count() {
        1 if !core => version.all(["apiVersion must specify API group".to_owned()], causes),
        1 | 2 => {}
        _ => version.invalid(&format!("unexpected GroupVersion string: {}", version.own_text()), causes),
    }
}

fn scaling_rules(rules: &At<'_>, causes: &mut Vec<Cause>) {
    let window = rules.get("stabilizationWindowSeconds");
    match window.value.as_i64() {
        Some(..0) => window.invalid("must be greater than or equal to zero", causes),
        Some(seconds) if seconds > STABILIZATION_SECONDS_MAX => {
            window.invalid(&format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}"), causes);
        }
        _ => {}
    }
    rules.get("selectPolicy").one_of_if_set(&["Disabled", "Max", "Min"], causes);
    let policies = rules.get("policies");
    if policies.elements().is_empty() {
        policies.required("must specify at least one Policy", causes);
    }
    for policy in policies.elements() {
        policy.get("type").one_of(&["Percent", "Pods"], causes);
        for field in ["value", "periodSeconds"] {
            let number = policy.int(field).unwrap_or(0);
            if number <= 0 {
                policy.get(field).invalid_as(number, "must be greater than zero", causes);
            }
            if field == "periodSeconds" && number > PERIOD_SECONDS_MAX {
                let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
                policy.get(field).invalid(&detail, causes);
            }
        }
    }
    if rules.text("tolerance").starts_with('-') {
        rules.get("tolerance").invalid("must be greater than or equal to 0", causes);
    }
}

fn metric(metric: &At<'_>, causes: &mut Vec<Cause>) {
    let ty = metric.get("type");
    if ty.own_text().is_empty() {
        ty.required("must specify a metric source type", causes);
    }
    ty.one_of(METRICS, causes);
    let present: Vec<&str> =
        SOURCES.iter().map(|(field, _)| *field).filter(|field| metric.has(field)).collect();
    if let Some(first) = present.first() {
        source(first, &metric.get(first), causes);
    }
    let expected = SOURCES.iter().find(|(_, name)| *name == ty.own_text()).map(|(field, _)| *field);
    match expected {
        Some(field) if !metric.has(field) => {
            metric.get(field).required("must populate information for the given metric source", causes);
        }
        Some(_) => {}
        // Said again where the member of that name is looked for.
        None => ty.one_of(METRICS, causes),
    }
    if present.len() != 1 {
        for field in present.iter().filter(|field| Some(**field) != expected) {
            metric.get(field).forbidden("must populate the given metric source only", causes);
        }
    }
}

fn source(kind: &str, source: &At<'_>, causes: &mut Vec<Cause>) {
    let target = source.get("target");
    match kind {
        "object" | "external" | "pods" => {
            if kind == "object" {
                reference(&source.get("describedObject"), true, causes);
            }
            let name = source.get("metric").get("name");
            match name.own_text() {
                "" => name.required("must specify a metric name", causes),
                text => name.all(names::path_segment(text), causes),
            }
        }
        "containerResource" => {
            let (name, container) = (source.get("name"), source.get("container"));
            match name.own_text() {
                "" => name.required("must specify a resource name", causes),
                text => pod::resources::container_resource_name(&name, text, causes),
            }
            match container.own_text() {
                "" => container.required("must specify a container", causes),
                _ => container.label(causes),
            }
        }
        _ => {
            if source.text("name").is_empty() {
                source.get("name").required("must specify a resource name", causes);
            }
        }
    }
    metric_target(&target, causes);
    let (value, average) = (target.has("value"), target.has("averageValue"));
    let needed = |detail: &str, causes: &mut Vec<Cause>| target.get("averageValue").required(detail, causes);
    match kind {
        "object" if !value && !average => needed("must set either a target value or averageValue", causes),
        "external" if !value && !average => {
            needed("must set either a target value for metric or a per-pod target", causes);
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            target.get("value").forbidden(detail, causes);
        }
        "pods" if !average => needed("must specify a positive target averageValue", causes),
        "resource" | "containerResource" => match (target.has("averageUtilization"), average) {
            (false, false) => {
                let detail = "must set either a target raw value or a target utilization";
                target.get("averageUtilization").required(detail, causes);
            }
            (true, true) => {
                let detail = "may not set both a target raw value and a target utilization";
                target.get("averageValue").forbidden(detail, causes);
            }
            _ => {}
        },
        _ => {}
    }
}

fn metric_target(target: &At<'_>, causes: &mut Vec<Cause>) {
    let ty = target.get("type");
    if ty.own_text().is_empty() {
        ty.required("must specify a metric target type", causes);
    }
    if !matches!(ty.own_text(), "Utilization" | "Value" | "AverageValue") {
        ty.all(["must be either Utilization, Value, or AverageValue".to_owned()], causes);
    }
    for field in ["value", "averageValue"] {
        let amount = target.get(field);
        if amount.is_set() && !pod::is_positive(amount.own_text()) {
            amount.invalid("must be positive", causes);
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.value.as_i64().is_some_and(|percent| percent < 1) {
        utilization.invalid("must be greater than 0", causes);
    }
}
