//! Questions to the authorizer: the caller of an evaluation gives the decisions.

use std::fmt;
use std::sync::Arc;

use super::opaque::Opaque;
use super::{Evaluated, Function, formats, no_overload};
use crate::error::{EvalError, fail};
use crate::value::Value;

/// Decides whether something is allowed.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// `user` is who was named in the expression; `None` is the user of the request.
    fn authorize(&self, user: Option<&User>, request: &Request) -> Decision;
}

/// A user named by `serviceAccount()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub namespace: String,
    pub service_account: String,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Path(PathRequest),
    Resource(ResourceRequest),
}

/// `authorizer.path(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRequest {
    pub path: String,
    pub verb: String,
}

/// `authorizer.group(...).resource(...)`; empty is "not given".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceRequest {
    pub user: Option<User>,
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// The question could not be answered.
    pub error: Option<String>,
}

/// A question about a path, not yet asked.
#[derive(Clone, Debug)]
pub struct PathCheck {
    authorizer: Arc<dyn Authorizer>,
    user: Option<Arc<User>>,
    path: String,
}

/// A group whose resource is not named yet.
#[derive(Clone, Debug)]
pub struct GroupCheck {
    authorizer: Arc<dyn Authorizer>,
    user: Option<Arc<User>>,
    group: String,
}

impl Value {
    /// The value of a variable `authorizer`.
    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Value {
        Value::Opaque(Opaque::Authorizer(authorizer, None))
    }
}

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "path" => path,
        "group" => group,
        "serviceAccount" => service_account,
        "resource" => resource,
        "subresource" => |args| refined(args, |request, text| request.subresource = text),
        "namespace" => |args| refined(args, |request, text| request.namespace = text),
        "name" => |args| refined(args, |request, text| request.name = text),
        "fieldSelector" => |args| refined(args, |request, text| request.field_selector = text),
        "labelSelector" => |args| refined(args, |request, text| request.label_selector = text),
        "check" => check,
        "allowed" => |args| decision(args).map(|decision| Value::Bool(decision.allowed)),
        "reason" => |args| decision(args).map(|decision| Value::string(decision.reason.as_str())),
        "errored" => |args| decision(args).map(|decision| Value::Bool(decision.error.is_some())),
        "error" => {
            |args| decision(args).map(|decision| Value::string(decision.error.clone().unwrap_or_default()))
        }
        _ => return None,
    })
}

fn path(args: &[Value]) -> Evaluated {
    let [Value::Opaque(Opaque::Authorizer(authorizer, user)), Value::String(path)] = args else {
        return no_overload();
    };
    if path.is_empty() {
        return fail("path must not be empty");
    }
    let check = PathCheck { authorizer: authorizer.clone(), user: user.clone(), path: path.to_string() };
    Ok(Value::Opaque(Opaque::PathCheck(check)))
}

fn group(args: &[Value]) -> Evaluated {
    let [Value::Opaque(Opaque::Authorizer(authorizer, user)), Value::String(group)] = args else {
        return no_overload();
    };
    let check = GroupCheck { authorizer: authorizer.clone(), user: user.clone(), group: group.to_string() };
    Ok(Value::Opaque(Opaque::GroupCheck(check)))
}

fn service_account(args: &[Value]) -> Evaluated {
    let [Value::Opaque(Opaque::Authorizer(authorizer, _)), Value::String(namespace), Value::String(name)] =
        args
    else {
        return no_overload();
    };
    let fits = |format: &str, text: &Arc<str>| {
        let find = formats::find(&format!("format.{format}"));
        let validate = formats::find("validate");
        let (Some(find), Some(validate)) = (find, validate) else { return false };
        let format = find(&[]).unwrap_or(Value::Null);
        matches!(validate(&[format, Value::String(text.clone())]), Ok(Value::Optional(None)))
    };
    if !fits("dns1123Label", namespace) {
        return fail("Invalid service account namespace");
    }
    if !fits("dns1123Subdomain", name) {
        return fail("Invalid service account name");
    }
    let user = User { namespace: namespace.to_string(), service_account: name.to_string() };
    Ok(Value::Opaque(Opaque::Authorizer(authorizer.clone(), Some(Arc::new(user)))))
}

fn resource(args: &[Value]) -> Evaluated {
    let [Value::Opaque(Opaque::GroupCheck(check)), Value::String(resource)] = args else {
        return no_overload();
    };
    let request = ResourceRequest {
        user: check.user.as_deref().cloned(),
        group: check.group.clone(),
        resource: resource.to_string(),
        ..ResourceRequest::default()
    };
    Ok(Value::Opaque(Opaque::ResourceCheck(check.authorizer.clone(), Arc::new(request))))
}

fn refined(args: &[Value], refine: fn(&mut ResourceRequest, String)) -> Evaluated {
    let [Value::Opaque(Opaque::ResourceCheck(authorizer, request)), Value::String(text)] = args else {
        return no_overload();
    };
    let mut request = ResourceRequest::clone(request);
    refine(&mut request, text.to_string());
    Ok(Value::Opaque(Opaque::ResourceCheck(authorizer.clone(), Arc::new(request))))
}

fn check(args: &[Value]) -> Evaluated {
    let decision = match args {
        [Value::Opaque(Opaque::PathCheck(check)), Value::String(verb)] => {
            let request =
                Request::Path(PathRequest { path: check.path.clone(), verb: verb.to_ascii_lowercase() });
            check.authorizer.authorize(check.user.as_deref(), &request)
        }
        [Value::Opaque(Opaque::ResourceCheck(authorizer, request)), Value::String(verb)] => {
            let mut request = ResourceRequest::clone(request);
            request.verb = verb.to_string();
            let user = request.user.clone();
            authorizer.authorize(user.as_ref(), &Request::Resource(request))
        }
        _ => return no_overload(),
    };
    Ok(Value::Opaque(Opaque::Decision(Arc::new(decision))))
}

fn decision(args: &[Value]) -> Result<&Decision, EvalError> {
    match args {
        [Value::Opaque(Opaque::Decision(decision))] => Ok(decision),
        _ => Err(EvalError::no_overload()),
    }
}
