//! Security contexts of containers and Pods.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::PodContext;
use crate::status::Cause;
use crate::validate::at::{At, internal};

const SYSCTL_LEN_MAX: usize = 253;
const PROFILE_LEN_MAX: usize = 4095;
const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn id(place: &At<'_>, causes: &mut Vec<Cause>) {
    if let Some(number) = place.value.as_i64() {
        place.all(crate::names::text::user_id(number), causes);
    }
}

/// `securityContext` of a container.
pub(super) fn container(context: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    if !context.is_set() {
        return;
    }
    id(&context.get("runAsUser"), causes);
    id(&context.get("runAsGroup"), causes);
    let proc = context.get("procMount");
    proc.one_of_if_set(&["Default", "Unmasked"], causes);
    if pod.host_users && proc.own_text() == "Unmasked" {
        proc.invalid("`hostUsers` must be false to use `Unmasked`", causes);
    }
    seccomp(&context.get("seccompProfile"), causes);
    if context.value["allowPrivilegeEscalation"] == false {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            context.invalid_as(shown(context.value), detail, causes);
        }
        for added in context.get("capabilities").items("add") {
            if added.own_text() == "CAP_SYS_ADMIN" {
                let detail =
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
                context.invalid_as(shown(context.value), detail, causes);
            }
        }
    }
    app_armor(&context.get("appArmorProfile"), causes);
}

/// The context in the words of the real server's own type.
fn shown(context: &Value) -> Value {
    let null = Value::Null;
    let capabilities = match &context["capabilities"] {
        Value::Null => Value::Null,
        found => internal(found, &[("Add", "add", null.clone()), ("Drop", "drop", null.clone())]),
    };
    let mut members: Vec<(&str, &str, Value)> = [
        ("Capabilities", "capabilities"),
        ("Privileged", "privileged"),
        ("SELinuxOptions", "seLinuxOptions"),
        ("WindowsOptions", "windowsOptions"),
        ("RunAsUser", "runAsUser"),
        ("RunAsGroup", "runAsGroup"),
        ("RunAsNonRoot", "runAsNonRoot"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("ProcMount", "procMount"),
        ("SeccompProfile", "seccompProfile"),
        ("AppArmorProfile", "appArmorProfile"),
    ]
    .map(|(name, field)| (name, field, Value::Null))
    .into();
    members[0].2 = null;
    let mut shown = internal(context, &members);
    shown["Capabilities"] = capabilities;
    shown
}

fn seccomp(profile: &At<'_>, causes: &mut Vec<Cause>) {
    if !profile.is_set() {
        return;
    }
    match profile.text("type") {
        "" => profile.get("type").required("type is required when seccompProfile is set", causes),
        _ => profile.get("type").one_of(PROFILES, causes),
    }
    let local = profile.get("localhostProfile");
    match (profile.text("type") == "Localhost", local.is_set()) {
        (true, false) => local.required("must be set when seccomp type is Localhost", causes),
        (true, true) => local.descending(causes),
        (false, true) => {
            let members =
                [("Type", "type", json!("")), ("LocalhostProfile", "localhostProfile", Value::Null)];
            let shown = internal(profile.value, &members);
            local.invalid_as(shown, "can only be set when seccomp type is Localhost", causes);
        }
        (false, false) => {}
    }
}

fn app_armor(profile: &At<'_>, causes: &mut Vec<Cause>) {
    if !profile.is_set() {
        return;
    }
    let local = profile.get("localhostProfile");
    match profile.text("type") {
        "" => profile.get("type").required("type is required when appArmorProfile is set", causes),
        "Localhost" => {
            let name = local.own_text();
            if !local.is_set() || name.is_empty() {
                local.required("must be set when AppArmor type is Localhost", causes);
            } else if name.trim() != name {
                local.invalid("must not be padded with whitespace", causes);
            }
            if name.len() > PROFILE_LEN_MAX {
                causes.push(Cause::too_long(local.path.clone(), PROFILE_LEN_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                local.invalid("can only be set when AppArmor type is Localhost", causes);
            }
        }
        _ => profile.get("type").unsupported(PROFILES, causes),
    }
}

/// `securityContext` of a Pod; some of it stands in the spec itself.
pub(super) fn pod(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let context = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context.get(field), causes);
    }
    for group in context.items("supplementalGroups") {
        id(&group, causes);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let place = context.get("shareProcessNamespace");
        place.invalid_as(true, "ShareProcessNamespace and HostPID cannot both be enabled", causes);
    }
    sysctls(spec, &context, causes);
    context.get("fsGroupChangePolicy").one_of_if_set(&["Always", "OnRootMismatch"], causes);
    seccomp(&context.get("seccompProfile"), causes);
    app_armor(&context.get("appArmorProfile"), causes);
    context.get("supplementalGroupsPolicy").one_of_if_set(&["Merge", "Strict"], causes);
    context.get("seLinuxChangePolicy").one_of_if_set(&["Recursive"], causes);
}

fn sysctls(spec: &At<'_>, context: &At<'_>, causes: &mut Vec<Cause>) {
    const RULE: &str = "must have at most 253 characters and match regex \
                        ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = HashSet::new();
    for sysctl in context.items("sysctls") {
        let (place, name) = (sysctl.get("name"), sysctl.text("name"));
        let sound = |part: &str| {
            let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            part.bytes().next().is_some_and(alphanumeric)
                && part.bytes().last().is_some_and(alphanumeric)
                && part.bytes().all(|b| alphanumeric(b) || b == b'-' || b == b'_')
        };
        if name.is_empty() {
            place.required("", causes);
        } else if name.len() > SYSCTL_LEN_MAX || !name.split(['.', '/']).all(sound) {
            place.invalid(RULE, causes);
        } else if seen.contains(name) {
            place.duplicate(causes);
        }
        if spec.flag("hostNetwork") && (name.starts_with("net.") || name.starts_with("net/")) {
            place.invalid("may not be specified when 'hostNetwork' is true", causes);
        }
        let ipc = name.starts_with("kernel.shm")
            || name.starts_with("kernel.msg")
            || name.starts_with("fs.mqueue.");
        if spec.flag("hostIPC") && (ipc || name == "kernel.sem") {
            place.invalid("may not be specified when 'hostIPC' is true", causes);
        }
        seen.insert(name);
    }
}

/// What the operating system of a Pod rules out.
pub(super) fn system(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    match os.text("name") {
        "" => os.get("name").required("", causes),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            for context in contexts(spec) {
                if context.has("windowsOptions") {
                    context.get("windowsOptions").forbidden(detail, causes);
                }
            }
        }
        "windows" => windows(spec, causes),
        // The place is that of the whole.
        _ => os.get("name").moved(&os.path).unsupported(&["linux", "windows"], causes),
    }
}

