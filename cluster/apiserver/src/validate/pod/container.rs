//! Containers of a Pod: ports, environment, mounts, and what only some kinds of containers may have.

use std::collections::HashSet;

use serde_json::Value;

use super::{PodContext, handler, resources, security};
use crate::names;
use crate::names::text::port_name;
use crate::status::Cause;
use crate::validate::at::At;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const NOT_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Checks all containers of a Pod spec.
pub(super) fn containers(spec: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    let regular = spec.items("containers");
    if regular.is_empty() {
        spec.get("containers").required("", causes);
    }
    let mut seen = HashSet::new();
    for container in &regular {
        common(container, pod, causes);
        unique_name(container, &mut seen, causes);
        lifecycle_and_probes(container, pod, causes);
        restart_policy(container, causes);
    }
    host_ports(&regular, &mut HashSet::new(), causes);
    let regular_names: HashSet<&str> = regular.iter().map(|container| container.text("name")).collect();
    init_containers(spec, pod, regular_names.clone(), causes);
    let mut others = regular_names;
    others.extend(spec.items("initContainers").iter().map(|container| container.text("name")));
    ephemeral_containers(spec, pod, &others, causes);
}

fn unique_name<'a>(container: &At<'a>, seen: &mut HashSet<&'a str>, causes: &mut Vec<Cause>) {
    if !seen.insert(container.text("name")) {
        container.get("name").duplicate(causes);
    }
}

fn lifecycle_and_probes(container: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    if container.has("lifecycle") {
        handler::lifecycle(&container.get("lifecycle"), pod, causes);
    }
    for probe in PROBES {
        if container.has(probe) {
            handler::probe(&container.get(probe), probe, pod, causes);
        }
    }
}

fn init_containers<'a>(
    spec: &At<'a>,
    pod: &PodContext<'_>,
    mut names_seen: HashSet<&'a str>,
    causes: &mut Vec<Cause>,
) {
    for container in spec.items("initContainers") {
        common(&container, pod, causes);
        if container.has("restartPolicy") {
            restart_policy(&container, causes);
        } else if !container.items("restartPolicyRules").is_empty() {
            let detail = "must specify restartPolicy when restart rules are used";
            container.get("restartPolicy").required(detail, causes);
        }
        let name = container.text("name");
        if names_seen.contains(name) {
            container.get("name").duplicate(causes);
        } else if !name.is_empty() {
            names_seen.insert(name);
        }
        // The real server says this of the first container, whichever it is.
        let first = container.moved(&format!("{}[0]", spec.get("initContainers").path));
        host_ports(&[first], &mut HashSet::new(), causes);
        let stays = container.text("restartPolicy") == "Always";
        if stays {
            lifecycle_and_probes(&container, pod, causes);
            continue;
        }
        for field in ["lifecycle", PROBES[0], PROBES[1], PROBES[2]] {
            if container.has(field) {
                container.get(field).forbidden(NOT_INIT, causes);
            }
        }
        for policy in container.items("resizePolicy") {
            if policy.text("restartPolicy") == "RestartContainer" {
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                policy.get("restartPolicy").invalid(detail, causes);
            }
        }
    }
}

fn ephemeral_containers<'a>(
    spec: &At<'a>,
    pod: &PodContext<'_>,
    others: &HashSet<&'a str>,
    causes: &mut Vec<Cause>,
) {
    let mut seen = others.clone();
    for container in spec.items("ephemeralContainers") {
        common(&container, pod, causes);
        untrimmed_image(&container, causes);
        unique_name(&container, &mut seen, causes);
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            container.get("targetContainerName").not_found(causes);
        }
        for field in ["ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            let set = match &container.value[field] {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                // Requirements are there, if not as a pointer.
                Value::Object(members) => field != "resources" || !members.is_empty(),
                _ => true,
            };
            if set {
                container.get(field).forbidden(NOT_EPHEMERAL, causes);
            }
        }
        for field in ["restartPolicy", "restartPolicyRules", "resizePolicy"] {
            if container.has(field) {
                container.get(field).forbidden(NOT_EPHEMERAL, causes);
            }
        }
        for mount in container.items("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    mount.get(field).forbidden(NOT_EPHEMERAL, causes);
                }
            }
        }
    }
}

