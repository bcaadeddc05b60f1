//! What a cluster adds to Pods and Nodes: priority, tolerations, the taint of a new Node.

use serde_json::{Value, json};

use crate::status::ApiError;
use crate::store::Key;
use crate::write::Request;

/// Pods tolerate a node that is not ready for five minutes, also after a change.
pub(crate) fn tolerations(spec: &mut Value) {
    let mut list = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|toleration| {
            let key = toleration["key"].as_str().unwrap_or_default();
            let effect = toleration["effect"].as_str().unwrap_or_default();
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !tolerated {
            list.push(json!({ "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
        }
    }
    spec["tolerations"] = list.into();
}

/// A new node is not ready. Where the tasks of this crate run there is one node, which judges itself and whose taint
/// nobody would take away, so it gets none.
pub(super) fn taint_new_node(request: &Request<'_>, node: &mut Value) {
    const TAINT: &str = "node.kubernetes.io/not-ready";
    if request.server.config.controllers {
        return;
    }
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if !taints.iter().any(|taint| taint["key"] == TAINT && taint["effect"] == "NoSchedule") {
        taints.push(json!({ "key": TAINT, "effect": "NoSchedule" }));
        node["spec"]["taints"] = taints.into();
    }
}

/// Name, value and policy of the class that Pods without one get.
fn default_class(request: &Request<'_>) -> (String, i64, String) {
    let resource = "scheduling.k8s.io/priorityclasses".into();
    let classes = request.server.store.list(&resource, "").objects;
    let classes = classes.iter().map(|class| (class.name.to_string(), class.value()));
    let global = classes.filter(|(_, class)| class["globalDefault"] == true);
    // Of several the smallest, as upstream.
    let chosen = global.min_by_key(|(_, class)| class["value"].as_i64().unwrap_or(0));
    match chosen {
        Some((name, class)) => (name, class["value"].as_i64().unwrap_or(0), policy(&class)),
        None => (String::new(), 0, policy(&Value::Null)),
    }
}

fn policy(class: &Value) -> String {
    class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority").to_owned()
}

/// Looks up the priority of a new Pod.
pub(super) fn priority(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let forbidden =
        |pod: &Value, text: &str| Err(ApiError::forbidden("pods", "", &crate::write::name_of(pod), text));
    let name = pod["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let (name, value, policy) = match name.as_str() {
        "" => default_class(request),
        _ => {
            let resource = "scheduling.k8s.io/priorityclasses".into();
            let Some(class) = request.server.store.get_head(&Key::new(&resource, "", &name)) else {
                return forbidden(pod, &format!("no PriorityClass with name {name} was found"));
            };
            let class = class.value();
            (name, class["value"].as_i64().unwrap_or(0), policy(&class))
        }
    };
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|given| *given != value) {
        let text = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return forbidden(pod, &text);
    }
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        let text = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return forbidden(pod, &text);
    }
    let spec = &mut pod["spec"];
    if !name.is_empty() {
        spec["priorityClassName"] = name.into();
    }
    spec["priority"] = value.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}
