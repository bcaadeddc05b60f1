//! Pods and Pod templates.

use std::collections::HashSet;

use serde_json::Value;

use super::{at_least_zero, in_range, list, one_of, port_number, text};
use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks a Pod spec at `path`.
pub(super) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes = volumes(&spec["volumes"], &format!("{path}.volumes"), causes);
    let mut used: HashSet<&str> = HashSet::new();
    let containers = list(&spec["containers"]);
    if containers.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    for (field, init) in [("containers", false), ("initContainers", true), ("ephemeralContainers", true)] {
        for (at, found) in list(&spec[field]).iter().enumerate() {
            let here = format!("{path}.{field}[{at}]");
            container(found, &here, init && found["restartPolicy"] != "Always", &volumes, causes);
            let name = text(found, "name");
            if !name.is_empty() && !used.insert(name) {
                causes.push(Cause::duplicate(format!("{here}.name"), &name.into()));
            }
        }
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, causes);
    one_of(spec, "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], path, causes);
    if let Some(grace) = spec["terminationGracePeriodSeconds"].as_i64().filter(|grace| *grace < 0) {
        causes.push(Cause::invalid(
            format!("{path}.terminationGracePeriodSeconds"),
            &grace.into(),
            "must be greater than or equal to 0",
        ));
    }
    if let Some(deadline) = spec["activeDeadlineSeconds"].as_i64() {
        in_range(deadline, 1, i64::from(i32::MAX), &format!("{path}.activeDeadlineSeconds"), causes);
    }
    for field in ["serviceAccountName", "priorityClassName", "nodeName"] {
        let name = text(spec, field);
        if !name.is_empty()
            && let Some(detail) = names::subdomain(name)
        {
            causes.push(Cause::invalid(format!("{path}.{field}"), &name.into(), &detail));
        }
    }
    super::labels(&spec["nodeSelector"], &format!("{path}.nodeSelector"), causes);
    for (at, search) in list(&spec["dnsConfig"]["searches"]).iter().enumerate() {
        // A dot at the end is allowed.
        let name = search.as_str().unwrap_or_default();
        for detail in names::search_domain(name.strip_suffix('.').unwrap_or(name)) {
            causes.push(Cause::invalid(format!("{path}.dnsConfig.searches[{at}]"), search, &detail));
        }
    }
    users(&spec["securityContext"], &format!("{path}.securityContext"), causes);
}

/// The numbers of users and groups in a security context.
fn users(context: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(detail) = context[field].as_i64().and_then(names::text::user_id) {
            causes.push(Cause::invalid(format!("{path}.{field}"), &context[field], &detail));
        }
    }
}

fn volumes<'a>(volumes: &'a Value, path: &str, causes: &mut Vec<Cause>) -> HashSet<&'a str> {
    let mut names_seen = HashSet::new();
    for (at, volume) in list(volumes).iter().enumerate() {
        let here = format!("{path}[{at}]");
        let mut sources = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .filter(|key| *key != "name");
        // Upstream names the later of two in the order of its type; `emptyDir` comes before the rest but hostPath.
        let mut found: Vec<&str> = sources.by_ref().collect();
        found.sort_by_key(|source| source_rank(source));
        for extra in found.iter().skip(1) {
            causes
                .push(Cause::forbidden(format!("{here}.{extra}"), "may not specify more than 1 volume type"));
        }
        if found.is_empty() {
            causes.push(Cause::required(here.clone(), "must specify a volume type"));
        }
        if volume["hostPath"].is_object() {
            if text(&volume["hostPath"], "path").is_empty() {
                causes.push(Cause::required(format!("{here}.hostPath.path"), ""));
            }
            let ty = &volume["hostPath"]["type"];
            if ty.as_str().is_some_and(|ty| !HOST_PATH_TYPES.contains(&ty)) {
                causes.push(Cause::not_supported(format!("{here}.hostPath.type"), ty, HOST_PATH_TYPES));
            }
        }
        for (source, field) in
            [("configMap", "name"), ("secret", "secretName"), ("persistentVolumeClaim", "claimName")]
        {
            if volume[source].is_object() && text(&volume[source], field).is_empty() {
                causes.push(Cause::required(format!("{here}.{source}.{field}"), ""));
            }
        }
        let name = text(volume, "name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        } else {
            for detail in names::label(name) {
                causes.push(Cause::invalid(format!("{here}.name"), &name.into(), &detail));
            }
            if !names_seen.insert(name) {
                causes.push(Cause::duplicate(format!("{here}.name"), &name.into()));
            }
        }
    }
    names_seen
}

