//! HorizontalPodAutoscalers: v2 is stored; in v1 everything but the CPU target travels in annotations, as upstream.

use serde_json::{Value, json};

const PREFIX: &str = "autoscaling.alpha.kubernetes.io/";

/// From v2 to v1.
pub(super) fn to_v1(object: &mut Value) {
    let spec = &mut object["spec"];
    let (cpu, others) = split(spec["metrics"].take(), "target");
    let behavior = spec["behavior"].take();
    remove(spec, &["metrics", "behavior"]);
    if !cpu.is_null() {
        spec["targetCPUUtilizationPercentage"] = cpu;
    }
    let status = &mut object["status"];
    let (mut current, mut conditions) = (Vec::new(), Value::Null);
    if status.is_object() {
        let (cpu, others) = split(status["currentMetrics"].take(), "current");
        conditions = status["conditions"].take();
        current = others;
        remove(status, &["currentMetrics", "conditions"]);
        if !cpu.is_null() {
            status["currentCPUUtilizationPercentage"] = cpu;
        }
    }
    let notes = [
        ("metrics", Value::from(others)),
        ("behavior", behavior),
        ("current-metrics", Value::from(current)),
        ("conditions", conditions),
    ];
    for (name, value) in notes {
        if !value.is_null() && value != json!([]) {
            object["metadata"]["annotations"][format!("{PREFIX}{name}")] = value.to_string().into();
        }
    }
}

/// From v1 to v2.
pub(super) fn to_v2(object: &mut Value) {
    let mut note = |name: &str| -> Value {
        let annotations = object["metadata"]["annotations"].as_object_mut();
        let text = annotations.and_then(|map| map.remove(&format!("{PREFIX}{name}")));
        // What cannot be read is dropped, as upstream.
        text.as_ref()
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    };
    let [metrics, behavior, current, conditions] =
        ["metrics", "behavior", "current-metrics", "conditions"].map(&mut note);
    let spec = &mut object["spec"];
    let cpu = spec["targetCPUUtilizationPercentage"].take();
    remove(spec, &["targetCPUUtilizationPercentage"]);
    let metrics = join(cpu, &metrics, "target");
    if !metrics.is_empty() {
        spec["metrics"] = metrics.into();
    }
    if behavior.is_object() {
        spec["behavior"] = behavior;
    }
    let status = &mut object["status"];
    if status.is_object() {
        let cpu = status["currentCPUUtilizationPercentage"].take();
        remove(status, &["currentCPUUtilizationPercentage"]);
        let current = join(cpu, &current, "current");
        if !current.is_empty() {
            status["currentMetrics"] = current.into();
        }
        if conditions.is_array() {
            status["conditions"] = conditions;
        }
    }
}

fn remove(object: &mut Value, fields: &[&str]) {
    for field in fields {
        object.as_object_mut().map(|map| map.remove(*field));
    }
}

/// The CPU target (or its current value) by itself, and the other metrics in v1's form.
fn split(metrics: Value, part: &str) -> (Value, Vec<Value>) {
    let mut cpu = Value::Null;
    let mut others = Vec::new();
    for metric in metrics.as_array().into_iter().flatten() {
        let utilization = &metric["resource"][part]["averageUtilization"];
        if cpu.is_null() && metric["resource"]["name"] == "cpu" && !utilization.is_null() {
            cpu = utilization.clone();
        } else {
            others.push(metric_to_v1(metric, part));
        }
    }
    (cpu, others)
}

fn join(cpu: Value, others: &Value, part: &str) -> Vec<Value> {
    let mut metrics = Vec::new();
    if !cpu.is_null() {
        let mut amount = json!({ "averageUtilization": cpu });
        if part == "target" {
            amount["type"] = "Utilization".into();
        }
        metrics.push(json!({ "type": "Resource", "resource": { "name": "cpu", part: amount } }));
    }
    metrics.extend(others.as_array().into_iter().flatten().map(|metric| metric_to_v2(metric, part)));
    metrics
}

/// The member of a metric that goes with its type.
fn member(metric: &Value) -> &'static str {
    match metric["type"].as_str() {
        Some("ContainerResource") => "containerResource",
        Some("External") => "external",
        Some("Object") => "object",
        Some("Pods") => "pods",
        _ => "resource",
    }
}

