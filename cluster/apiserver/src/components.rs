//! ComponentStatus: a read-only list, worked out when asked for and never stored, of the parts that a cluster has. Here all of them are this
//! process: the store always answers, the controllers where they run.

use std::sync::Arc;

use serde_json::json;

use crate::server::Server;
use crate::store::{Key, Object};

/// The names that upstream's server lists, in its order.
const NAMES: [&str; 3] = ["scheduler", "controller-manager", "etcd-0"];

/// Every component.
pub(crate) fn all(server: &Server) -> Vec<Arc<Object>> {
    NAMES.iter().map(|name| object(server, name)).collect()
}

/// One component, or nothing where there is none of that name.
pub(crate) fn one(server: &Server, name: &str) -> Option<Arc<Object>> {
    NAMES.contains(&name).then(|| object(server, name))
}

fn object(server: &Server, name: &str) -> Arc<Object> {
    let running = match name {
        "etcd-0" => true,
        // A kubelet means that the node's scheduler runs too.
        "scheduler" => server.kubelet.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_some(),
        _ => server.config.controllers,
    };
    let condition = match running {
        true => json!({ "type": "Healthy", "status": "True", "message": "ok" }),
        false => json!({ "type": "Healthy", "status": "False", "message": "not running in this process" }),
    };
    let value = json!({ "metadata": { "name": name }, "conditions": [condition] });
    Arc::new(Object::unstored(&value, &Key::new(&"core/componentstatuses".into(), "", name)))
}
