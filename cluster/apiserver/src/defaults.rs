//! What the server fills in for built-in kinds before anything else happens.
//!
//! Leaves out: what depends on other objects (`admission.rs`) and addresses (`allocate.rs`).

use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::schema::quantity::Quantity;

/// Counts the templates of a DaemonSet.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Sets a member that is absent or null.
fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object.is_object() && object[field].is_null() {
        object[field] = value.into();
    }
}

fn each(object: &mut Value, field: &str, act: impl FnMut(&mut Value)) {
    if let Some(items) = object.get_mut(field).and_then(Value::as_array_mut) {
        items.iter_mut().for_each(act);
    }
}

fn inner<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    object.get_mut(field).filter(|value| value.is_object())
}

/// Sets the defaults of a kind; whether it has any.
pub(crate) fn set_defaults(kind: &Kind, object: &mut Value) -> bool {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", plural) => return core(plural, object),
        ("apps", plural) => apps(plural, object),
        ("batch", "jobs") => {
            let labels = object["spec"]["template"]["metadata"]["labels"].clone();
            if object["metadata"]["labels"].is_null() && labels.as_object().is_some_and(|map| !map.is_empty())
            {
                object["metadata"]["labels"] = labels;
            }
            job_spec(&mut object["spec"]);
        }
        ("batch", "cronjobs") => {
            let spec = &mut object["spec"];
            set_text(spec, "concurrencyPolicy", "Allow");
            set(spec, "suspend", false);
            set(spec, "successfulJobsHistoryLimit", 3);
            set(spec, "failedJobsHistoryLimit", 1);
            if let Some(template) = inner(spec, "jobTemplate")
                && let Some(job) = inner(template, "spec")
            {
                // The defaults of Jobs come when the Job is made.
                self::template(job);
            }
        }
        ("networking.k8s.io", "networkpolicies") => {
            let spec = &mut object["spec"];
            let filled = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
            let egress = filled(&spec["egress"]);
            if !filled(&spec["policyTypes"]) {
                spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            }
            for direction in ["ingress", "egress"] {
                each(spec, direction, |rule| each(rule, "ports", |port| set(port, "protocol", "TCP")));
            }
        }
        ("networking.k8s.io", "ingressclasses") => {
            if let Some(parameters) = inner(&mut object["spec"], "parameters") {
                set(parameters, "scope", "Cluster");
            }
        }
        ("discovery.k8s.io", "endpointslices") => {
            each(object, "ports", |port| {
                set(port, "name", "");
                set(port, "protocol", "TCP");
            });
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            if let Some(role) = inner(object, "roleRef") {
                set_text(role, "apiGroup", "rbac.authorization.k8s.io");
            }
            each(object, "subjects", |subject| {
                let group = match subject["kind"].as_str() {
                    Some("User" | "Group") => "rbac.authorization.k8s.io",
                    _ => return,
                };
                set_text(subject, "apiGroup", group);
            });
        }
        ("storage.k8s.io", "storageclasses") => {
            set(object, "reclaimPolicy", "Delete");
            set(object, "volumeBindingMode", "Immediate");
        }
        ("storage.k8s.io", "csidrivers") => {
            let spec = &mut object["spec"];
            set(spec, "attachRequired", true);
            set(spec, "podInfoOnMount", false);
            set(spec, "storageCapacity", false);
            set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            set(spec, "volumeLifecycleModes", json!(["Persistent"]));
            set(spec, "requiresRepublish", false);
            set(spec, "seLinuxMount", false);
        }
        ("scheduling.k8s.io", "priorityclasses") => set(object, "preemptionPolicy", "PreemptLowerPriority"),
        ("apiextensions.k8s.io", "customresourcedefinitions") => crd(object),
        ("autoscaling", "horizontalpodautoscalers") if kind.version == "v1" => {
            set(&mut object["spec"], "minReplicas", 1);
        }
        ("autoscaling", "horizontalpodautoscalers") => autoscaler(&mut object["spec"]),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => {
            each(object, "webhooks", |hook| {
                webhook(hook);
                set(hook, "reinvocationPolicy", "Never");
            });
        }
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => {
            each(object, "webhooks", webhook)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies" | "mutatingadmissionpolicies") => {
            set(&mut object["spec"], "failurePolicy", "Fail");
            if let Some(constraints) = inner(&mut object["spec"], "matchConstraints") {
                set(constraints, "matchPolicy", "Equivalent");
                set(constraints, "namespaceSelector", json!({}));
                set(constraints, "objectSelector", json!({}));
                each(constraints, "resourceRules", |rule| set(rule, "scope", "*"));
            }
        }
        _ => return false,
    }
    true
}