fn source_rank(source: &str) -> usize {
    const ORDER: &[&str] = &[
        "emptyDir",
        "hostPath",
        "gitRepo",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "secret",
        "nfs",
        "iscsi",
    ];
    ORDER.iter().position(|known| *known == source).unwrap_or(ORDER.len())
}

fn container(
    container: &Value,
    path: &str,
    one_shot: bool,
    volumes: &HashSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let name = text(container, "name");
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else {
        for detail in names::label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), &detail));
        }
    }
    let image = text(container, "image");
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        causes.push(Cause::invalid(
            format!("{path}.image"),
            &image.into(),
            "must not have leading or trailing whitespace",
        ));
    }
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, causes);
    one_of(container, "imagePullPolicy", PULL_POLICIES, path, causes);
    ports(&container["ports"], &format!("{path}.ports"), causes);
    env(&container["env"], &format!("{path}.env"), causes);
    mounts(&container["volumeMounts"], &format!("{path}.volumeMounts"), volumes, causes);
    resources(&container["resources"], &format!("{path}.resources"), causes);
    security(&container["securityContext"], &format!("{path}.securityContext"), causes);
    for (hook, forced) in [("postStart", false), ("preStop", false)] {
        let found = &container["lifecycle"][hook];
        if found.is_object() {
            let _ = forced;
            handler(
                found,
                &format!("{path}.lifecycle.{hook}"),
                &["exec", "httpGet", "tcpSocket", "sleep"],
                causes,
            );
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[kind];
        if !probe.is_object() {
            continue;
        }
        let here = format!("{path}.{kind}");
        if one_shot {
            causes.push(Cause::forbidden(
                here,
                "may not be set for init containers without restartPolicy=Always",
            ));
            continue;
        }
        handler(probe, &here, &["exec", "httpGet", "tcpSocket", "grpc"], causes);
        for field in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            at_least_zero(probe, field, &here, causes);
        }
        let success = probe["successThreshold"].as_i64().unwrap_or(1);
        if kind != "readinessProbe" && success != 1 {
            causes.push(Cause::invalid(format!("{here}.successThreshold"), &success.into(), "must be 1"));
        }
    }
}

fn ports(ports: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (at, port) in list(ports).iter().enumerate() {
        let here = format!("{path}[{at}]");
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = names::text::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                causes.push(Cause::duplicate(format!("{here}.name"), &name.into()));
            }
            causes.extend(
                wrong.iter().map(|detail| Cause::invalid(format!("{here}.name"), &name.into(), detail)),
            );
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => causes.push(Cause::required(format!("{here}.containerPort"), "")),
            number => in_range(number, 1, 65535, &format!("{here}.containerPort"), causes),
        }
        match port["hostPort"].as_i64().unwrap_or(0) {
            0 => {}
            number => in_range(number, 1, 65535, &format!("{here}.hostPort"), causes),
        }
        match text(port, "protocol") {
            "" => causes.push(Cause::required(format!("{here}.protocol"), "")),
            _ => one_of(port, "protocol", PROTOCOLS, &here, causes),
        }
    }
}

