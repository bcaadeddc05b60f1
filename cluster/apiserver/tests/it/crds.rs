//! The CRDs of the ecosystem as published, with manifests they accept and refuse, and Gateway API's tests of its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dodai_apiserver::ApiServer;
use serde_json::{Value, json};

use super::basics::server;
use super::rbac::{Answer, admin, send, until};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/testdata/crds");
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// The cases that are not passed, each with its reason.
fn skipped() -> BTreeSet<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/crds/skip.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('"'));
    lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

fn found() -> bool {
    let found = Path::new(DATA).exists();
    if !found {
        println!("skipped: {DATA} not found");
    }
    found
}

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(DATA).join(file)).unwrap()
}

/// Objects of a file: YAML with several documents, or JSON.
fn objects(file: &str) -> Vec<Value> {
    try_objects(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn try_objects(file: &str) -> Result<Vec<Value>, String> {
    let documents = dodai_yaml::parse(&read(file)).map_err(|error| error.to_string())?;
    documents.iter().map(|document| document.to_json().map_err(|error| error.to_string())).collect()
}

fn index(role: &str) -> Vec<Value> {
    let index: Value = serde_json::from_str(&read("index.json")).unwrap();
    let files = index["files"].as_array().unwrap().iter();
    files.filter(|file| file["role"] == role).cloned().collect()
}

/// Cases that failed and are not listed, and cases that are listed and did not fail, fail the test.
fn judge(prefix: &str, failed: BTreeMap<String, String>) {
    let known: BTreeSet<String> = skipped().into_iter().filter(|case| case.starts_with(prefix)).collect();
    let failed: BTreeMap<String, String> =
        failed.into_iter().map(|(case, text)| (format!("{prefix}{case}"), text)).collect();
    let new: Vec<_> = failed.iter().filter(|(case, _)| !known.contains(*case)).collect();
    assert!(
        new.is_empty(),
        "{} cases fail:\n{}",
        new.len(),
        new.iter().map(|(case, text)| format!("{case}: {text}\n")).collect::<String>()
    );
    let fixed: Vec<_> = known.iter().filter(|case| !failed.contains_key(*case)).collect();
    assert!(fixed.is_empty(), "pass, take them out of skip.toml: {fixed:?}");
}

async fn install(server: &ApiServer, file: &Value) -> Result<(), String> {
    for crd in objects(file["file"].as_str().unwrap()) {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("{DEFINITIONS}/{name}?fieldManager=test&fieldValidation=Strict&force=true");
        let patch = [("content-type", "application/apply-patch+yaml")];
        let user = dodai_apiserver::User::admin("root");
        let made = send(server, &user, "PATCH", &path, &patch, Some(crd.clone())).await;
        if made.code != 201 && made.code != 200 {
            return Err(format!("{} {}", made.code, made.body));
        }
        // Servable when the answer is there.
        let found = admin(server, "GET", &format!("{DEFINITIONS}/{name}"), None).await.body;
        let established = found["status"]["conditions"].as_array().into_iter().flatten();
        if !established.into_iter().any(|c| c["type"] == "Established" && c["status"] == "True") {
            return Err(format!("not established: {}", found["status"]));
        }
        for version in crd["spec"]["versions"].as_array().unwrap().iter().filter(|v| v["served"] == true) {
            let group = crd["spec"]["group"].as_str().unwrap();
            let list = format!("/apis/{group}/{}", version["name"].as_str().unwrap());
            let served = admin(server, "GET", &list, None).await;
            let names = served.body["resources"].as_array().cloned().unwrap_or_default();
            if !names.iter().any(|resource| resource["name"] == crd["spec"]["names"]["plural"]) {
                return Err(format!("{list} does not serve {name}"));
            }
        }
    }
    Ok(())
}

/// Where objects of a kind live: the collection in a namespace that exists.
async fn place(server: &ApiServer, object: &Value, namespace: &str) -> Result<String, String> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let base = match api_version.split_once('/') {
        None => format!("/api/{api_version}"),
        Some(_) => format!("/apis/{api_version}"),
    };
    let served = admin(server, "GET", &base, None).await;
    let resources = served.body["resources"].as_array().cloned().unwrap_or_default();
    let resource = resources
        .iter()
        .find(|resource| {
            resource["kind"] == object["kind"] && !resource["name"].as_str().unwrap().contains('/')
        })
        .ok_or_else(|| format!("{api_version} {} is not served", object["kind"]))?;
    let plural = resource["name"].as_str().unwrap();
    if resource["namespaced"] != true {
        return Ok(format!("{base}/{plural}"));
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let body = json!({ "metadata": { "name": namespace } });
    admin(server, "POST", "/api/v1/namespaces", Some(body)).await;
    Ok(format!("{base}/namespaces/{namespace}/{plural}"))
}

async fn create(server: &ApiServer, object: &Value, namespace: &str) -> Result<Answer, String> {
    let path = place(server, object, namespace).await?;
    Ok(admin(server, "POST", &format!("{path}?fieldValidation=Strict"), Some(object.clone())).await)
}

async fn remove(server: &ApiServer, made: &Value, namespace: &str) {
    if made["kind"] == "Namespace" {
        return;
    }
    let path = place(server, made, namespace).await.unwrap();
    let name = made["metadata"]["name"].as_str().unwrap();
    let gone = admin(server, "DELETE", &format!("{path}/{name}"), None).await;
    assert_eq!(gone.code, 200, "{}", gone.body);
}

/// Whether `got` is `sent` plus what the server adds. What was null may be gone.
fn covers(got: &Value, sent: &Value, path: &str) -> Result<(), String> {
    match (got, sent) {
        (Value::Object(got), Value::Object(sent)) => {
            for (key, inner) in sent {
                if path == ".metadata" && matches!(key.as_str(), "creationTimestamp" | "uid") {
                    continue;
                }
                match got.get(key) {
                    Some(found) => covers(found, inner, &format!("{path}.{key}"))?,
                    None if inner.is_null() => {}
                    // Metadata is a Go struct upstream, whose empty maps are not written.
                    None if path == ".metadata" && inner.as_object().is_some_and(|map| map.is_empty()) => {}
                    None => return Err(format!("{path}.{key} is gone")),
                }
            }
            Ok(())
        }
        (Value::Array(got), Value::Array(sent)) if got.len() == sent.len() => got
            .iter()
            .zip(sent)
            .enumerate()
            .try_for_each(|(at, (got, sent))| covers(got, sent, &format!("{path}[{at}]"))),
        _ if got == sent => Ok(()),
        _ => Err(format!("{path} is {got}, was {sent}")),
    }
}

async fn all_installed(server: &ApiServer) -> BTreeMap<String, String> {
    let mut failed = BTreeMap::new();
    for file in index("crd") {
        if let Err(text) = install(server, &file).await {
            failed.insert(file["file"].as_str().unwrap().to_owned(), text);
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn published_definitions_install_and_take_what_they_should() {
    if !found() {
        return;
    }
    let server = server().await;
    let mut failed = all_installed(&server).await;
    let (mut n_valid, mut n_invalid) = (0, 0);
    for file in index("valid") {
        n_valid += 1;
        let name = file["file"].as_str().unwrap();
        let mut made = Vec::new();
        let objects = try_objects(name).unwrap_or_else(|error| {
            failed.insert(name.into(), error);
            Vec::new()
        });
        for object in objects {
            match create(&server, &object, "default").await {
                Ok(answer) if answer.code == 201 => {
                    // A status is not taken where it has a door of its own.
                    let mut sent = object.clone();
                    if answer.body.get("status").is_none() {
                        sent.as_object_mut().unwrap().remove("status");
                    }
                    if let Err(text) = covers(&answer.body, &sent, "") {
                        failed.insert(name.into(), text);
                    }
                    made.push(answer.body);
                }
                Ok(answer) if object["kind"] == "Namespace" && answer.code == 409 => {}
                Ok(answer) => {
                    failed.insert(name.into(), format!("{} {}", answer.code, answer.body["message"]));
                }
                Err(text) => {
                    failed.insert(name.into(), text);
                }
            }
        }
        for object in made {
            remove(&server, &object, "default").await;
        }
    }
    for file in index("invalid") {
        n_invalid += 1;
        let name = file["file"].as_str().unwrap();
        let mut texts = Vec::new();
        let mut made = Vec::new();
        for object in objects(name) {
            match create(&server, &object, "default").await {
                Ok(answer) if answer.code == 201 => made.push(answer.body),
                Ok(answer) => texts.push(answer.body["message"].as_str().unwrap_or_default().to_owned()),
                Err(text) => {
                    failed.insert(name.into(), text);
                }
            }
        }
        for object in made {
            remove(&server, &object, "default").await;
        }
        let text = texts.join("\n");
        let words = |field: &str| -> Vec<String> {
            file[field]
                .as_array()
                .into_iter()
                .flatten()
                .map(|word| word.as_str().unwrap().to_owned())
                .collect()
        };
        let (one_of, all_of) = (words("errorContainsOneOf"), words("errorContains"));
        if file["check"] == "admission webhook" {
            // The server alone knows types, patterns and keys of lists; the texts are those of the webhook.
            let by_schema = [
                "badRulesWithBoolean",
                "invalid_mute_time",
                "invalid_time_intervals",
                "duplicate_receiver_v1alpha1",
            ];
            let refused = by_schema.iter().any(|word| name.contains(word));
            if texts.is_empty() == refused {
                failed.insert(name.into(), format!("refused with {texts:?}"));
            }
            continue;
        }
        let wrong = texts.is_empty()
            || !one_of.is_empty() && !one_of.iter().any(|word| text.contains(word.as_str()))
            || !all_of.iter().all(|word| text.contains(word.as_str()));
        if wrong {
            failed.insert(name.into(), format!("refused with {texts:?}, wanted {one_of:?} {all_of:?}"));
        }
    }
    println!("{n_valid} valid, {n_invalid} invalid");
    judge("", failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_gateway_api_hold() {
    if !found() {
        return;
    }
    let server = server().await;
    for file in index("crd").into_iter().filter(|file| file["project"] == "gateway-api") {
        install(&server, &file).await.unwrap();
    }
    let cases: Value = serde_json::from_str(&read("gateway-api/v1.6.1/cel.json")).unwrap();
    let mut failed = BTreeMap::new();
    for case in cases["cases"].as_array().unwrap() {
        let mut last = None;
        let mut path = String::new();
        let mut made = Value::Null;
        for op in case["ops"].as_array().unwrap() {
            let mut object = op["object"].clone();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if !made.is_null() {
                object["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
            }
            let answer = match op["op"].as_str().unwrap() {
                "create" => {
                    path = place(&server, &object, "default").await.unwrap();
                    admin(&server, "POST", &path, Some(object)).await
                }
                "update" => admin(&server, "PUT", &format!("{path}/{name}"), Some(object)).await,
                _ => admin(&server, "PUT", &format!("{path}/{name}/status"), Some(object)).await,
            };
            if answer.code < 300 {
                made = answer.body.clone();
            }
            last = Some(answer);
        }
        let last = last.unwrap();
        let wanted = case["wantErrors"].as_array().unwrap();
        let text = last.body["message"].as_str().unwrap_or_default().to_lowercase();
        let fits = match wanted.is_empty() {
            true => last.code < 300,
            false => wanted.iter().all(|word| text.contains(&word.as_str().unwrap().to_lowercase())),
        };
        if !fits {
            let text = format!("{} {}, wanted {wanted:?}", last.code, last.body["message"]);
            failed.insert(case["name"].as_str().unwrap().to_owned(), text);
        }
        if !made.is_null() {
            remove(&server, &made, "default").await;
        }
    }
    judge("cel:", failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_gateway_api_guards_its_definitions() {
    if !found() {
        return;
    }
    let server = server().await;
    for object in objects(index("admission")[0]["file"].as_str().unwrap()) {
        let kind = object["kind"].as_str().unwrap();
        let plural = if kind.ends_with("Policy") {
            "validatingadmissionpolicies"
        } else {
            "validatingadmissionpolicybindings"
        };
        let made =
            admin(&server, "POST", &format!("{ADMISSION}/{plural}?fieldValidation=Strict"), Some(object))
                .await;
        assert_eq!((made.code, made.warnings.len()), (201, 0), "{}", made.body);
    }
    let files = index("crd").into_iter().filter(|file| file["project"] == "gateway-api");
    for file in files.clone() {
        install(&server, &file).await.unwrap();
    }
    let name = "gateways.gateway.networking.k8s.io";
    let path = format!("{DEFINITIONS}/{name}");
    let change = |annotation: &str, value: &str| json!({ "metadata": { "annotations": { format!("gateway.networking.k8s.io/{annotation}"): value } } });
    let merge = [("content-type", "application/merge-patch+json")];
    for (body, wanted) in [
        (
            change("channel", "experimental"),
            "Installing experimental CRDs on top of standard channel CRDs is prohibited by default.",
        ),
        (
            change("bundle-version", "v1.4.0"),
            "Installing CRDs with version before v1.5.0 is prohibited by default.",
        ),
    ] {
        let user = dodai_apiserver::User::admin("root");
        let refused = send(&server, &user, "PATCH", &path, &merge, Some(body)).await;
        assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")), "{}", refused.body);
        let text = refused.body["message"].as_str().unwrap();
        let start = format!(
            "customresourcedefinitions.apiextensions.k8s.io \"{name}\" is forbidden: ValidatingAdmissionPolicy 'safe-upgrades.gateway.networking.k8s.io' with binding 'safe-upgrades.gateway.networking.k8s.io' denied request: "
        );
        assert!(text.starts_with(&format!("{start}{wanted}")), "{text}");
    }
    let old: Vec<Value> = files.flat_map(|file| objects(file["file"].as_str().unwrap())).collect();
    let mut old = old.into_iter().find(|crd| crd["metadata"]["name"] == name).unwrap();
    old["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"] = "v1.4.1".into();
    assert_eq!(admin(&server, "DELETE", &path, None).await.code, 200);
    until(&server, &path, |crd| crd["code"] == 404).await;
    assert_eq!(admin(&server, "POST", DEFINITIONS, Some(old)).await.code, 422);
}
