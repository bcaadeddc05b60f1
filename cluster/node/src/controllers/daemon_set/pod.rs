//! The Pods of a DaemonSet: made for one Node, and tolerant of what befalls Nodes.

use dodai_kit::plan::controller_reference;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use kube::ResourceExt;

use crate::controllers::{history, pods};

/// Label: the generation of the template, from the annotation of the same meaning.
const LABEL_GENERATION: &str = "pod-template-generation";
/// Annotation that old clients set.
const GENERATION: &str = "deprecated.daemonset.template.generation";
/// The field by which a Pod asks for a Node by name.
const FIELD_NAME: &str = "metadata.name";
/// What every such Pod tolerates: key and effect.
const TOLERATIONS: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// In addition for those on the host's network.
const NETWORK_TOLERATION: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// A Pod of the template, without a name, that tolerates what such Pods tolerate.
pub(super) fn draft(set: &DaemonSet, spec: &DaemonSetSpec, name: String) -> Pod {
    let generate = Some(format!("{}-", set.name_any()));
    let owner = controller_reference(set);
    let mut pod = pods::from_template(&spec.template, set.namespace(), name, generate, owner);
    tolerate(pod.spec.get_or_insert_default());
    pod
}

/// The Pod for this Node, of the revision with this hash.
pub(super) fn new(set: &DaemonSet, spec: &DaemonSetSpec, name: String, node: &str, hash: &str) -> Pod {
    let mut pod = draft(set, spec, name);
    pod.labels_mut().insert(history::LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = set.annotations().get(GENERATION) {
        pod.labels_mut().insert(LABEL_GENERATION.to_owned(), generation.clone());
    }
    let affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let affinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![NodeSelectorRequirement {
                key: FIELD_NAME.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
        }],
    });
    pod
}

fn tolerate(spec: &mut PodSpec) {
    let on_host = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATIONS.into_iter().chain(on_host.then_some(NETWORK_TOLERATION)) {
        let wanted = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
}

/// The Node that a Pod is on or made for.
pub(super) fn node(pod: &Pod) -> Option<&str> {
    pods::node(pod).or_else(|| {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let mut fields =
            required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let named = fields.find(|field| field.key == FIELD_NAME && field.operator == "In")?;
        named.values.as_ref()?.first().map(String::as_str)
    })
}

/// The hash of the revision that it is of.
pub(super) fn hash(pod: &Pod) -> &str {
    pod.labels().get(history::LABEL).map_or("", String::as_str)
}