fn env(env: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (at, variable) in list(env).iter().enumerate() {
        let name = text(variable, "name");
        let here = format!("{path}[{at}]");
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        } else {
            for detail in names::text::variable(name) {
                causes.push(Cause::invalid(format!("{here}.name"), &name.into(), &detail));
            }
        }
        let source = variable["valueFrom"].as_object();
        if source.is_some() && !text(variable, "value").is_empty() {
            // The value may be secret: it is not repeated.
            causes.push(Cause::invalid(
                format!("{here}.valueFrom"),
                &"".into(),
                "may not be specified when `value` is not empty",
            ));
        }
        if source.is_some_and(|source| source.is_empty()) {
            causes.push(Cause::invalid(format!("{here}.valueFrom"), &"".into(), "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"));
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            let found = &variable["valueFrom"][reference];
            if found.is_object() {
                for field in ["name", "key"] {
                    if text(found, field).is_empty() {
                        causes.push(Cause::required(format!("{here}.valueFrom.{reference}.{field}"), ""));
                    }
                }
            }
        }
    }
}

fn mounts(mounts: &Value, path: &str, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (at, mount) in list(mounts).iter().enumerate() {
        let here = format!("{path}[{at}]");
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        } else if !volumes.contains(name) {
            causes.push(Cause::not_found(format!("{here}.name"), &name.into()));
        }
        if target.is_empty() {
            causes.push(Cause::required(format!("{here}.mountPath"), ""));
        } else if !seen.insert(target) {
            causes.push(Cause::invalid(format!("{here}.mountPath"), &target.into(), "must be unique"));
        }
        for field in ["subPath", "subPathExpr"] {
            let sub = text(mount, field);
            if sub.starts_with('/') {
                causes.push(Cause::invalid(
                    format!("{path}.{field}"),
                    &sub.into(),
                    "must be a relative path",
                ));
            }
            if sub.split('/').any(|part| part == "..") {
                causes.push(Cause::invalid(format!("{path}.{field}"), &sub.into(), "must not contain '..'"));
            }
        }
    }
}

fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    let quantity = |value: &Value| value.as_str().and_then(Quantity::parse);
    for part in ["limits", "requests"] {
        for (name, value) in resources[part].as_object().into_iter().flatten() {
            if quantity(value).is_some_and(|quantity| quantity.is_negative()) {
                causes.push(Cause::invalid(
                    format!("{path}.{part}[{name}]"),
                    value,
                    "must be greater than or equal to 0",
                ));
            }
            // What is not divisible is asked for in whole numbers.
            let extended = name.contains('/') && !name.contains("kubernetes.io/");
            if extended && quantity(value).is_some_and(|quantity| quantity.scaled(-3) % 1000 != 0) {
                causes.push(Cause::invalid(format!("{path}.{part}[{name}]"), value, "must be an integer"));
            }
        }
    }
    for (name, value) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name];
        if let (Some(request), Some(limit_quantity)) = (quantity(value), quantity(limit))
            && request.nano() > limit_quantity.nano()
        {
            let detail = format!(
                "must be less than or equal to {name} limit of {}",
                limit.as_str().unwrap_or_default()
            );
            causes.push(Cause::invalid(format!("{path}.requests"), value, &detail));
        }
    }
}

fn security(context: &Value, path: &str, causes: &mut Vec<Cause>) {
    users(context, path, causes);
    if context["privileged"] == true && context["allowPrivilegeEscalation"] == false {
        causes.push(Cause::invalid(
            path,
            context,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ));
    }
}

