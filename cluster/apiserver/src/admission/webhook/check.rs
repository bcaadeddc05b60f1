//! Checks of webhook configurations when they are written, with upstream's texts.

use std::collections::HashSet;

use base64::Engine;
use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::admission::expression::Sees;
use crate::admission::policy::check::{Check, failure_policy, rule, selector};
use crate::crd::text;
use crate::names;
use crate::status::Cause;

/// Checks all webhooks of a configuration.
pub(crate) fn configuration(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (at, webhook) in object["webhooks"].as_array().into_iter().flatten().enumerate() {
        let path = format!("webhooks[{at}]");
        let name = text(&webhook["name"]);
        causes.extend(names::fully_qualified(&name).into_iter().map(|detail| match name.as_str() {
            "" => Cause::required(format!("{path}.name"), ""),
            _ => Cause::invalid(format!("{path}.name"), &name.as_str().into(), &detail),
        }));
        if !seen.insert(name.clone()) {
            causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
        }
        one(old, webhook, &path, causes);
    }
}

fn one(old: Option<&Value>, webhook: &Value, path: &str, causes: &mut Vec<Cause>) {
    review_versions(&webhook["admissionReviewVersions"], &format!("{path}.admissionReviewVersions"), causes);
    for (at, found) in webhook["rules"].as_array().into_iter().flatten().enumerate() {
        rule(found, &format!("{path}.rules[{at}]"), causes);
    }
    failure_policy(&webhook["failurePolicy"], &format!("{path}.failurePolicy"), causes);
    let mut one_of = |name: &str, known: &[&str]| {
        if webhook[name].as_str().is_some_and(|word| !known.contains(&word)) {
            causes.push(Cause::not_supported(format!("{path}.{name}"), &webhook[name], known));
        }
    };
    one_of("matchPolicy", &["Equivalent", "Exact"]);
    one_of("reinvocationPolicy", &["IfNeeded", "Never"]);
    match webhook["sideEffects"].as_str() {
        None => causes
            .push(Cause::required(format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun")),
        Some("None" | "NoneOnDryRun") => {}
        Some(_) => causes.push(Cause::not_supported(
            format!("{path}.sideEffects"),
            &webhook["sideEffects"],
            &["None", "NoneOnDryRun"],
        )),
    }
    if webhook["timeoutSeconds"].as_i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        causes.push(Cause::invalid(format!("{path}.timeoutSeconds"), &webhook["timeoutSeconds"], detail));
    }
    for name in ["namespaceSelector", "objectSelector"] {
        selector(&webhook[name], &format!("{path}.{name}"), causes);
    }
    client(&webhook["clientConfig"], &format!("{path}.clientConfig"), causes);
    let sees = Sees { authorizer: true, ..Sees::default() };
    Check::new(old, causes).conditions(
        &webhook["matchConditions"],
        &format!("{path}.matchConditions"),
        sees,
        None,
    );
}

fn review_versions(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let versions: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if versions.is_empty() {
        causes.push(Cause::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = HashSet::new();
    for (at, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            causes.push(Cause::invalid(
                format!("{path}[{at}]"),
                &version.as_str().into(),
                "duplicate version",
            ));
            continue;
        }
        for detail in names::label_1035(version) {
            causes.push(Cause::invalid(format!("{path}[{at}]"), &version.as_str().into(), &detail));
        }
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        causes.push(Cause::invalid(path, value, "must include at least one of v1, v1beta1"));
    }
}

fn client(config: &Value, path: &str, causes: &mut Vec<Cause>) {
    match (config["url"].as_str(), config["service"].is_object()) {
        (Some(address), false) => url(address, &format!("{path}.url"), causes),
        (None, true) => service(&config["service"], &format!("{path}.service"), causes),
        _ => causes.push(Cause::required(path, "exactly one of url or service is required")),
    }
    let bundle = text(&config["caBundle"]);
    let pem = base64::engine::general_purpose::STANDARD.decode(&bundle).unwrap_or_default();
    if !bundle.is_empty() && !CertificateDer::pem_slice_iter(&pem).any(|found| found.is_ok()) {
        let detail = "unable to load root certificates: unable to parse bytes as PEM block";
        causes.push(Cause::invalid(format!("{path}.caBundle"), &bundle.into(), detail));
    }
}

fn url(address: &str, path: &str, causes: &mut Vec<Cause>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut wrong = |shown: &str, detail: &str| causes.push(Cause::invalid(path, &shown.into(), detail));
    let (rest, fragment) = address.split_once('#').unwrap_or((address, ""));
    match rest.parse::<Uri>() {
        Err(error) => {
            causes.push(Cause::required(path, &format!("url must be a valid URL: {error}{FORM}")));
        }
        Ok(uri) => {
            let scheme = uri.scheme_str().unwrap_or_default();
            if scheme != "https" {
                wrong(scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
            }
            let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
            if uri.host().unwrap_or_default().is_empty() {
                wrong("", &format!("host must be specified{FORM}"));
            }
            if let Some((user, _)) = authority.split_once('@') {
                wrong(user, "user information is not permitted in the URL");
            }
            if !fragment.is_empty() {
                wrong(fragment, "fragments are not permitted in the URL");
            }
            if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
                wrong(query, "query parameters are not permitted in the URL");
            }
        }
    }
}

fn service(service: &Value, path: &str, causes: &mut Vec<Cause>) {
    for name in ["name", "namespace"] {
        if text(&service[name]).is_empty() {
            causes.push(Cause::required(format!("{path}.{name}"), ""));
        }
    }
    let port = &service["port"];
    if port.as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid(format!("{path}.port"), port, detail));
    }
    let text = text(&service["path"]);
    if text.is_empty() || text == "/" {
        return;
    }
    let mut wrong =
        |detail: &str| causes.push(Cause::invalid(format!("{path}.path"), &text.as_str().into(), detail));
    let Some(rest) = text.strip_prefix('/') else { return wrong("must start with a '/'") };
    for (at, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            wrong(&format!("segment[{at}] may not be empty"));
        } else if let Some(detail) = names::subdomain(step) {
            wrong(&format!("segment[{at}]: {detail}"));
        }
    }
}
