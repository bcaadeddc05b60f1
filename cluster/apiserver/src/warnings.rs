//! Warnings that go with an accepted object of a built-in kind: what is deprecated, hidden or without effect in it.
//!
//! Leaves out: overlapping paths of volumes, the key pair of a TLS Secret, non-canonical addresses.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::kinds::Kind;
use crate::names::{self, net};
use crate::schema::quantity::Quantity;

/// What is said when a Job is deleted without a word about its Pods.
pub(crate) const ORPHANED_PODS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
const NO_POD: &str = "a null labelSelector results in matching no pod";
const FRACTION: &str = "is invalid, must be an integer";
const MILLI: i128 = 1_000_000;

/// Volume sources of the past.
const VOLUMES: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Labels of Nodes of the past.
const LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The warnings for an object; `bumped`: an update has changed more than its metadata and status.
pub(crate) fn warnings(kind: &Kind, object: &Value, created: bool, bumped: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = &object["spec"];
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "endpoints") => {
            warnings
                .push("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into());
        }
        ("", "pods") if created => {
            host_name(object, "this is used in the Pod's hostname", &mut warnings);
            pod(&object["metadata"], spec, "", &mut warnings);
        }
        ("", "services") => service(object, &mut warnings),
        ("", "persistentvolumeclaims") => {
            const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
            if object["metadata"]["annotations"][OLD_CLASS].is_string() {
                warnings.push(format!(
                    "metadata.annotations[{OLD_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
                ));
            }
            claim(spec, "spec", &mut warnings);
        }
        ("discovery.k8s.io", "endpointslices") if created && object["addressType"] == "FQDN" => {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        ("networking.k8s.io", "ingresses") if created => {
            const OLD_CLASS: &str = "kubernetes.io/ingress.class";
            if object["metadata"]["annotations"][OLD_CLASS].is_string() {
                warnings.push(format!(
                    "annotation \"{OLD_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        }
        ("apps", plural) => workload(plural, object, created, bumped, &mut warnings),
        ("batch", plural) => {
            if created {
                host_name(object, "this is used in Pod names and hostnames", &mut warnings);
            }
            if created || bumped {
                let (job, path) = match plural {
                    "cronjobs" => (&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec.template."),
                    _ => (spec, "spec.template."),
                };
                template(&job["template"], path, &mut warnings);
            }
        }
        _ => {}
    }
    warnings
}

fn host_name(object: &Value, why: &str, warnings: &mut Vec<String>) {
    let wrong = names::label(text(&object["metadata"], "name"));
    if !wrong.is_empty() {
        warnings.push(format!(
            "metadata.name: {why}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

fn workload(plural: &str, object: &Value, created: bool, bumped: bool, warnings: &mut Vec<String>) {
    let spec = &object["spec"];
    if created && matches!(plural, "deployments" | "replicasets") {
        host_name(object, "this is used in Pod names and hostnames", warnings);
    }
    if created || bumped {
        template(&spec["template"], "spec.template.", warnings);
    }
    if plural == "statefulsets" {
        for (at, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
            let part = if created { "spec" } else { "Spec" };
            self::claim(&claim["spec"], &format!("spec.volumeClaimTemplates[{at}].{part}"), warnings);
        }
        if spec["revisionHistoryLimit"].as_i64().is_some_and(|limit| limit < 0) {
            warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
    }
}

fn template(template: &Value, path: &str, warnings: &mut Vec<String>) {
    pod(&template["metadata"], &template["spec"], path, warnings);
}

fn service(object: &Value, warnings: &mut Vec<String>) {
    addresses(&object["spec"], warnings);
    let spec = &object["spec"];
    let external = spec["type"] == "ExternalName";
    let addresses = !list(spec, "externalIPs").is_empty();
    if object["metadata"]["annotations"]["service.kubernetes.io/topology-aware-hints"].is_string() {
        warnings.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".into());
    }
    if spec["type"] == "ClusterIP" && spec["clusterIP"] == "None" {
        if !text(spec, "loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if addresses {
            warnings.push("spec.externalIPs is ignored for headless services".into());
        }
        if text(spec, "sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    if addresses {
        warnings
            .push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    if external && addresses {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external && !text(spec, "externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec["trafficDistribution"] == "PreferClose" {
        warnings
            .push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

/// Addresses and networks in a form that will not be taken for ever.
fn addresses(spec: &Value, warnings: &mut Vec<String>) {
    let each = |field: &str| -> Vec<(String, String)> {
        let all = list(spec, field).iter().enumerate();
        all.filter_map(|(at, text)| Some((format!("spec.{field}[{at}]"), text.as_str()?.to_owned())))
            .collect()
    };
    for (path, address) in each("clusterIPs").iter().chain(&each("externalIPs")) {
        warnings.extend(net::ip_warnings(path, address));
    }
    if let Some(address) = spec["loadBalancerIP"].as_str() {
        warnings.extend(net::ip_warnings("spec.loadBalancerIP", address));
    }
    for (path, network) in each("loadBalancerSourceRanges") {
        warnings.extend(net::cidr_warnings(&path, &network));
    }
}

fn fraction(amounts: &Value, name: &str, path: &str, warnings: &mut Vec<String>) {
    if let Some(amount) = amounts[name].as_str().and_then(Quantity::parse)
        && (amount.nano() / MILLI) % 1000 != 0
    {
        warnings.push(format!("{path}[{name}]: fractional byte value \"{}\" {FRACTION}", amount.canonical()));
    }
}

fn claim(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for part in ["requests", "limits"] {
        fraction(&spec["resources"][part], "storage", &format!("{path}.resources.{part}"), warnings);
    }
}

fn deprecated_label(key: &str) -> Option<&'static str> {
    LABELS.iter().find(|(name, _)| *name == key).map(|(_, message)| *message)
}

/// A Pod or, with a `path` that ends in a dot, a template.
fn pod(meta: &Value, spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (key, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{path}spec.nodeSelector[{key}]: {message}"));
        }
    }
    for (at, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let here = format!("{path}spec.topologySpreadConstraints[{at}]");
        let key = text(constraint, "topologyKey");
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{here}.topologyKey: {key} is {message}"));
        }
        if constraint["labelSelector"].is_null() {
            warnings.push(format!("{here}.labelSelector: {NO_POD}"));
        }
    }
    for (at, volume) in list(spec, "volumes").iter().enumerate() {
        let here = format!("{path}spec.volumes[{at}]");
        for (field, shown, message) in VOLUMES {
            if volume[*field].is_object() {
                warnings.push(format!("{here}.{shown}: {message}"));
            }
        }
        let template = &volume["ephemeral"]["volumeClaimTemplate"];
        claim(&template["spec"], &format!("{here}.ephemeral.volumeClaimTemplate.spec"), warnings);
    }
    repeated(spec, "hostAliases", "ip", path, warnings);
    repeated(spec, "imagePullSecrets", "name", path, warnings);
    for (at, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            warnings.push(format!("{path}spec.imagePullSecrets[{at}].name: invalid empty name \"\""));
        }
    }
    for name in ["memory", "ephemeral-storage"] {
        fraction(&spec["overhead"], name, &format!("{path}spec.overhead"), warnings);
    }
    let profile = "seccomp.security.alpha.kubernetes.io/pod";
    if spec["securityContext"]["seccompProfile"].is_null() && meta["annotations"][profile].is_string() {
        warnings.push(format!("{path}metadata.annotations[{profile}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"));
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in list(spec, kind).iter().enumerate() {
            self::container(container, &format!("{path}spec.{kind}[{at}]"), warnings);
        }
    }
    ports(spec, path, warnings);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        warnings.push(format!("{path}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let rules = &spec["affinity"][affinity];
        for (field, inner) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", ""),
            ("preferredDuringSchedulingIgnoredDuringExecution", ".podAffinityTerm"),
        ] {
            for (at, term) in list(rules, field).iter().enumerate() {
                let found = if inner.is_empty() { term } else { &term["podAffinityTerm"] };
                if found["labelSelector"].is_null() {
                    warnings.push(format!(
                        "{path}spec.affinity.{affinity}.{field}[{at}]{inner}.labelSelector: {NO_POD}"
                    ));
                }
            }
        }
    }
}

fn repeated(spec: &Value, field: &str, key: &str, path: &str, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (at, item) in list(spec, field).iter().enumerate() {
        let value = text(item, key);
        if !seen.insert(value) {
            warnings.push(format!("{path}spec.{field}[{at}].{key}: duplicate {key} \"{value}\""));
        }
    }
}

fn container(container: &Value, path: &str, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for part in ["limits", "requests"] {
            fraction(&container["resources"][part], name, &format!("{path}.resources.{part}"), warnings);
        }
    }
    let mut seen = HashSet::new();
    for (at, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        let (value, own) = (text(variable, "value"), format!("$({name})"));
        if !variable["valueFrom"].is_null() || value == own || !value.contains(&own) {
            warnings.push(format!(
                "{path}.env[{at}]: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
}

/// Ports that are declared twice.
fn ports(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut seen: HashMap<(i64, &str), Vec<(&Value, String)>> = HashMap::new();
    let mut named: BTreeMap<&str, String> = BTreeMap::new();
    let restarted = |container: &&Value| container["restartPolicy"] == "Always";
    let init = list(spec, "initContainers").iter().enumerate().filter(|(_, container)| restarted(container));
    let all = init
        .map(|(at, found)| ("initContainers", at, found))
        .chain(list(spec, "containers").iter().enumerate().map(|(at, found)| ("containers", at, found)));
    for (kind, at, container) in all {
        for (number, port) in list(container, "ports").iter().enumerate() {
            let here = format!("{path}spec.{kind}[{at}].ports[{number}]");
            let key = (port["containerPort"].as_i64().unwrap_or(0), text(port, "protocol"));
            let host =
                |port: &Value| (text(port, "hostIP").to_owned(), port["hostPort"].as_i64().unwrap_or(0));
            let others = seen.entry(key).or_default();
            for (other, field) in others.iter() {
                let ((ip, own), (other_ip, other_port)) = (host(port), host(other));
                let what = if ip == other_ip && own == other_port {
                    "duplicate"
                } else if own == 0 || other_port == 0 {
                    "overlapping"
                } else if own == other_port && (ip.is_empty() != other_ip.is_empty()) {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{here}: {what} port definition with {field}"));
            }
            others.push((port, here.clone()));
            let name = text(port, "name");
            if name.is_empty() {
                continue;
            }
            match named.get(name) {
                Some(other) => warnings.push(format!("{here}: duplicate port name \"{name}\" with {other}, services and probes that select ports by name will use {other}")),
                None => {
                    named.insert(name, here);
                }
            }
        }
    }
}
