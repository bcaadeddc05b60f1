//! A request as tests look at it.

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use serde_json::Value;

/// A request of a client, before it goes out.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which number it has among the requests that one director saw.
    pub number: u64,
    /// Which instance of the program under test asks (0 outside of simulations).
    pub instance: usize,
    /// The method.
    pub method: Method,
    /// The path, `/api/v1/namespaces/default/pods/a/status`.
    pub path: String,
    /// The query, without `?`.
    pub query: String,
    /// The body.
    pub body: Bytes,
    content_type: String,
}

/// What a path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// `pods`, `deployments.apps`; empty for a path that names no resource.
    pub resource: String,
    /// Empty for all, and for what has none.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// `status` and such; empty for the object itself.
    pub subresource: String,
}

impl Call {
    pub(crate) fn new(number: u64, instance: usize, parts: &Parts, body: Bytes) -> Call {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Call {
            number,
            instance,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body,
            content_type: header(http::header::CONTENT_TYPE).to_owned(),
        }
    }

    /// Whether the query has this parameter with this value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.query.split('&').any(|part| part.split_once('=') == Some((name, value)))
    }

    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`, `deletecollection`.
    pub fn verb(&self) -> &'static str {
        match self.method.as_str() {
            "POST" => "create",
            "PUT" => "update",
            "PATCH" if self.content_type.starts_with("application/apply-patch") => "apply",
            "PATCH" => "patch",
            "DELETE" if self.named().name.is_empty() => "deletecollection",
            "DELETE" => "delete",
            _ if self.has("watch", "true") || self.has("watch", "1") => "watch",
            _ if self.named().name.is_empty() => "list",
            _ => "get",
        }
    }

    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.verb() == "watch"
    }

    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What the path names.
    pub fn named(&self) -> Named {
        let mut segments = self.path.split('/').filter(|segment| !segment.is_empty());
        let group = match segments.next() {
            Some("api") => "",
            Some("apis") => segments.next().unwrap_or_default(),
            _ => return Named::default(),
        };
        // The version.
        segments.next();
        let rest: Vec<&str> = segments.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
                (*namespace, [&[*plural], rest].concat())
            }
            rest => ("", rest.to_vec()),
        };
        let mut rest = rest.into_iter();
        let plural = rest.next().unwrap_or_default();
        let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
        Named {
            resource,
            namespace: namespace.to_owned(),
            name: text(rest.next()),
            subresource: text(rest.next()),
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.named();
        write!(f, "#{} i{} {} {}", self.number, self.instance, self.verb(), named.resource)?;
        for part in [&named.namespace, &named.name, &named.subresource] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_method_tell_what_is_done_to_what() {
        let table = [
            ("GET", "/api/v1/pods?watch=true", "watch", ["pods", "", "", ""]),
            ("GET", "/api/v1/namespaces/a/pods?limit=5", "list", ["pods", "a", "", ""]),
            ("GET", "/api/v1/namespaces/a", "get", ["namespaces", "", "a", ""]),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", ["namespaces", "", "a", "finalize"]),
            (
                "PUT",
                "/apis/apps/v1/namespaces/a/deployments/d/status",
                "update",
                ["deployments.apps", "a", "d", "status"],
            ),
            ("POST", "/apis/dodai.dev/v1alpha1/namespaces/a/apps", "create", ["apps.dodai.dev", "a", "", ""]),
            ("DELETE", "/api/v1/nodes/n", "delete", ["nodes", "", "n", ""]),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", ["pods", "a", "", ""]),
            ("GET", "/version", "list", ["", "", "", ""]),
        ];
        for (method, uri, verb, named) in table {
            let (parts, ()) = http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
            let call = Call::new(0, 0, &parts, Bytes::new());
            let found = call.named();
            let found = [found.resource, found.namespace, found.name, found.subresource];
            assert_eq!((call.verb(), found), (verb, named.map(str::to_owned)), "{method} {uri}");
        }
    }
}
