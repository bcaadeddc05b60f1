//! Services, Ingresses, NetworkPolicies.

mod ingress;
mod policy;
mod service;

pub(super) use ingress::{ingress, ingress_status};
pub(super) use policy::network_policy;
pub(super) use service::{endpoint_ip, service, service_status, service_update};
pub(crate) use service::{service_addresses, service_addresses_are_sound};

use super::at::At;
use crate::names;
use crate::status::Cause;

/// The name of a host in a status.
fn status_host(ingress: &At<'_>, causes: &mut Vec<Cause>) {
    let host = ingress.get("hostname");
    if !host.own_text().is_empty() {
        host.subdomain(causes);
        if names::is_ip(host.own_text()) {
            host.invalid("must be a DNS name, not an IP address", causes);
        }
    }
}
