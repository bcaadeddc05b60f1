//! What the level `restricted` adds, in upstream's order.

use serde_json::Value;

use super::{Finding, baseline, containers, join, name, named, of, setters};

/// Volume types that are allowed.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn check(spec: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |reason: &'static str, detail: Option<String>| {
        found.extend(detail.map(|detail| Finding { reason, detail }));
    };
    // These mean nothing on Windows.
    let linux = spec["os"]["name"] != "windows";
    if linux {
        let escalates =
            named(spec, |container| container["securityContext"]["allowPrivilegeEscalation"] != false);
        add("allowPrivilegeEscalation != false", {
            let text = "must set securityContext.allowPrivilegeEscalation=false";
            (!escalates.is_empty()).then(|| format!("{} {text}", of(&escalates)))
        });
        add("unrestricted capabilities", capabilities(spec));
    }
    add("restricted volume types", volumes(spec));
    add("runAsNonRoot != true", run_as_non_root(spec));
    let root = |holder: &Value| holder["securityContext"]["runAsUser"] == 0;
    let who = setters(root(spec), &named(spec, root));
    add("runAsUser=0", who.map(|who| format!("{who} must not set runAsUser=0")));
    if linux {
        add("seccompProfile", seccomp(spec));
    }
    found
}

fn capabilities(spec: &Value) -> Option<String> {
    let list = |container: &Value, field: &str| -> Vec<String> {
        let list = container["securityContext"]["capabilities"][field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let keeps = named(spec, |container| !list(container, "drop").iter().any(|name| name == "ALL"));
    let more = |container: &Value| -> Vec<String> {
        list(container, "add").into_iter().filter(|name| name != "NET_BIND_SERVICE").collect()
    };
    let adds = named(spec, |container| !more(container).is_empty());
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", of(&keeps)));
    }
    if !adds.is_empty() {
        let mut added: Vec<String> = containers(spec).flat_map(more).collect();
        added.sort();
        added.dedup();
        let who = of(&adds);
        details.push(format!("{who} must not include {} in securityContext.capabilities.add", join(&added)));
    }
    (!details.is_empty()).then(|| details.join("; "))
}

fn volumes(spec: &Value) -> Option<String> {
    let mut names = Vec::new();
    let mut types: Vec<String> = Vec::new();
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let source = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let mut wrong = source.filter(|key| *key != "name" && !VOLUMES.contains(key));
        if let Some(ty) = wrong.next() {
            names.push(name(volume));
            types.push(ty.to_owned());
        }
    }
    types.sort();
    types.dedup();
    let plural = |many: usize| if many == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| {
        format!(
            "volume{} {} {} restricted volume type{} {}",
            plural(names.len()),
            join(&names),
            if names.len() == 1 { "uses" } else { "use" },
            plural(types.len()),
            join(&types)
        )
    })
}

fn run_as_non_root(spec: &Value) -> Option<String> {
    let said = |holder: &Value| holder["securityContext"]["runAsNonRoot"].as_bool();
    let explicit = named(spec, |container| said(container) == Some(false));
    if let Some(who) = setters(said(spec) == Some(false), &explicit) {
        return Some(format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = named(spec, |container| said(container).is_none());
    (!silent.is_empty() && said(spec) != Some(true))
        .then(|| format!("pod or {} must set securityContext.runAsNonRoot=true", of(&silent)))
}

fn seccomp(spec: &Value) -> Option<String> {
    if let Some(detail) = baseline::unconfined(spec) {
        return Some(detail);
    }
    let set = |holder: &Value| holder["securityContext"]["seccompProfile"]["type"].is_string();
    let silent = named(spec, |container| !set(container));
    (!silent.is_empty() && !set(spec)).then(|| {
        let text = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        format!("pod or {} {text}", of(&silent))
    })
}