/// Names of value, average value and utilization in v1.
fn amount_names(member: &str, part: &str) -> [(&'static str, String); 3] {
    let average = match member {
        "object" => "averageValue".to_owned(),
        _ => format!("{part}AverageValue"),
    };
    [
        ("value", format!("{part}Value")),
        ("averageValue", average),
        ("averageUtilization", format!("{part}AverageUtilization")),
    ]
}

fn metric_to_v1(metric: &Value, part: &str) -> Value {
    let member = member(metric);
    let from = &metric[member];
    let mut to = json!({});
    let selector = if member == "external" { "metricSelector" } else { "selector" };
    let moved = [
        ("name", &from["name"]),
        ("container", &from["container"]),
        ("target", &from["describedObject"]),
        ("metricName", &from["metric"]["name"]),
        (selector, &from["metric"]["selector"]),
    ];
    for (name, value) in moved {
        if !value.is_null() {
            to[name] = value.clone();
        }
    }
    for (new, old) in amount_names(member, part) {
        if !from[part][new].is_null() {
            to[old] = from[part][new].clone();
        }
    }
    json!({ "type": metric["type"], member: to })
}

fn metric_to_v2(metric: &Value, part: &str) -> Value {
    let member = member(metric);
    let from = &metric[member];
    let mut to = json!({});
    let selector = if member == "external" { "metricSelector" } else { "selector" };
    for (path, value) in [("name", &from["name"]), ("container", &from["container"])] {
        if !value.is_null() {
            to[path] = value.clone();
        }
    }
    if !matches!(member, "resource" | "containerResource") {
        to["metric"] = json!({ "name": from["metricName"] });
        if !from[selector].is_null() {
            to["metric"]["selector"] = from[selector].clone();
        }
    }
    if member == "object" {
        to["describedObject"] = from["target"].clone();
    }
    let mut amount = json!({});
    for ((new, old), ty) in
        amount_names(member, part).into_iter().zip(["Value", "AverageValue", "Utilization"])
    {
        let value = &from[old.as_str()];
        // An object's value may be 0 where its average is meant.
        let zero = new == "value" && value == "0" && !from["averageValue"].is_null();
        if !value.is_null() && !zero {
            amount[new] = value.clone();
            if part == "target" {
                amount["type"] = ty.into();
            }
        }
    }
    to[part] = amount;
    json!({ "type": metric["type"], member: to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_comes_back_from_v1_as_it_was() {
        let target = |ty: &str, field: &str, value: Value| json!({ "type": ty, field: value });
        let v2 = json!({
            "metadata": { "annotations": { "a": "b" } },
            "spec": {
                "maxReplicas": 3, "behavior": { "scaleDown": { "selectPolicy": "Max" } },
                "metrics": [
                    { "type": "Resource", "resource": { "name": "cpu", "target": target("Utilization", "averageUtilization", 70.into()) } },
                    { "type": "Resource", "resource": { "name": "memory", "target": target("AverageValue", "averageValue", "1Gi".into()) } },
                    { "type": "ContainerResource", "containerResource": { "name": "cpu", "container": "c", "target": target("Utilization", "averageUtilization", 5.into()) } },
                    { "type": "Pods", "pods": { "metric": { "name": "m" }, "target": target("AverageValue", "averageValue", "5".into()) } },
                    { "type": "Object", "object": {
                        "describedObject": { "kind": "Ingress", "name": "i" },
                        "metric": { "name": "m", "selector": { "matchLabels": { "x": "y" } } },
                        "target": target("AverageValue", "averageValue", "7".into()),
                    } },
                    { "type": "External", "external": { "metric": { "name": "q", "selector": {} }, "target": target("Value", "value", "30".into()) } },
                ],
            },
            "status": {
                "conditions": [{ "type": "AbleToScale", "status": "True" }],
                "currentMetrics": [
                    { "type": "Resource", "resource": { "name": "cpu", "current": { "averageUtilization": 60 } } },
                    { "type": "Pods", "pods": { "metric": { "name": "m" }, "current": { "averageValue": "4" } } },
                ],
            },
        });
        let mut object = v2.clone();
        to_v1(&mut object);
        assert_eq!(object["spec"], json!({ "maxReplicas": 3, "targetCPUUtilizationPercentage": 70 }));
        assert_eq!(object["status"], json!({ "currentCPUUtilizationPercentage": 60 }));
        to_v2(&mut object);
        assert_eq!(object, v2);
    }
}