fn handler(handler: &Value, path: &str, kinds: &[&str], causes: &mut Vec<Cause>) {
    let mut found = 0;
    for kind in kinds {
        let action = &handler[*kind];
        if !action.is_object() {
            continue;
        }
        found += 1;
        let here = format!("{path}.{kind}");
        if found > 1 {
            causes.push(Cause::forbidden(here, "may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if list(&action["command"]).is_empty() => {
                causes.push(Cause::required(format!("{here}.command"), ""));
            }
            "httpGet" | "tcpSocket" => port_number(&action["port"], &format!("{here}.port"), causes),
            "grpc" => port_number(&action["port"], &format!("{here}.port"), causes),
            _ => {}
        }
        if *kind == "httpGet" {
            if text(action, "path").is_empty() {
                causes.push(Cause::required(format!("{here}.path"), ""));
            }
            one_of(action, "scheme", &["HTTP", "HTTPS"], &here, causes);
            for (at, header) in list(&action["httpHeaders"]).iter().enumerate() {
                if let Some(detail) = names::text::header(text(header, "name")) {
                    let path = format!("{here}.httpHeaders[{at}].name");
                    causes.push(Cause::invalid(path, &header["name"], &detail));
                }
            }
        }
    }
    if found == 0 {
        causes.push(Cause::required(path, "must specify a handler type"));
    }
}

/// What may change in a Pod: images, a shorter deadline, more tolerations, and few things more.
pub(super) fn update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"], &new["spec"]);
    match (before["activeDeadlineSeconds"].as_i64(), after["activeDeadlineSeconds"].as_i64()) {
        (Some(old), Some(new)) if new > old => {
            causes.push(Cause::invalid(
                "spec.activeDeadlineSeconds",
                &new.into(),
                "must be less than or equal to previous value",
            ));
            return;
        }
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            causes.push(Cause::invalid("spec.activeDeadlineSeconds", &Value::Null, detail));
            return;
        }
        _ => {}
    }
    let mut masked = after.clone();
    for (field, lists) in [("image", ["containers", "initContainers"])] {
        for containers in lists {
            let old_containers = list(&before[containers]);
            for (at, container) in
                masked.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
            {
                if let Some(old) = old_containers.get(at) {
                    crate::write::copy_or_remove(old, container, field);
                }
            }
        }
    }
    for field in [
        "activeDeadlineSeconds",
        "terminationGracePeriodSeconds",
        "schedulingGates",
        "nodeSelector",
        "affinity",
    ] {
        let gated = !list(&before["schedulingGates"]).is_empty();
        let free = match field {
            "nodeSelector" | "affinity" => gated,
            "terminationGracePeriodSeconds" => {
                before[field].as_i64().is_some_and(|old| old < 0) && after[field] == 1
            }
            _ => true,
        };
        if free {
            crate::write::copy_or_remove(before, &mut masked, field);
        }
    }
    let old_tolerations = list(&before["tolerations"]);
    if list(&after["tolerations"]).len() >= old_tolerations.len()
        && old_tolerations.iter().all(|old| list(&after["tolerations"]).contains(old))
    {
        crate::write::copy_or_remove(before, &mut masked, "tolerations");
    }
    if masked != *before {
        causes.push(Cause::forbidden("spec", "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"));
    }
}

/// Ephemeral containers are added, never changed or removed.
pub(super) fn ephemeral(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const NOT_ALLOWED: [&str; 6] =
        ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy"];
    let after = list(&new["spec"]["ephemeralContainers"]);
    for (at, container) in after.iter().enumerate() {
        for field in NOT_ALLOWED {
            if !container[field].is_null() {
                let path = format!("spec.ephemeralContainers[{at}].{field}");
                causes.push(Cause::forbidden(path, "cannot be set for an Ephemeral Container"));
            }
        }
        let resources = &container["resources"];
        if ["requests", "limits"].iter().any(|part| resources[part].is_object()) {
            let path = format!("spec.ephemeralContainers[{at}].resources");
            causes.push(Cause::forbidden(path, "cannot be set for an Ephemeral Container"));
        }
    }
    for container in list(&old["spec"]["ephemeralContainers"]) {
        match after.iter().find(|found| found["name"] == container["name"]) {
            Some(found) if found == container => {}
            Some(_) => {
                let text = format!(
                    "existing ephemeral containers \"{}\" may not be changed\n",
                    text(container, "name")
                );
                causes.push(Cause::forbidden("spec.ephemeralContainers", &text));
            }
            None => {
                let text = format!(
                    "existing ephemeral containers \"{}\" may not be removed\n",
                    text(container, "name")
                );
                causes.push(Cause::forbidden("spec.ephemeralContainers", &text));
            }
        }
    }
}