/// Images of Pods, not of templates, have no blanks around them.
pub(super) fn untrimmed_image(container: &At<'_>, causes: &mut Vec<Cause>) {
    let image = container.text("image");
    if image.trim() != image {
        container.get("image").invalid("must not have leading or trailing whitespace", causes);
    }
}

fn common(container: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    match container.text("name") {
        "" => container.get("name").required("", causes),
        _ => container.get("name").label(causes),
    }
    container.get("image").not_empty(causes);
    container.get("terminationMessagePolicy").one_of_required(&["File", "FallbackToLogsOnError"], causes);
    ports(container, causes);
    env(container, causes);
    env_from(container, causes);
    mounts(container, pod, causes);
    devices(container, pod, causes);
    container.get("imagePullPolicy").one_of_required(PULL_POLICIES, causes);
    resources::container(&container.get("resources"), &pod.claims, causes);
    resize_policy(container, pod, causes);
    security::container(&container.get("securityContext"), pod, causes);
}

fn ports(container: &At<'_>, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for port in container.items("ports") {
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                port.get("name").duplicate(causes);
            }
            port.get("name").all(wrong, causes);
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => port.get("containerPort").required("", causes),
            _ => port.get("containerPort").in_range(1, 65535, causes),
        }
        if port.int("hostPort").unwrap_or(0) != 0 {
            port.get("hostPort").in_range(1, 65535, causes);
        }
        port.get("protocol").one_of_required(PROTOCOLS, causes);
    }
}

