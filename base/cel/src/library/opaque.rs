//! Values of the libraries' own types.

use std::sync::Arc;

use super::authorization::{Authorizer, Decision, GroupCheck, PathCheck, ResourceRequest, User};
use super::formats::Format;
use super::net::Cidr;
use super::quantity::Quantity;
use super::semver::Semver;
use super::url::Url;

/// A value of a library's type.
#[derive(Clone, Debug)]
pub enum Opaque {
    Ip(std::net::IpAddr),
    Cidr(Cidr),
    Quantity(Arc<Quantity>),
    Url(Arc<Url>),
    Semver(Arc<Semver>),
    Format(&'static Format),
    Authorizer(Arc<dyn Authorizer>, Option<Arc<User>>),
    PathCheck(PathCheck),
    GroupCheck(GroupCheck),
    ResourceCheck(Arc<dyn Authorizer>, Arc<ResourceRequest>),
    Decision(Arc<Decision>),
}

impl Opaque {
    /// The name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Opaque::Ip(_) => "net.IP",
            Opaque::Cidr(_) => "net.CIDR",
            Opaque::Quantity(_) => "kubernetes.Quantity",
            Opaque::Url(_) => "kubernetes.URL",
            Opaque::Semver(_) => "kubernetes.Semver",
            Opaque::Format(_) => "kubernetes.NamedFormat",
            Opaque::Authorizer(..) => "kubernetes.authorization.Authorizer",
            Opaque::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Opaque::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Opaque::ResourceCheck(..) => "kubernetes.authorization.ResourceCheck",
            Opaque::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Bytes of an address or of a network's prefix; 1 for everything else.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Opaque::Ip(std::net::IpAddr::V4(_)) => 4,
            Opaque::Ip(std::net::IpAddr::V6(_)) => 16,
            Opaque::Cidr(cidr) => u64::from(cidr.bits).div_ceil(8),
            _ => 1,
        }
    }

    /// The canonical text, where there is one.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Opaque::Ip(ip) => ip.to_string(),
            Opaque::Cidr(cidr) => cidr.to_string(),
            Opaque::Quantity(quantity) => quantity.to_string(),
            Opaque::Url(url) => url.to_string(),
            Opaque::Semver(semver) => semver.to_string(),
            Opaque::Format(format) => format.name.to_owned(),
            _ => return None,
        })
    }
}

impl PartialEq for Opaque {
    fn eq(&self, other: &Opaque) -> bool {
        match (self, other) {
            (Opaque::Ip(one), Opaque::Ip(two)) => one == two,
            (Opaque::Cidr(one), Opaque::Cidr(two)) => one == two,
            (Opaque::Quantity(one), Opaque::Quantity(two)) => one.compare(two).is_eq(),
            (Opaque::Url(one), Opaque::Url(two)) => one.to_string() == two.to_string(),
            (Opaque::Semver(one), Opaque::Semver(two)) => one.compare(two).is_eq(),
            (Opaque::Format(one), Opaque::Format(two)) => one.name == two.name,
            (Opaque::Authorizer(one, user), Opaque::Authorizer(two, other)) => {
                Arc::ptr_eq(one, two) && user == other
            }
            (Opaque::ResourceCheck(_, one), Opaque::ResourceCheck(_, two)) => one == two,
            (Opaque::Decision(one), Opaque::Decision(two)) => one == two,
            _ => false,
        }
    }
}