fn core(plural: &str, object: &mut Value) -> bool {
    match plural {
        "pods" => {
            set(&mut object["spec"], "enableServiceLinks", true);
            pod_spec(&mut object["spec"]);
            pod_only(&mut object["spec"]);
        }
        "podtemplates" => {
            if let Some(template) = inner(object, "template")
                && let Some(spec) = inner(template, "spec")
            {
                pod_spec(spec);
            }
        }
        "replicationcontrollers" => {
            let labels = object["spec"]["template"]["metadata"]["labels"].clone();
            if labels.as_object().is_some_and(|map| !map.is_empty()) {
                set(&mut object["spec"], "selector", labels.clone());
                set(&mut object["metadata"], "labels", labels);
            }
            set(&mut object["spec"], "replicas", 1);
            template(&mut object["spec"]);
        }
        "services" => {
            service(&mut object["spec"]);
            if let Some(ingress) =
                object.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut)
            {
                for address in ingress.iter_mut().filter(|address| address["ip"].is_string()) {
                    set(address, "ipMode", "VIP");
                }
            }
        }
        "secrets" => {
            if let Some(text) = object.get_mut("stringData").map(Value::take)
                && let Some(text) = text.as_object()
                && !text.is_empty()
            {
                use base64::Engine;
                for (key, value) in text {
                    let value = value.as_str().unwrap_or_default();
                    object["data"][key] = base64::engine::general_purpose::STANDARD.encode(value).into();
                }
            }
            set(object, "type", "Opaque");
        }
        "persistentvolumeclaims" => claim(object),
        "persistentvolumes" => {
            set(&mut object["status"], "phase", "Pending");
            if object["status"].is_null() {
                object["status"] = json!({ "phase": "Pending" });
            }
            let spec = &mut object["spec"];
            set(spec, "persistentVolumeReclaimPolicy", "Retain");
            set(spec, "volumeMode", "Filesystem");
            if let Some(source) = inner(spec, "hostPath") {
                set(source, "type", "");
            }
        }
        "namespaces" => {
            if object["status"].is_null() {
                object["status"] = json!({});
            }
            set(&mut object["status"], "phase", "Active");
            let name = object["metadata"]["name"].clone();
            if name.as_str().is_some_and(|name| !name.is_empty()) {
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
        }
        "nodes" => {
            let capacity = object["status"]["capacity"].clone();
            if capacity.is_object() {
                set(&mut object["status"], "allocatable", capacity);
            }
        }
        "limitranges" => {
            each(&mut object["spec"], "limits", |limit| {
                if limit["type"] != "Container" {
                    return;
                }
                let (max, min) = (limit["max"].clone(), limit["min"].clone());
                for (name, value) in max.as_object().into_iter().flatten() {
                    set_in(limit, "default", name, value);
                }
                let default = limit["default"].clone();
                for (name, value) in default.as_object().into_iter().flatten() {
                    set_in(limit, "defaultRequest", name, value);
                }
                for (name, value) in min.as_object().into_iter().flatten() {
                    set_in(limit, "defaultRequest", name, value);
                }
            });
        }
        "endpoints" => {
            each(object, "subsets", |subset| each(subset, "ports", |port| set(port, "protocol", "TCP")))
        }
        _ => return false,
    }
    true
}

fn set_in(object: &mut Value, map: &str, field: &str, value: &Value) {
    if object[map].is_null() {
        object[map] = json!({});
    }
    set(&mut object[map], field, value.clone());
}