fn host_ports(containers: &[At<'_>], seen: &mut HashSet<String>, causes: &mut Vec<Cause>) {
    for container in containers {
        for port in container.items("ports") {
            let number = port.int("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let shown = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if !seen.insert(shown.clone()) {
                causes.push(Cause::duplicate(port.get("hostPort").path, &shown.into()));
            }
        }
    }
}

fn env(container: &At<'_>, causes: &mut Vec<Cause>) {
    for variable in container.items("env") {
        match variable.text("name") {
            "" => variable.get("name").required("", causes),
            name => variable.get("name").all(names::text::variable(name), causes),
        }
        if variable.has("valueFrom") {
            value_from(&variable, causes);
        }
    }
}

fn value_from(variable: &At<'_>, causes: &mut Vec<Cause>) {
    let source = variable.get("valueFrom");
    let mut sources = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let found = source.get(kind);
        if !found.is_set() {
            continue;
        }
        sources += 1;
        match kind {
            "fieldRef" => field_selector(&found, ENV_FIELDS, causes),
            "resourceFieldRef" => resource_selector(&found, false, causes),
            "fileKeyRef" => file_key(&found, causes),
            _ => {
                found.get("name").subdomain(causes);
                match found.text("key") {
                    "" => found.get("key").required("", causes),
                    key => found.get("key").all(names::config_key(key), causes),
                }
            }
        }
    }
    // The value may be secret: it is not repeated.
    if sources == 0 {
        source.invalid_as("", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`", causes);
    } else if !variable.text("value").is_empty() {
        source.invalid_as("", "may not be specified when `value` is not empty", causes);
    } else if sources > 1 {
        source.invalid_as("", "may not have more than one field specified at a time", causes);
    }
}

fn file_key(reference: &At<'_>, causes: &mut Vec<Cause>) {
    match reference.text("key") {
        "" => reference.get("key").required("", causes),
        key => reference.get("key").all(names::text::variable(key), causes),
    }
    match reference.text("volumeName") {
        "" => reference.get("volumeName").required("", causes),
        _ => reference.get("volumeName").label(causes),
    }
    match reference.text("path") {
        "" => reference.get("path").required("", causes),
        _ => reference.get("path").no_backsteps(causes),
    }
}

/// A field of the Pod: `fieldRef`.
pub(super) fn field_selector(selector: &At<'_>, known: &[&str], causes: &mut Vec<Cause>) {
    if selector.text("apiVersion").is_empty() {
        return selector.get("apiVersion").required("", causes);
    }
    let path = selector.text("fieldPath");
    if path.is_empty() {
        return selector.get("fieldPath").required("", causes);
    }
    let refuse = |detail: String, causes: &mut Vec<Cause>| {
        selector.get("fieldPath").invalid(&format!("error converting fieldPath: {detail}"), causes);
    };
    if selector.text("apiVersion") != "v1" {
        return refuse(format!("unsupported pod version: {}", selector.text("apiVersion")), causes);
    }
    if let Some((field, rest)) = path.split_once("['")
        && let Some(subscript) = rest.strip_suffix("']")
    {
        let shown = Value::String(subscript.to_owned());
        let wrong = match field {
            "metadata.annotations" => names::qualified_name(&subscript.to_lowercase()),
            "metadata.labels" => names::qualified_name(subscript),
            _ => return refuse(format!("field label does not support subscript: {path}"), causes),
        };
        causes.extend(wrong.iter().map(|detail| Cause::invalid(selector.path.clone(), &shown, detail)));
        return;
    }
    const CONVERTED: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "spec.hostNetwork",
        "spec.host",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    if !CONVERTED.contains(&path) {
        return refuse(format!("field label not supported: {path}"), causes);
    }
    selector.get("fieldPath").one_of(known, causes);
}

/// A resource of a container: `resourceFieldRef`.
pub(super) fn resource_selector(selector: &At<'_>, in_volume: bool, causes: &mut Vec<Cause>) {
    const KNOWN: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    const SIZES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let resource = selector.text("resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && selector.text("containerName").is_empty() {
        selector.get("containerName").required("", causes);
    } else if resource.is_empty() {
        selector.get("resource").required("", causes);
    } else if !huge {
        selector.get("resource").one_of(KNOWN, causes);
    }
    let divisor = selector.text("divisor");
    if matches!(divisor, "" | "0") {
        return;
    }
    let sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let (fine, allowed, name) = match resource.split_once('.').map(|(_, name)| name).unwrap_or_default() {
        "cpu" => (matches!(divisor, "1m" | "1"), "1m and 1", "cpu"),
        "memory" => (SIZES.contains(&divisor), sizes, "memory"),
        "ephemeral-storage" => (SIZES.contains(&divisor), sizes, "local ephemeral storage"),
        _ if huge => (SIZES.contains(&divisor), sizes, "hugepages"),
        _ => return,
    };
    if !fine {
        let detail = format!("only divisor's values {allowed} are supported with the {name} resource");
        selector.get("divisor").invalid_as(resource, &detail, causes);
    }
}

fn env_from(container: &At<'_>, causes: &mut Vec<Cause>) {
    let list = container.get("envFrom");
    for source in list.elements() {
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            source.get("prefix").all(names::text::variable(prefix), causes);
        }
        let mut sources = 0;
        for kind in ["configMapRef", "secretRef"] {
            let found = source.get(kind);
            if found.is_set() {
                sources += 1;
                match found.text("name") {
                    "" => found.get("name").required("", causes),
                    // The name is checked as the beginning of one.
                    name => found.get("name").all(names::subdomain(name.trim_end_matches('-')), causes),
                }
            }
        }
        match sources {
            0 => list.invalid_as("", "must specify one of: `configMapRef` or `secretRef`", causes),
            1 => {}
            _ => list.invalid_as("", "may not have more than one field specified at a time", causes),
        }
    }
}

fn mounts(container: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    let list = container.get("volumeMounts");
    let devices = container.items("volumeDevices");
    let mut seen = HashSet::new();
    for mount in list.elements() {
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        mount.get("name").not_empty(causes);
        if !pod.volumes.contains_key(name) {
            mount.get("name").not_found(causes);
        }
        mount.get("mountPath").not_empty(causes);
        if !seen.insert(target) {
            mount.get("mountPath").all(["must be unique".to_owned()], causes);
        }
        if devices.iter().any(|device| device.text("name") == name) {
            mount.get("name").all(["must not already exist in volumeDevices".to_owned()], causes);
        }
        if devices.iter().any(|device| device.text("devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices".to_owned();
            mount.get("mountPath").all([detail], causes);
        }
        // The real server leaves the position out of these paths.
        let at_list = |field: &str| mount.get(field).moved(&list.get(field).path);
        at_list("subPath").descending(causes);
        if !mount.text("subPathExpr").is_empty() {
            if !mount.text("subPath").is_empty() {
                mount.get("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive", causes);
            }
            at_list("subPathExpr").descending(causes);
        }
        propagation(container, &at_list("mountPropagation"), causes);
        recursive_read_only(&mount, &at_list("recursiveReadOnly"), causes);
    }
}

fn propagation(container: &At<'_>, mode: &At<'_>, causes: &mut Vec<Cause>) {
    mode.one_of_if_set(&["Bidirectional", "HostToContainer", "None"], causes);
    if mode.own_text() == "Bidirectional" && !container.get("securityContext").flag("privileged") {
        mode.forbidden("Bidirectional mount propagation is available only to privileged containers", causes);
    }
}

fn recursive_read_only(mount: &At<'_>, mode: &At<'_>, causes: &mut Vec<Cause>) {
    if !mode.is_set() {
        return;
    }
    match mode.own_text() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                mode.forbidden("may only be specified when readOnly is true", causes);
            }
            if !matches!(mount.text("mountPropagation"), "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                mode.forbidden(detail, causes);
            }
        }
        _ => mode.unsupported(&["Disabled", "Enabled", "IfPossible"], causes),
    }
}

fn devices(container: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    let mounts = container.items("volumeMounts");
    let (mut names_seen, mut paths_seen) = (HashSet::new(), HashSet::new());
    for device in container.items("volumeDevices") {
        let (name, path) = (device.text("name"), device.text("devicePath"));
        let wrong = |field: &str, detail: &str, causes: &mut Vec<Cause>| {
            device.get(field).all([detail.to_owned()], causes);
        };
        device.get("name").not_empty(causes);
        if names_seen.contains(name) {
            wrong("name", "must be unique", causes);
        }
        match pod.volumes.get(name) {
            None => device.get("name").not_found(causes),
            Some(volume) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                wrong("name", detail, causes);
            }
            Some(_) => {}
        }
        device.get("devicePath").not_empty(causes);
        if paths_seen.contains(path) {
            wrong("devicePath", "must be unique", causes);
        }
        if path.split('/').any(|part| part == "..") {
            wrong("devicePath", "can not contain backsteps ('..')", causes);
        } else {
            paths_seen.insert(path);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            wrong("name", "must not already exist in volumeMounts", causes);
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == path) {
            wrong("devicePath", "must not already exist as a path in volumeMounts", causes);
        }
        if !name.is_empty() {
            names_seen.insert(name);
        }
    }
}

fn resize_policy(container: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    let list = container.get("resizePolicy");
    let mut seen = HashSet::new();
    for policy in list.elements() {
        let (resource, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(resource.own_text()) {
            resource.moved(&policy.path).duplicate(causes);
        }
        resource.moved(&list.path).one_of_required(&["cpu", "memory"], causes);
        restart.moved(&list.path).one_of_required(&["NotRequired", "RestartContainer"], causes);
        if pod.restart_policy == "Never" && restart.own_text() != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            restart.moved(&list.path).all([detail.to_owned()], causes);
        }
    }
}

fn restart_policy(container: &At<'_>, causes: &mut Vec<Cause>) {
    let rules = container.items("restartPolicyRules");
    let policy = container.get("restartPolicy");
    if policy.is_set() {
        policy.one_of(RESTART_POLICIES, causes);
    } else if rules.is_empty() {
        return;
    } else {
        policy.required("must specify restartPolicy when restart rules are used", causes);
    }
    if rules.len() > RESTART_RULES_MAX {
        let path = container.get("restartPolicyRules").path;
        causes.push(Cause::too_many(path, rules.len(), RESTART_RULES_MAX));
    }
    for rule in rules {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"], causes);
        let codes = rule.get("exitCodes");
        if !codes.is_set() {
            codes.required("must be specified", causes);
            continue;
        }
        codes.get("operator").one_of(&["In", "NotIn"], causes);
        let values = codes.items("values").len();
        if values > EXIT_CODES_MAX {
            causes.push(Cause::too_many(codes.get("values").path, values, EXIT_CODES_MAX));
        }
    }
}
