//! Reviews: who am I, what may I, what may he, whose token is this. Nothing is stored.

use serde_json::{Value, json};

use crate::authenticate::token_user;
use crate::rbac;
use crate::request::Attributes;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::token::ISSUER;
use crate::user::User;

const AUTHORIZATION: &str = "authorization.k8s.io";

/// Fills in the status of a review of these groups; `None` for other kinds.
pub(crate) fn answer(
    server: &Server,
    user: &User,
    plural: &str,
    namespace: &str,
    review: &mut Value,
) -> Result<Option<Value>, ApiError> {
    let spec = review["spec"].clone();
    Ok(Some(match plural {
        "selfsubjectreviews" => json!({ "userInfo": user_info(user) }),
        "selfsubjectaccessreviews" => {
            check(&spec, false)?;
            access(server, user, &spec)
        }
        "subjectaccessreviews" => {
            check(&spec, true)?;
            access(server, &subject(&spec), &spec)
        }
        "localsubjectaccessreviews" => {
            check_local(&spec, review, namespace)?;
            access(server, &subject(&spec), &spec)
        }
        "selfsubjectrulesreviews" => {
            let rules = rules(server, user, spec["namespace"].as_str().unwrap_or_default())?;
            review["spec"] = json!({});
            rules
        }
        "tokenreviews" => token(server, &spec)?,
        _ => return Ok(None),
    }))
}

fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = user.groups.clone().into();
    }
    for (key, values) in &user.extra {
        info["extra"][key] = values.clone().into();
    }
    info
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: text("user"),
        uid: text("uid"),
        groups: texts(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
        agent: None,
    }
}

fn refuse(causes: Vec<Cause>) -> Result<(), ApiError> {
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("", AUTHORIZATION, "", causes)) }
}

fn check(spec: &Value, of_another: bool) -> Result<(), ApiError> {
    refuse(problems(spec, of_another))
}

fn problems(spec: &Value, of_another: bool) -> Vec<Cause> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let mut causes = Vec::new();
    if resource.is_object() && path.is_object() {
        let text = "cannot be specified in combination with resourceAttributes";
        causes.push(Cause::invalid("spec.nonResourceAttributes", path, text));
    }
    if !resource.is_object() && !path.is_object() {
        let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        causes.push(Cause::invalid("spec.resourceAttributes", &Value::Null, text));
    }
    let nobody = spec["user"].as_str().unwrap_or_default().is_empty() && texts(&spec["groups"]).is_empty();
    if of_another && nobody {
        let text = "at least one of user or group must be specified";
        causes.push(Cause::invalid("spec.user", &"".into(), text));
    }
    causes
}

fn check_local(spec: &Value, review: &Value, namespace: &str) -> Result<(), ApiError> {
    let mut causes = problems(spec, true);
    if review["metadata"]["namespace"].as_str().is_some_and(|named| !named.is_empty() && named != namespace) {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(text));
    }
    let resource = &spec["resourceAttributes"];
    if resource.is_object() && resource["namespace"].as_str().unwrap_or_default() != namespace {
        let field = "spec.resourceAttributes.namespace";
        causes.push(Cause::invalid(field, &resource["namespace"], "must match metadata.namespace"));
    }
    if spec["nonResourceAttributes"].is_object() {
        let text = "disallowed on this kind of request";
        causes.push(Cause::invalid("spec.nonResourceAttributes", &spec["nonResourceAttributes"], text));
    }
    refuse(causes)
}

fn access(server: &Server, user: &User, spec: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = match spec.get("resourceAttributes") {
        Some(resource) if resource.is_object() => Attributes {
            verb: text(&resource["verb"]),
            group: text(&resource["group"]),
            resource: text(&resource["resource"]),
            subresource: text(&resource["subresource"]),
            namespace: text(&resource["namespace"]),
            name: text(&resource["name"]),
            path: String::new(),
        },
        _ => Attributes {
            verb: text(&spec["nonResourceAttributes"]["verb"]),
            path: text(&spec["nonResourceAttributes"]["path"]),
            ..Attributes::default()
        },
    };
    let decision = server.rbac.decide(&server.store, user, &attributes);
    let mut status = json!({ "allowed": decision.allowed });
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

fn rules(server: &Server, user: &User, namespace: &str) -> Result<Value, ApiError> {
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (rules, missing) = server.rbac.rules_for(&server.store, user, namespace);
    let resources = rules.iter().filter(|rule| !rule.resources.is_empty());
    let urls = rules.iter().filter(|rule| !rule.non_resource_urls.is_empty());
    let mut status = json!({
        "resourceRules": resources.map(rbac::Rule::resource_rule).collect::<Vec<Value>>(),
        "nonResourceRules": urls
            .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }))
            .collect::<Vec<Value>>(),
        "incomplete": !missing.is_empty(),
    });
    if !missing.is_empty() {
        status["evaluationError"] = rbac::aggregate(&missing).into();
    }
    Ok(status)
}

fn token(server: &Server, spec: &Value) -> Result<Value, ApiError> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences = texts(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    Ok(match token_user(server, token, &audiences) {
        Ok(Some((user, audiences))) => {
            json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })
        }
        Ok(None) => json!({ "user": {}, "error": "[invalid bearer token]" }),
        Err(error) => json!({ "user": {}, "error": format!("[invalid bearer token, {error}]") }),
    })
}
