//! Pods and Pod templates: the spec as a whole. Parts of it are in `pod/`.

mod container;
mod handler;
pub(super) mod placement;
pub(super) mod resources;
mod security;
mod update;
mod volume;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::at::At;
use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;

pub(super) use update::{ephemeral, update};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCHES_LEN_MAX: usize = 2048;
const HOSTNAME_LEN_MAX: usize = 64;

/// What parts of a Pod have to know of it.
pub(super) struct PodContext<'a> {
    /// Sound volumes by name.
    volumes: BTreeMap<&'a str, &'a Value>,
    /// Names of resource claims.
    claims: BTreeSet<&'a str>,
    grace_seconds: Option<i64>,
    restart_policy: &'a str,
    os: Option<&'a str>,
    host_users: bool,
}

/// Checks a Pod, new or changed.
pub(super) fn object(object: &Value, causes: &mut Vec<Cause>) {
    let place = At::new(&object["spec"], "spec");
    annotations(&At::new(&object["metadata"]["annotations"], "metadata.annotations"), &place, causes);
    spec_of(&place, Some(super::text(&object["metadata"], "name")), causes);
    if place.text("serviceAccountName").is_empty() {
        for volume in place.items("volumes") {
            for source in volume.get("projected").items("sources") {
                if source.has("serviceAccountToken") {
                    let detail = "must not be specified when serviceAccountName is not set";
                    source.get("serviceAccountToken").forbidden(detail, causes);
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in place.items(list) {
            container::untrimmed_image(&container, causes);
        }
    }
}

/// Checks a new Pod.
pub(super) fn create(new: &Value, causes: &mut Vec<Cause>) {
    object(new, causes);
    let place = At::new(&new["spec"], "spec");
    if !place.items("ephemeralContainers").is_empty() {
        place.get("ephemeralContainers").forbidden("cannot be set on create", causes);
    }
    if !place.text("nodeName").is_empty() && !place.items("schedulingGates").is_empty() {
        place.get("nodeName").forbidden("cannot be set until all schedulingGates have been cleared", causes);
    }
}

/// Checks a Pod template at `path`.
pub(super) fn template(template: &At<'_>, causes: &mut Vec<Cause>) {
    let meta = &template.value["metadata"];
    super::labels(&meta["labels"], &template.get("labels").path, causes);
    let place = At::new(&meta["annotations"], template.get("annotations").path);
    super::annotations(place.value, &place.path, causes);
    let spec = template.get("spec");
    annotations(&place, &spec, causes);
    spec_of(&spec, None, causes);
    if !spec.items("ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        spec.get("ephemeralContainers").forbidden(detail, causes);
    }
}

/// Annotations with a meaning for Pods.
fn annotations(annotations: &At<'_>, spec: &At<'_>, causes: &mut Vec<Cause>) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let place = |key: &str| format!("{}[{key}]", annotations.path);
    let mirror = &annotations.value[MIRROR];
    if mirror.is_string() && spec.text("nodeName").is_empty() {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        causes.push(Cause::invalid(place(MIRROR), mirror, detail));
    }
    let cost = &annotations.value[COST];
    if let Some(text) = cost.as_str() {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let padded = digits.len() > 1 && digits.starts_with('0') || text == "-0";
        if padded || text.starts_with('+') || text.parse::<i32>().is_err() {
            causes.push(Cause::invalid(place(COST), cost, "must be a 32bit integer"));
        }
    }
}

fn spec_of(spec: &At<'_>, pod_name: Option<&str>, causes: &mut Vec<Cause>) {
    if !spec.has("terminationGracePeriodSeconds") {
        spec.get("terminationGracePeriodSeconds").required("", causes);
    }
    let pod = PodContext {
        volumes: volume::volumes(spec, pod_name, causes),
        claims: spec
            .items("resourceClaims")
            .iter()
            .map(|claim| claim.text("name"))
            .filter(|name| !name.is_empty())
            .collect(),
        grace_seconds: spec.int("terminationGracePeriodSeconds"),
        restart_policy: spec.text("restartPolicy"),
        os: spec.has("os").then(|| spec.value["os"]["name"].as_str().unwrap_or_default()),
        host_users: spec.value["hostUsers"] != false,
    };
    resource_claims(spec, causes);
    container::containers(spec, &pod, causes);
    resources::pod(spec, &pod.claims, causes);
    if spec.flag("hostNetwork") {
        host_network(spec, pod_name.is_some(), causes);
    }
    words(spec, causes);
    super::labels(&spec.value["nodeSelector"], &spec.get("nodeSelector").path, causes);
    security::pod(spec, causes);
    placement::affinity(&spec.get("affinity"), causes);
    dns(spec, causes);
    for gate in spec.items("readinessGates") {
        gate.get("conditionType").qualified(causes);
    }
    scheduling_gates(spec, causes);
    placement::spread(&spec.get("topologySpreadConstraints"), causes);
    security::host_users(spec, causes);
    hostname_override(spec, causes);
    texts(spec, causes);
    placement::tolerations(&spec.get("tolerations"), causes);
    for alias in spec.items("hostAliases") {
        alias.get("ip").ip(causes);
        for hostname in alias.items("hostnames") {
            hostname.subdomain(causes);
        }
    }
    // Checked as limits, and said to be some.
    let overhead = spec.get("overhead");
    for (name, value) in overhead.moved(&overhead.get("limits").path).entries() {
        resources::container_resource_name(&value, name, causes);
        resources::amount(&value, name, causes);
    }
    security::system(spec, causes);
    file_volumes(spec, causes);
}

fn words(spec: &At<'_>, causes: &mut Vec<Cause>) {
    const POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    spec.get("restartPolicy").one_of_required(&["Always", "OnFailure", "Never"], causes);
    spec.get("dnsPolicy").one_of_required(POLICIES, causes);
    let preemption = spec.get("preemptionPolicy");
    if preemption.is_set() {
        preemption.one_of_required(&["PreemptLowerPriority", "Never"], causes);
    }
}

fn texts(spec: &At<'_>, causes: &mut Vec<Cause>) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName"] {
        if !spec.text(field).is_empty() {
            spec.get(field).subdomain(causes);
        }
    }
    if spec.has("runtimeClassName") {
        spec.get("runtimeClassName").subdomain(causes);
    }
    if spec.has("activeDeadlineSeconds") {
        spec.get("activeDeadlineSeconds").in_range(1, i64::from(i32::MAX), causes);
    }
    for field in ["hostname", "subdomain"] {
        if !spec.text(field).is_empty() {
            spec.get(field).label(causes);
        }
    }
}

fn resource_claims(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for claim in spec.items("resourceClaims") {
        let name = claim.text("name");
        if name.is_empty() {
            claim.get("name").required("", causes);
        } else if !seen.insert(name) {
            claim.get("name").duplicate(causes);
        } else {
            claim.get("name").label(causes);
        }
        let (by_name, by_template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        let members = [
            ("Name", "name", Value::String(String::new())),
            ("ResourceClaimName", "resourceClaimName", Value::Null),
            ("ResourceClaimTemplateName", "resourceClaimTemplateName", Value::Null),
        ];
        let shown = super::at::internal(claim.value, &members);
        match (by_name.is_set(), by_template.is_set()) {
            (true, true) => {
                let detail =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                claim.invalid_as(shown, detail, causes);
            }
            (false, false) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                claim.invalid_as(shown, detail, causes);
            }
            _ => {}
        }
        for given in [by_name, by_template].iter().filter(|given| given.is_set()) {
            given.subdomain(causes);
        }
    }
}

fn host_network(spec: &At<'_>, is_pod: bool, causes: &mut Vec<Cause>) {
    for container in spec.items("containers") {
        for port in container.items("ports") {
            let (host, own) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            if (is_pod || host != 0) && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                port.get("hostPort").invalid_as(host, detail, causes);
            }
        }
    }
}

