//! Label selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

/// The selector of a workload. `None` if it cannot be read or selects everything, which no workload may.
pub fn of_workload(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok().filter(|selector| !selector.selects_all())
}

/// The selector of a Service; an empty one selects nothing.
pub fn of_service(selector: Option<&BTreeMap<String, String>>) -> Option<Selector> {
    let selector = selector.filter(|selector| !selector.is_empty())?;
    Some(selector.clone().into_iter().collect())
}

/// Whether these labels are selected.
pub fn selects(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(labels)
}