fn apps(plural: &str, object: &mut Value) {
    if plural == "daemonsets" && object["metadata"]["annotations"][TEMPLATE_GENERATION].is_null() {
        object["metadata"]["annotations"][TEMPLATE_GENERATION] = "1".into();
    }
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    match plural {
        "deployments" => {
            set(spec, "replicas", 1);
            let strategy = &mut spec["strategy"];
            if strategy.is_null() {
                *strategy = json!({});
            }
            set_text(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                set(strategy, "rollingUpdate", json!({}));
                let rolling = &mut strategy["rollingUpdate"];
                set(rolling, "maxUnavailable", "25%");
                set(rolling, "maxSurge", "25%");
            }
            set(spec, "revisionHistoryLimit", 10);
            set(spec, "progressDeadlineSeconds", 600);
        }
        "replicasets" => set(spec, "replicas", 1),
        "daemonsets" => {
            let strategy = &mut spec["updateStrategy"];
            if strategy.is_null() {
                *strategy = json!({});
            }
            set_text(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                set(strategy, "rollingUpdate", json!({}));
                let rolling = &mut strategy["rollingUpdate"];
                set(rolling, "maxUnavailable", 1);
                set(rolling, "maxSurge", 0);
            }
            set(spec, "revisionHistoryLimit", 10);
        }
        "statefulsets" => {
            set_text(spec, "podManagementPolicy", "OrderedReady");
            let strategy = &mut spec["updateStrategy"];
            if strategy.is_null() {
                *strategy = json!({});
            }
            set_text(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                set(strategy, "rollingUpdate", json!({}));
                set(&mut strategy["rollingUpdate"], "partition", 0);
            }
            set(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
            let retention = &mut spec["persistentVolumeClaimRetentionPolicy"];
            set_text(retention, "whenDeleted", "Retain");
            set_text(retention, "whenScaled", "Retain");
            set(spec, "replicas", 1);
            set(spec, "revisionHistoryLimit", 10);
            each(spec, "volumeClaimTemplates", |template| {
                claim(template);
                // Whatever was said.
                template["apiVersion"] = "v1".into();
                template["kind"] = "PersistentVolumeClaim".into();
            });
        }
        _ => return,
    }
    template(spec);
}

/// Sets a text that is absent or empty.
fn set_text(object: &mut Value, field: &str, value: &str) {
    if object[field].as_str().unwrap_or_default().is_empty() {
        object[field] = value.into();
    }
}

fn template(spec: &mut Value) {
    if let Some(template) = inner(spec, "template")
        && let Some(spec) = inner(template, "spec")
    {
        pod_spec(spec);
    }
}

fn claim(object: &mut Value) {
    if object["status"].is_null() {
        object["status"] = json!({});
    }
    set(&mut object["status"], "phase", "Pending");
    set(&mut object["spec"], "volumeMode", "Filesystem");
}

fn job_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = 1.into();
        spec["parallelism"] = 1.into();
    }
    set(spec, "parallelism", 1);
    let per_index = !spec["backoffLimitPerIndex"].is_null();
    set(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let failure_policy = spec["podFailurePolicy"].is_object();
    set(spec, "podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
    if failure_policy {
        each(&mut spec["podFailurePolicy"], "rules", |rule| {
            each(rule, "onPodConditions", |condition| set(condition, "status", "True"));
        });
    }
    template(spec);
}

fn service(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set_text(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        spec.as_object_mut().map(|spec| spec.remove("sessionAffinityConfig"));
    } else if spec["sessionAffinity"] == "ClientIP" {
        let config = &mut spec["sessionAffinityConfig"];
        if config["clientIP"]["timeoutSeconds"].is_null() {
            *config = json!({ "clientIP": { "timeoutSeconds": 10800 } });
        }
    }
    set_text(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        set_text(port, "protocol", "TCP");
        let target = &port["targetPort"];
        if target.is_null() || *target == 0 || *target == "" {
            port["targetPort"] = port["port"].clone();
        }
    });
    let ty = spec["type"].as_str().unwrap_or_default().to_owned();
    let outside = ty == "ClusterIP" && spec["externalIPs"].as_array().is_some_and(|list| !list.is_empty());
    if matches!(&*ty, "NodePort" | "LoadBalancer") || outside {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(&*ty, "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if ty == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Nothing is asked for in finer parts than thousandths.
fn round_to_milli(value: &mut Value) {
    let Some(quantity) = value.as_str().and_then(Quantity::parse) else { return };
    let (rounded, exact) = quantity.rounded_up(-3);
    if !exact {
        *value = rounded.canonical().into();
    }
}

/// Defaults of a Pod, but not of a Pod template.
fn pod_only(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            for part in ["limits", "requests"] {
                for (_, value) in container["resources"][part].as_object_mut().into_iter().flatten() {
                    round_to_milli(value);
                }
            }
            let limits = container["resources"]["limits"].clone();
            let Some(limits) = limits.as_object() else { return };
            for (name, value) in limits {
                set_in(&mut container["resources"], "requests", name, value);
            }
        });
    }
    let host_network = spec["hostNetwork"] == true;
    if host_network {
        host_ports(spec);
    }
}

