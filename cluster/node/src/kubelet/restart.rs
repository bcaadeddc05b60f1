//! What a starting kubelet says of Pods before it has looked at them: nobody knows whether they still run, so that none counts
//! as ready. The first look of each Pod's worker puts that right; until then nobody decides by what was true yesterday.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::error::{Error, Result};

/// Reason of the conditions that are taken back.
const REASON: &str = "NodeRestarted";

/// Takes back the readiness of every Pod of this node.
pub(crate) async fn mark_unready(client: &Client, node: &str) -> Result<()> {
    let all: Api<Pod> = Api::all(client.clone());
    let ours = ListParams::default().fields(&format!("spec.nodeName={node}"));
    for mut pod in all.list(&ours).await.map_err(Error::api("list Pods"))? {
        if !take_back(&mut pod) {
            continue;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        match api.replace_status(&pod.name_any(), &PostParams::default(), &pod).await {
            // It has gone or was changed meanwhile, by somebody who knew better.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            result => result.map(drop).map_err(Error::api("write the status of a Pod"))?,
        }
    }
    Ok(())
}

/// Whether there was something to take back.
fn take_back(pod: &mut Pod) -> bool {
    let Some(status) = pod.status.as_mut() else { return false };
    let mut changed = false;
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), "Ready" | "ContainersReady") && condition.status == "True" {
            condition.status = "False".to_string();
            condition.reason = Some(REASON.to_string());
            condition.message = Some("the node was started again and has not looked yet".to_string());
            condition.last_transition_time = Some(Time(jiff::Timestamp::now()));
            changed = true;
        }
    }
    for container in status.container_statuses.iter_mut().flatten() {
        changed |= std::mem::replace(&mut container.ready, false);
    }
    changed
}
