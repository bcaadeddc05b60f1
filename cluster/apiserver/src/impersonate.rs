//! `Impersonate-*` headers: acting as somebody else, for those who may.

use std::borrow::Cow;

use http::HeaderMap;

use crate::authorize::authorize;
use crate::request::{Attributes, decode};
use crate::server::Server;
use crate::status::ApiError;
use crate::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, split_service_account};

const EXTRA: &str = "impersonate-extra-";

/// The user to act as: the one named in the headers, if there are any and `user` may impersonate all of it.
pub(crate) fn impersonate<'a>(
    server: &Server,
    user: &'a User,
    headers: &HeaderMap,
) -> Result<Cow<'a, User>, ApiError> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(Cow::Borrowed(user));
    }
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut wanted = User { name, uid, groups: all("impersonate-group"), ..User::default() };
    for key in headers.keys().map(http::HeaderName::as_str) {
        if let Some(extra) = key.strip_prefix(EXTRA) {
            wanted.extra.insert(decode(extra), all(key));
        }
    }
    if wanted.name.is_empty() {
        let any = !wanted.groups.is_empty() || !wanted.uid.is_empty() || !wanted.extra.is_empty();
        return match any {
            true => Err(ApiError::internal("requested impersonation of groups, uid or extra without a user")),
            false => Ok(Cow::Borrowed(user)),
        };
    }
    for attributes in demands(&wanted) {
        authorize(server, user, &attributes)?;
    }
    complete(&mut wanted);
    wanted.agent = user.agent.clone();
    Ok(Cow::Owned(wanted))
}

/// What the one who asks must be allowed to.
fn demands(wanted: &User) -> Vec<Attributes> {
    let demand = |group: &str, resource: &str, name: &str| Attributes {
        verb: "impersonate".into(),
        group: group.into(),
        resource: resource.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let mut demands = vec![match split_service_account(&wanted.name) {
        Some((namespace, name)) => {
            Attributes { namespace: namespace.into(), ..demand("", "serviceaccounts", name) }
        }
        None => demand("", "users", &wanted.name),
    }];
    demands.extend(wanted.groups.iter().map(|group| demand("", "groups", group)));
    if !wanted.uid.is_empty() {
        demands.push(demand("authentication.k8s.io", "uids", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        for value in values {
            let plain = demand("authentication.k8s.io", "userextras", value);
            demands.push(Attributes { subresource: key.clone(), ..plain });
        }
    }
    demands
}

/// Groups that come with a user.
fn complete(user: &mut User) {
    if user.groups.is_empty()
        && let Some((namespace, name)) = split_service_account(&user.name)
    {
        user.groups = User::service_account(namespace, name).groups;
    }
    let group = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(group.into());
    }
}