fn host_ports(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            each(container, "ports", |port| {
                if port["hostPort"].as_i64().unwrap_or(0) == 0 {
                    port["hostPort"] = port["containerPort"].clone();
                }
            });
        });
    }
}

fn pod_spec(spec: &mut Value) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    if spec["hostNetwork"] == true {
        host_ports(spec);
    }
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    set_text(spec, "schedulerName", "default-scheduler");
    // Two names for one field.
    let account = spec["serviceAccountName"].clone();
    if account.as_str().is_some_and(|name| !name.is_empty()) {
        spec["serviceAccount"] = account;
    } else if spec["serviceAccount"].as_str().is_some_and(|name| !name.is_empty()) {
        spec["serviceAccountName"] = spec["serviceAccount"].clone();
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
    each(spec, "topologySpreadConstraints", |constraint| {
        set(constraint, "nodeAffinityPolicy", Value::Null);
    });
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let policy = if image_tag(image) == "latest" { "Always" } else { "IfNotPresent" };
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| set_text(port, "protocol", "TCP"));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = inner(container, probe) {
            for (field, value) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                if probe[field].as_i64().unwrap_or(0) == 0 {
                    probe[field] = value.into();
                }
            }
            handler(probe);
            if let Some(grpc) = inner(probe, "grpc") {
                set(grpc, "service", "");
            }
        }
    }
    if let Some(lifecycle) = inner(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = inner(lifecycle, hook) {
                handler(hook);
            }
        }
    }
    each(container, "env", |variable| {
        if let Some(source) = inner(variable, "valueFrom")
            && let Some(field) = inner(source, "fieldRef")
        {
            set_text(field, "apiVersion", "v1");
        }
        if let Some(source) = inner(variable, "valueFrom")
            && let Some(field) = inner(source, "resourceFieldRef")
        {
            set(field, "divisor", "0");
        }
    });
}

fn handler(handler: &mut Value) {
    if let Some(http) = inner(handler, "httpGet") {
        set_text(http, "path", "/");
        set_text(http, "scheme", "HTTP");
    }
}