fn dns(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.text("dnsPolicy") == "None" {
        if !config.is_set() {
            return config.required("must provide `dnsConfig` when `dnsPolicy` is None", causes);
        }
        if servers.elements().is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return servers.required(detail, causes);
        }
    }
    if servers.elements().len() > NAMESERVERS_MAX {
        servers.invalid(&format!("must not have more than {NAMESERVERS_MAX} nameservers"), causes);
    }
    for server in servers.elements() {
        server.ip(causes);
    }
    let all = searches.elements();
    if all.len() > SEARCHES_MAX {
        searches.invalid(&format!("must not have more than {SEARCHES_MAX} search paths"), causes);
    }
    if all.iter().map(|search| search.own_text().len() + 1).sum::<usize>() > SEARCHES_LEN_MAX + 1 {
        let detail = format!(
            "must not have more than {SEARCHES_LEN_MAX} characters (including spaces) in the search list"
        );
        searches.invalid(&detail, causes);
    }
    for search in all.iter().filter(|search| search.own_text() != ".") {
        let text = search.own_text();
        let bare = text.strip_suffix('.').unwrap_or(text);
        for detail in names::search_domain(bare) {
            search.invalid_as(bare, &detail, causes);
        }
    }
    for option in config.items("options") {
        if option.text("name").is_empty() {
            option.required("must not be empty", causes);
        }
    }
}

fn scheduling_gates(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.get("name").moved(&gate.path);
        name.qualified(causes);
        if !seen.insert(gate.text("name")) {
            name.duplicate(causes);
        }
    }
}

fn hostname_override(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let name = spec.get("hostnameOverride");
    if !name.is_set() {
        return;
    }
    if spec.flag("setHostnameAsFQDN") {
        name.forbidden("may not be specified when setHostnameAsFQDN is true", causes);
    }
    if spec.flag("hostNetwork") {
        name.forbidden("may not be specified when hostNetwork is true", causes);
    }
    if name.own_text().len() > HOSTNAME_LEN_MAX {
        causes.push(Cause::too_long(name.path.clone(), HOSTNAME_LEN_MAX));
    }
    name.subdomain(causes);
}

/// Variables that come out of a file: its volume is an `emptyDir`.
fn file_volumes(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let volumes = spec.items("volumes");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for variable in spec.items(list).iter().flat_map(|container| container.items("env")) {
            let reference = variable.get("valueFrom").get("fileKeyRef");
            if !reference.is_set() {
                continue;
            }
            let name = reference.get("volumeName");
            match volumes.iter().rfind(|volume| volume.text("name") == name.own_text()) {
                None => name.not_found(causes),
                Some(volume) if !volume.has("emptyDir") => {
                    name.all(["referenced volume must be of type emptyDir".to_owned()], causes);
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether a text is a quantity and above zero.
pub(super) fn is_positive(text: &str) -> bool {
    Quantity::parse(text).is_some_and(|quantity| quantity.nano() > 0)
}