fn contexts<'a>(spec: &At<'a>) -> Vec<At<'a>> {
    let mut found = vec![spec.get("securityContext")];
    found.extend(container_contexts(spec));
    found
}

fn container_contexts<'a>(spec: &At<'a>) -> Vec<At<'a>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.iter().flat_map(|list| spec.items(list)).map(|container| container.get("securityContext")).collect()
}

fn windows(spec: &At<'_>, causes: &mut Vec<Cause>) {
    const DETAIL: &str = "cannot be set for a windows pod";
    let context = spec.get("securityContext");
    for (field, name) in [("hostPID", "hostPID"), ("hostIPC", "hostIPC")] {
        if spec.flag(field) {
            spec.get(name).forbidden(DETAIL, causes);
        }
    }
    if spec.value["hostUsers"] == false {
        spec.get("hostUsers").forbidden(DETAIL, causes);
    }
    for field in [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        if context.has(field) {
            context.get(field).forbidden(DETAIL, causes);
        }
    }
    if spec.has("shareProcessNamespace") {
        spec.get("shareProcessNamespace").forbidden(DETAIL, causes);
    }
    for context in container_contexts(spec) {
        for field in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if context.has(field) {
                context.get(field).forbidden(DETAIL, causes);
            }
        }
    }
}

/// What a Pod with its own users cannot have.
pub(super) fn host_users(spec: &At<'_>, causes: &mut Vec<Cause>) {
    if spec.value["hostUsers"] != false {
        return;
    }
    for (field, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            spec.get_as(field, name).forbidden("when `hostUsers` is false", causes);
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.items(list) {
            if !container.items("volumeDevices").is_empty() {
                container.get("volumeDevices").forbidden("when `hostUsers` is false", causes);
            }
        }
    }
}
