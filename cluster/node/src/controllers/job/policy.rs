//! What a failure means: `podFailurePolicy` and `backoffLimitPerIndex`; and when enough has succeeded: `successPolicy`.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::{indexes, pod};
use crate::controllers::planted::{self, Bug};
use crate::controllers::pods;

/// What a failed Pod does to its Job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts against the limits.
    Count,
    /// It never was.
    Ignore,
    /// Its index is not tried again.
    FailIndex,
    /// The Job fails, for this reason.
    FailJob(String),
}

/// The first rule that fits decides; a Pod that nobody ran to an end fits none.
pub(super) fn judge(spec: &JobSpec, found: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    if pods::phase(found) != "Failed" {
        return Verdict::Count;
    }
    for (place, rule) in rules.iter().enumerate() {
        let Some(why) = fits(rule, found) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" if spec.backoff_limit_per_index.is_some() => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {place}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// What of the Pod fits the rule, in upstream's words.
fn fits(rule: &PodFailurePolicyRule, found: &Pod) -> Option<String> {
    let name = format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any());
    if let Some(wanted) = &rule.on_exit_codes {
        let status = found.status.as_ref()?;
        let all = status.container_statuses.iter().chain(status.init_container_statuses.iter()).flatten();
        return all.into_iter().find_map(|container| {
            let code = exit_code(container).filter(|code| fits_code(wanted, &container.name, *code))?;
            Some(format!("Container {} for pod {name} failed with exit code {code}", container.name))
        });
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    patterns.iter().find_map(|pattern| {
        let condition = pods::condition(found, &pattern.type_)?;
        let wanted = pattern.status.as_deref().unwrap_or("True");
        (condition.status == wanted).then(|| format!("Pod {name} has condition {}", pattern.type_))
    })
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    Some(code).filter(|code| *code != 0)
}

fn fits_code(wanted: &PodFailurePolicyOnExitCodesRequirement, container: &str, code: i32) -> bool {
    let is_meant = wanted.container_name.as_deref().is_none_or(|name| name == container);
    is_meant && wanted.values.contains(&code) == (wanted.operator == "In")
}

/// Whether this failure of an index is one too many.
pub(super) fn exhausts_index(spec: &JobSpec, found: &Pod) -> bool {
    let is_last = |limit| pod::index_failures(found) >= limit && !planted::is(Bug::JobForgetsIndexLimit);
    spec.backoff_limit_per_index.is_some_and(is_last)
}

/// The place of the first rule of `successPolicy` that holds.
pub(super) fn succeeded_by(spec: &JobSpec, completed: &BTreeSet<i32>) -> Option<usize> {
    let rules = spec.success_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    rules.iter().position(|rule| {
        let named = rule.succeeded_indexes.as_deref();
        let named = named.map(|text| indexes::parse(text, spec.completions.unwrap_or(0)));
        let done = named.as_ref().map_or(completed.len(), |named| named.intersection(completed).count());
        match (rule.succeeded_count, &named) {
            (Some(count), _) => i32::try_from(done).unwrap_or(i32::MAX) >= count,
            (None, Some(named)) => done == named.len(),
            (None, None) => false,
        }
    })
}
