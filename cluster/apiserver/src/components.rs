//! ComponentStatus: a read-only list, worked out when asked for and never stored, of the parts that a cluster has.
//!
//! Upstream's three come first; here they are this process: the store always answers, the controllers where they run. What else runs
//! in the process (engines) is told by its owner, see `ApiServer::set_components`.

use std::sync::{Arc, PoisonError};

use serde_json::json;

use crate::server::Server;
use crate::store::{Key, Object};

/// The names that upstream's server lists, in its order.
const NAMES: [&str; 3] = ["scheduler", "controller-manager", "etcd-0"];
/// Longest message shown, bytes: with all of them an answer stays small.
const MESSAGE_BYTES_MAX: usize = 2000;

/// A part of this process and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// A DNS subdomain name, unique among the parts.
    pub name: String,
    /// Whether it does its work.
    pub healthy: bool,
    /// `ok`, or what is wrong, in one line.
    pub message: String,
}

/// Where further parts come from.
pub(crate) type Source = dyn Fn() -> Vec<Component> + Send + Sync;

/// Every component.
pub(crate) fn all(server: &Server) -> Vec<Arc<Object>> {
    let further = server.components.read().unwrap_or_else(PoisonError::into_inner).clone();
    let own = NAMES.iter().map(|name| own(server, name));
    own.chain(further.into_iter().flat_map(|further| further())).map(object).collect()
}

/// One component, or nothing where there is none of that name.
pub(crate) fn one(server: &Server, name: &str) -> Option<Arc<Object>> {
    all(server).into_iter().find(|object| object.name.as_ref() == name)
}

fn own(server: &Server, name: &str) -> Component {
    let healthy = match name {
        "etcd-0" => true,
        // A kubelet means that the node's scheduler runs too.
        "scheduler" => server.kubelet.read().unwrap_or_else(PoisonError::into_inner).is_some(),
        _ => server.config.controllers,
    };
    let message = if healthy { "ok" } else { "not running in this process" };
    Component { name: name.to_owned(), healthy, message: message.to_owned() }
}

fn object(component: Component) -> Arc<Object> {
    let status = if component.healthy { "True" } else { "False" };
    let end = component.message.floor_char_boundary(MESSAGE_BYTES_MAX);
    let condition = json!({ "type": "Healthy", "status": status, "message": &component.message[..end] });
    let value = json!({ "metadata": { "name": component.name }, "conditions": [condition] });
    Arc::new(Object::unstored(&value, &Key::new(&"core/componentstatuses".into(), "", &component.name)))
}
