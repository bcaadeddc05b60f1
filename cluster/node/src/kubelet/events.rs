//! Events about Pods, counted instead of repeated.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::status::time;

/// Different events about one Pod that are counted; more are not told.
const KINDS_MAX: usize = 64;
/// Longest message, as in Kubernetes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The events of one Pod.
#[derive(Default)]
pub(crate) struct Events {
    told: BTreeMap<(String, String), (String, i32)>,
}

impl Events {
    /// Tells `message`. A failure to do so is logged and otherwise without effect.
    pub(crate) async fn tell(&mut self, client: &Client, pod: &Pod, kind: &str, reason: &str, message: &str) {
        let mut message = message.to_string();
        let end = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let key = (reason.to_string(), message.clone());
        let now = time(Timestamp::now());
        let is_full = self.told.len() >= KINDS_MAX;
        let result = match self.told.get_mut(&key) {
            Some((name, count)) => {
                *count += 1;
                let patch = json!({"count": count, "lastTimestamp": now});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await
            }
            None if is_full => return,
            None => {
                let pod_name = pod.metadata.name.clone().unwrap_or_default();
                let name = format!("{pod_name}.{:016x}", fastrand::u64(..));
                self.told.insert(key, (name.clone(), 1));
                let event = Event {
                    metadata: kube::api::ObjectMeta {
                        name: Some(name),
                        namespace: Some(namespace.clone()),
                        ..Default::default()
                    },
                    involved_object: ObjectReference {
                        api_version: Some("v1".to_string()),
                        kind: Some("Pod".to_string()),
                        name: pod.metadata.name.clone(),
                        namespace: Some(namespace),
                        uid: pod.metadata.uid.clone(),
                        ..ObjectReference::default()
                    },
                    type_: Some(kind.to_string()),
                    reason: Some(reason.to_string()),
                    message: Some(message),
                    count: Some(1),
                    first_timestamp: Some(now.clone()),
                    last_timestamp: Some(now),
                    source: Some(EventSource {
                        component: Some("kubelet".to_string()),
                        host: Some(dodai_api::names::NODE_NAME.to_string()),
                    }),
                    reporting_component: Some("kubelet".to_string()),
                    reporting_instance: Some(dodai_api::names::NODE_NAME.to_string()),
                    ..Event::default()
                };
                api.create(&PostParams::default(), &event).await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "cannot write an event");
        }
    }
}