/// The tag of an image: `latest` when there is neither tag nor digest.
fn image_tag(image: &str) -> &str {
    if !is_reference(image) {
        // What is no reference has no tag.
        return "";
    }
    if let Some((before, _)) = image.split_once('@') {
        let last = before.rsplit('/').next().unwrap_or_default();
        return last.split_once(':').map(|(_, tag)| tag).unwrap_or_default();
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map(|(_, tag)| tag).unwrap_or("latest")
}

/// Whether a text can name an image: `[domain[:port]/]path[:tag][@digest]`.
fn is_reference(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let tag_fine = tag.is_none_or(|tag| {
        (1..=128).contains(&tag.len())
            && word(tag.as_bytes()[0])
            && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
    });
    let digest_fine = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    let (domain, rest) = match path.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first =>
        {
            (Some(first), rest)
        }
        _ => (None, path),
    };
    let domain_fine = domain.is_none_or(|domain| {
        let host = domain.split_once(':').map_or(domain, |(host, _)| host);
        host.split('.').all(|part| {
            part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
    });
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let parts_fine = rest.split('/').all(|part| {
        let ends = part.bytes().next().is_some_and(lower) && part.bytes().last().is_some_and(lower);
        ends && part.bytes().all(|b| lower(b) || b"._-".contains(&b))
            && !part.contains("..")
            && !part.contains("___")
    });
    let id = domain.is_none() && rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    tag_fine && digest_fine && domain_fine && parts_fine && !id
}

fn volume(volume: &mut Value) {
    const SOURCES_WITH_MODE: &[&str] = &["secret", "configMap", "downwardAPI", "projected"];
    let sources = volume.as_object().map(|map| map.keys().filter(|key| *key != "name").count()).unwrap_or(0);
    if sources == 0 {
        set(volume, "emptyDir", json!({}));
    }
    for source in SOURCES_WITH_MODE {
        if let Some(source) = inner(volume, source) {
            set(source, "defaultMode", 420);
        }
    }
    if let Some(source) = inner(volume, "downwardAPI") {
        each(source, "items", downward);
    }
    if let Some(source) = inner(volume, "projected") {
        each(source, "sources", |source| {
            if let Some(token) = inner(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(api) = inner(source, "downwardAPI") {
                each(api, "items", downward);
            }
        });
    }
    if let Some(source) = inner(volume, "hostPath") {
        set(source, "type", "");
    }
    if let Some(source) = inner(volume, "iscsi") {
        set_text(source, "iscsiInterface", "default");
    }
    if let Some(source) = inner(volume, "rbd") {
        set_text(source, "pool", "rbd");
        set_text(source, "user", "admin");
        set_text(source, "keyring", "/etc/ceph/keyring");
    }
    if let Some(source) = inner(volume, "azureDisk") {
        set(source, "cachingMode", "ReadWrite");
        set(source, "kind", "Shared");
        set(source, "fsType", "ext4");
        set(source, "readOnly", false);
    }
    if let Some(source) = inner(volume, "scaleIO") {
        set_text(source, "storageMode", "ThinProvisioned");
        set_text(source, "fsType", "xfs");
    }
    if let Some(source) = inner(volume, "image") {
        let reference = source["reference"].as_str().unwrap_or_default();
        let policy = if image_tag(reference) == "latest" { "Always" } else { "IfNotPresent" };
        set_text(source, "pullPolicy", policy);
    }
    if let Some(source) = inner(volume, "ephemeral")
        && let Some(template) = inner(source, "volumeClaimTemplate")
    {
        set(&mut template["spec"], "volumeMode", "Filesystem");
    }
}

fn downward(item: &mut Value) {
    if let Some(field) = inner(item, "fieldRef") {
        set_text(field, "apiVersion", "v1");
    }
    if let Some(field) = inner(item, "resourceFieldRef") {
        set(field, "divisor", "0");
    }
}

fn crd(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "conversion", json!({ "strategy": "None" }));
    let names = &mut spec["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    if !kind.is_empty() {
        set_text(names, "singular", &kind.to_lowercase());
        set_text(names, "listKind", &format!("{kind}List"));
    }
    let version =
        spec["versions"].as_array().into_iter().flatten().find(|version| version["storage"] == true);
    let version = version.map(|version| version["name"].clone());
    let known = object["status"]["storedVersions"].as_array().is_some_and(|stored| !stored.is_empty());
    if let (Some(version), false) = (version, known) {
        object["status"]["storedVersions"] = json!([version]);
    }
    if let Some(hook) = object.pointer_mut("/spec/conversion/webhook/clientConfig/service") {
        set(hook, "port", 443);
    }
}

fn autoscaler(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set(spec, "minReplicas", 1);
    if spec["metrics"].as_array().is_none_or(Vec::is_empty) {
        spec["metrics"] = json!([{
            "type": "Resource",
            "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } },
        }]);
    }
    if let Some(behavior) = inner(spec, "behavior") {
        if let Some(up) = inner(behavior, "scaleUp") {
            set(up, "stabilizationWindowSeconds", 0);
            set(up, "selectPolicy", "Max");
            set(
                up,
                "policies",
                json!([
                    { "type": "Pods", "value": 4, "periodSeconds": 15 },
                    { "type": "Percent", "value": 100, "periodSeconds": 15 },
                ]),
            );
        } else {
            behavior["scaleUp"] = json!({
                "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                "policies": [
                    { "type": "Pods", "value": 4, "periodSeconds": 15 },
                    { "type": "Percent", "value": 100, "periodSeconds": 15 },
                ],
            });
        }
        if inner(behavior, "scaleDown").is_none() {
            behavior["scaleDown"] = json!({});
        }
        let down = &mut behavior["scaleDown"];
        set(down, "selectPolicy", "Max");
        set(down, "policies", json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]));
    }
}

fn webhook(hook: &mut Value) {
    set(hook, "failurePolicy", "Fail");
    set(hook, "matchPolicy", "Equivalent");
    set(hook, "namespaceSelector", json!({}));
    set(hook, "objectSelector", json!({}));
    set(hook, "timeoutSeconds", 10);
    each(hook, "rules", |rule| set(rule, "scope", "*"));
    if let Some(config) = inner(hook, "clientConfig")
        && let Some(service) = inner(config, "service")
    {
        set(service, "port", 443);
    }
}
