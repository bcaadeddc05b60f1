//! The checks of the level `baseline`, in upstream's order (by their names).

use serde_json::Value;

use super::{Finding, containers, join, name, named, of, setters};
use crate::status::quote;

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 13] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
];
const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// What is wrong; checks that a stricter one replaces are left to it when `restricted`.
pub(super) fn check(spec: &Value, pod: &Value, restricted: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |reason: &'static str, detail: Option<String>| {
        found.extend(detail.map(|detail| Finding { reason, detail }));
    };
    add("forbidden AppArmor profile", app_armor(spec, pod));
    if !restricted {
        add("non-default capabilities", capabilities(spec));
    }
    add("host namespaces", host_namespaces(spec));
    if !restricted {
        add("hostPath volumes", host_paths(spec));
    }
    add("hostPort", host_ports(spec));
    add("probe or lifecycle host", host_probes(spec));
    let privileged = named(spec, |container| container["securityContext"]["privileged"] == true);
    add("privileged", bad(&privileged, "must not set securityContext.privileged=true"));
    let unmasked = |container: &Value| {
        !matches!(container["securityContext"]["procMount"].as_str(), None | Some("" | "Default"))
    };
    add("procMount", bad(&named(spec, unmasked), "must not set securityContext.procMount to \"Unmasked\""));
    add("seLinuxOptions", selinux(spec));
    if !restricted {
        add("seccompProfile", unconfined(spec));
    }
    add("forbidden sysctls", sysctls(spec));
    let process = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(process(spec), &named(spec, process));
    add(
        "hostProcess",
        who.map(|who| format!("{who} must not set securityContext.windowsOptions.hostProcess=true")),
    );
    found
}

fn bad(names: &[String], text: &str) -> Option<String> {
    (!names.is_empty()).then(|| format!("{} {text}", of(names)))
}

fn app_armor(spec: &Value, pod: &Value) -> Option<String> {
    let open = |holder: &Value| holder["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    let legacy = pod["metadata"]["annotations"].as_object().into_iter().flatten().filter(|(key, value)| {
        let allowed = value.as_str().is_some_and(|profile| {
            matches!(profile, "" | "runtime/default") || profile.starts_with("localhost/")
        });
        key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !allowed
    });
    let mut details: Vec<String> = setters(open(spec), &named(spec, open))
        .map(|who| format!("{who} must not set AppArmor profile type to \"Unconfined\""))
        .into_iter()
        .collect();
    details.extend(
        legacy.map(|(key, value)| format!("annotation {key}={}", quote(value.as_str().unwrap_or_default()))),
    );
    (!details.is_empty()).then(|| details.join(", "))
}

fn capabilities(spec: &Value) -> Option<String> {
    let mut names = Vec::new();
    let mut forbidden: Vec<String> = Vec::new();
    for container in containers(spec) {
        let added = container["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten();
        let mut any = false;
        for capability in added.filter_map(Value::as_str).filter(|name| !CAPABILITIES.contains(name)) {
            any = true;
            forbidden.push(capability.to_owned());
        }
        if any {
            names.push(name(container));
        }
    }
    forbidden.sort();
    forbidden.dedup();
    let text = format!("must not include {} in securityContext.capabilities.add", join(&forbidden));
    bad(&names, &text)
}

fn host_namespaces(spec: &Value) -> Option<String> {
    let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| spec[*field] == true);
    let set: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

fn host_paths(spec: &Value) -> Option<String> {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let names: Vec<String> = volumes.filter(|volume| volume["hostPath"].is_object()).map(name).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| format!("volume{plural} {}", join(&names)))
}

fn host_ports(spec: &Value) -> Option<String> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0).collect()
    };
    let names = named(spec, |container| !ports(container).is_empty());
    let mut used: Vec<i64> = containers(spec).flat_map(ports).collect();
    used.sort();
    used.dedup();
    let shown: Vec<String> = used.iter().map(i64::to_string).collect();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if used.len() == 1 { "hostPort" } else { "hostPorts" };
    bad(&names, &format!("{verb} {noun} {}", shown.join(", ")))
}

/// Probes and hooks may not name another host.
fn host_probes(spec: &Value) -> Option<String> {
    let hosts = |container: &Value| -> Vec<String> {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        let handlers = probes.into_iter().chain(hooks);
        let hosts =
            handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| &handler[action]["host"]));
        hosts.filter_map(Value::as_str).filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let names = named(spec, |container| !hosts(container).is_empty());
    let mut used: Vec<String> = containers(spec).flat_map(hosts).collect();
    used.sort();
    used.dedup();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if used.len() == 1 { "host" } else { "hosts" };
    bad(&names, &format!("{verb} probe or lifecycle {noun} {}", join(&used)))
}

fn selinux(spec: &Value) -> Option<String> {
    let options = |holder: &Value| holder["securityContext"]["seLinuxOptions"].clone();
    let text = |options: &Value, field: &str| options[field].as_str().unwrap_or_default().to_owned();
    let wrong = |holder: &Value| {
        let options = options(holder);
        !SELINUX_TYPES.contains(&text(&options, "type").as_str())
            || !text(&options, "user").is_empty()
            || !text(&options, "role").is_empty()
    };
    let who = setters(wrong(spec), &named(spec, wrong))?;
    let all: Vec<Value> = std::iter::once(spec).chain(containers(spec)).map(options).collect();
    let mut types: Vec<String> = all.iter().map(|options| text(options, "type")).collect();
    types.retain(|ty| !SELINUX_TYPES.contains(&ty.as_str()));
    types.sort();
    types.dedup();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("type{} {}", if types.len() == 1 { "" } else { "s" }, join(&types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| !text(options, field).is_empty()) {
            what.push(format!("{field} may not be set"));
        }
    }
    Some(format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")))
}

/// Who switches seccomp off.
pub(super) fn unconfined(spec: &Value) -> Option<String> {
    let open = |holder: &Value| holder["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let who = setters(open(spec), &named(spec, open))?;
    Some(format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""))
}

fn sysctls(spec: &Value) -> Option<String> {
    let set = spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let names: Vec<&str> = set.filter_map(|sysctl| sysctl["name"].as_str()).collect();
    let forbidden: Vec<&str> = names.into_iter().filter(|name| !SYSCTLS.contains(name)).collect();
    (!forbidden.is_empty()).then(|| forbidden.join(", "))
}
