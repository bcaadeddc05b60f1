//! What a Deployment's spec says: its strategy resolved to numbers, and which ReplicaSet is of its template.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Label of a ReplicaSet and its Pods: the hash of the template.
pub(super) const LABEL_HASH: &str = "pod-template-hash";
/// Upstream's default of `maxSurge` and `maxUnavailable`.
const DEFAULT_PERCENT: &str = "25%";
/// Upstream's word for a deadline that never comes.
const NO_DEADLINE: i32 = i32::MAX;

/// `spec.replicas`.
pub(super) fn replicas(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1).max(0)
}

/// Whether the strategy is `RollingUpdate`, the default.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    strategy.is_none_or(|strategy| strategy == "RollingUpdate")
}

/// `(maxSurge, maxUnavailable)` in Pods: surge rounded up, unavailable down and at most all, never both 0.
pub(super) fn limits(deployment: &Deployment) -> (i32, i32) {
    let Some(spec) = deployment.spec.as_ref().filter(|_| is_rolling(deployment)) else { return (0, 0) };
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let default = IntOrString::String(DEFAULT_PERCENT.to_owned());
    let of = |value: Option<&IntOrString>, up: bool| scaled(value.unwrap_or(&default), replicas(spec), up);
    let surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
    let unavailable = of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
    // Both 0 would never move. A Deployment of 0 replicas has nothing to move.
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, unavailable.min(replicas(spec)))
}

/// A number, or a percentage of `total`; what cannot be read counts as 0, since the API server lets none in.
pub(crate) fn scaled(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent =
                text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok()).unwrap_or(0).max(0);
            let hundredths = percent.saturating_mul(i64::from(total));
            let pods = if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
            i32::try_from(pods).unwrap_or(i32::MAX)
        }
    }
}

/// Seconds without progress after which a roll-out is given up on; `None` for never.
pub(super) fn deadline_s(spec: &DeploymentSpec) -> Option<i32> {
    spec.progress_deadline_seconds.filter(|seconds| *seconds != NO_DEADLINE)
}

/// The template without the label that we add.
pub(super) fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(LABEL_HASH);
    }
    metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
    metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
    template
}

/// Whether the ReplicaSet is of the Deployment's template. The label that we add does not count.
pub(super) fn is_of_template(set: &ReplicaSet, spec: &DeploymentSpec) -> bool {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    template.is_some_and(|template| without_hash(template) == without_hash(&spec.template))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_surge_up_and_unavailable_down() {
        let percent = |text: &str, total, up| scaled(&IntOrString::String(text.to_owned()), total, up);
        assert_eq!((percent("25%", 10, true), percent("25%", 10, false)), (3, 2));
        assert_eq!((percent("25%", 1, true), percent("25%", 1, false)), (1, 0));
        assert_eq!((percent("0%", 10, true), percent("100%", 10, false)), (0, 10));
        assert_eq!(scaled(&IntOrString::Int(3), 1, true), 3);
    }
}
