//! Admission webhooks, called over real TLS.

use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use dodai_apiserver::{ApiServer, User};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::basics::server;
use super::policies::rule;
use super::rbac::{admin, send};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Gives the `response` of a review, without its uid, by path and request.
type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A webhook server, and what it was asked.
struct Hook {
    port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hook {
    /// Serves as `127.0.0.1` and `hook.default.svc`.
    async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Hook {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "hook.default.svc".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(ca, &ca_key)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (log, answer) = (asked.clone(), Arc::new(answer) as Arc<Answer>);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log, answer) = (acceptor.clone(), log.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        reply(request, log.clone(), answer.clone())
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let bundle = base64::engine::general_purpose::STANDARD.encode(ca_certificate.pem());
        Hook { port, bundle, asked, task }
    }

    fn url(&self, path: &str) -> Value {
        json!({ "url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.bundle })
    }

    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn reply(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Arc<Answer>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap();
    log.lock().unwrap().push((path.clone(), review["request"].clone()));
    match path.as_str() {
        "/slow" => std::future::pending().await,
        "/broken" => return Ok(Response::builder().status(500).body(Full::from("no luck")).unwrap()),
        // Leads to where the API server could reach and the sender could not.
        "/elsewhere" => {
            let location = ("location", "https://127.0.0.1:1/metadata");
            return Ok(Response::builder()
                .status(302)
                .header(location.0, location.1)
                .body(Full::default())
                .unwrap());
        }
        "/huge" => return Ok(Response::new(Full::from(vec![b' '; 4 << 20]))),
        _ => {}
    }
    let mut response = answer(&path, &review["request"]);
    if response["uid"].is_null() {
        response["uid"] = review["request"]["uid"].clone();
    }
    let body =
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response });
    Ok(Response::new(Full::from(body.to_string())))
}

fn patch(operations: Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch })
}

/// Adds a webhook in a configuration of its own.
async fn install(server: &ApiServer, mutating: bool, name: &str, config: Value, more: Value) {
    let mut webhook = json!({
        "name": format!("{name}.hooks.dev"), "clientConfig": config, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [rule(&["*"], "", "configmaps")],
    });
    for (key, value) in more.as_object().unwrap() {
        webhook[key] = value.clone();
    }
    let plural = if mutating { "mutatingwebhookconfigurations" } else { "validatingwebhookconfigurations" };
    let body = json!({ "metadata": { "name": name }, "webhooks": [webhook] });
    let made = admin(server, "POST", &format!("{GROUP}/{plural}"), Some(body)).await;
    assert_eq!((made.code, made.warnings.len()), (201, 0), "{} {:?}", made.body, made.warnings);
}

fn map(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "k": "1" } })
}

#[tokio::test]
async fn a_webhook_changes_objects_and_sees_the_whole_request() {
    let server = server().await;
    let hook = Hook::start(|_, _| {
        let mut answer = patch(json!([{ "op": "add", "path": "/data/added", "value": "yes" }]));
        answer["warnings"] = json!(["take care"]);
        answer
    })
    .await;
    install(&server, true, "a", hook.url("/mutate"), json!({})).await;
    let made = admin(&server, "POST", &format!("{MAPS}?fieldManager=me"), Some(map("x"))).await;
    assert_eq!(made.body["data"], json!({ "k": "1", "added": "yes" }));
    assert_eq!(made.warnings, ["299 - \"take care\""]);
    let [(path, request)] = &hook.asked()[..] else { panic!("asked once") };
    assert_eq!(path, "/mutate");
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["kind"], json!({ "group": "", "version": "v1", "kind": "ConfigMap" }));
    assert_eq!(request["object"]["data"], json!({ "k": "1" }));
    assert_eq!(request["object"]["apiVersion"], "v1");
    assert_eq!(
        request["userInfo"],
        json!({ "username": "root", "groups": ["system:masters", "system:authenticated"] })
    );
    assert_eq!(
        request["options"],
        json!({ "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me" })
    );
    assert_eq!(
        (&request["oldObject"], &request["dryRun"], &request["namespace"]),
        (&Value::Null, &json!(false), &json!("default"))
    );
    // A change, and a deletion, of which a patch makes no sense.
    let merge = [("content-type", "application/merge-patch+json")];
    let path = format!("{MAPS}/x");
    let changed = send(
        &server,
        &User::admin("root"),
        "PATCH",
        &path,
        &merge,
        Some(json!({ "data": { "k": "2", "added": null } })),
    )
    .await;
    assert_eq!(changed.body["data"], json!({ "k": "2", "added": "yes" }));
    let [(_, request)] = &hook.asked()[..] else { panic!("asked once") };
    assert_eq!(
        (&request["oldObject"]["data"]["k"], &request["options"]["kind"]),
        (&json!("1"), &json!("PatchOptions"))
    );
    let refused = admin(&server, "DELETE", &path, None).await;
    assert_eq!(
        refused.body["message"],
        "Internal error occurred: admission webhook \"a.hooks.dev\" attempted to modify the object, which is not supported for this operation"
    );
    // Other kinds are not its business, and its own configuration is nobody's.
    assert_eq!(
        admin(
            &server,
            "POST",
            "/api/v1/namespaces/default/secrets",
            Some(json!({ "metadata": { "name": "s" } }))
        )
        .await
        .code,
        201
    );
    assert_eq!(
        admin(&server, "DELETE", &format!("{GROUP}/mutatingwebhookconfigurations/a"), None).await.code,
        200
    );
    assert_eq!(admin(&server, "DELETE", &path, None).await.code, 200);
}

#[tokio::test]
async fn a_refusal_is_answered_as_the_webhook_words_it() {
    let server = server().await;
    let hook = Hook::start(|_, request| match request["name"].as_str().unwrap_or_default() {
        "plain" => json!({ "allowed": false }),
        "worded" => json!({ "allowed": false, "status": { "code": 409, "message": "not today", "reason": "Busy", "details": { "kind": "x" } } }),
        "other-uid" => json!({ "allowed": true, "uid": "1" }),
        "patching" => patch(json!([])),
        _ => json!({ "allowed": true }),
    })
    .await;
    install(
        &server,
        false,
        "b",
        hook.url("/check"),
        json!({ "matchConditions": [{ "name": "c", "expression": "object.metadata.name != 'free'" }] }),
    )
    .await;
    let cases = [
        ("plain", 400, "admission webhook \"b.hooks.dev\" denied the request without explanation"),
        ("worded", 409, "admission webhook \"b.hooks.dev\" denied the request: not today"),
        (
            "patching",
            500,
            "Internal error occurred: failed calling webhook \"b.hooks.dev\": received invalid webhook response: validating webhook may not return response.patch",
        ),
    ];
    for (name, code, message) in cases {
        let refused = admin(&server, "POST", MAPS, Some(map(name))).await;
        assert_eq!((refused.code, refused.body["message"].as_str().unwrap()), (code, message));
        if name == "worded" {
            assert_eq!(
                (&refused.body["reason"], &refused.body["details"]),
                (&json!("Busy"), &json!({ "kind": "x" }))
            );
        }
    }
    let odd = admin(&server, "POST", MAPS, Some(map("other-uid"))).await;
    assert!(
        odd.body["message"]
            .as_str()
            .unwrap()
            .contains("received invalid webhook response: expected response.uid="),
        "{}",
        odd.body
    );
    hook.asked();
    assert_eq!(admin(&server, "POST", MAPS, Some(map("free"))).await.code, 201);
    assert!(hook.asked().is_empty());
}

#[tokio::test]
async fn what_cannot_be_called_fails_or_is_passed_over_as_the_policy_says() {
    let server = server().await;
    let hook = Hook::start(|_, _| json!({ "allowed": true })).await;
    let mut untrusted = hook.url("/check");
    untrusted["caBundle"] = Hook::start(|_, _| json!({})).await.bundle.clone().into();
    let port = hook.port;
    let cases = [
        (
            hook.url("/slow"),
            format!("Post \"https://127.0.0.1:{port}/slow?timeout=1s\": context deadline exceeded"),
        ),
        (
            hook.url("/broken"),
            "an error on the server (\"no luck\") has prevented the request from succeeding".to_owned(),
        ),
        (
            hook.url("/elsewhere"),
            "the server responded with the status code 302 but did not return more information".to_owned(),
        ),
        (hook.url("/huge"), "length limit exceeded".to_owned()),
        (
            untrusted,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned(),
        ),
        (
            json!({ "url": "https://127.0.0.1:1/x" }),
            "dial tcp 127.0.0.1:1: connect: connection refused".to_owned(),
        ),
        (
            json!({ "service": { "namespace": "default", "name": "nobody" } }),
            "Post \"https://nobody.default.svc:443/?timeout=1s\": service \"nobody\" not found".to_owned(),
        ),
    ];
    for (config, wanted) in cases {
        install(&server, false, "c", config.clone(), json!({ "timeoutSeconds": 1 })).await;
        let refused = admin(&server, "POST", MAPS, Some(map("x"))).await;
        let text = refused.body["message"].as_str().unwrap_or_default();
        assert_eq!(
            (refused.code, &refused.body["reason"]),
            (500, &json!("InternalError")),
            "{}",
            refused.body
        );
        assert!(
            text.starts_with(
                "Internal error occurred: failed calling webhook \"c.hooks.dev\": failed to call webhook: "
            ),
            "{text}"
        );
        assert!(text.ends_with(&wanted), "{text}, wanted {wanted}");
        admin(&server, "DELETE", &format!("{GROUP}/validatingwebhookconfigurations/c"), None).await;
        install(&server, false, "c", config, json!({ "timeoutSeconds": 1, "failurePolicy": "Ignore" })).await;
        assert_eq!(admin(&server, "POST", MAPS, Some(map("x"))).await.code, 201);
        admin(&server, "DELETE", &format!("{MAPS}/x"), None).await;
        admin(&server, "DELETE", &format!("{GROUP}/validatingwebhookconfigurations/c"), None).await;
    }
}

#[tokio::test]
async fn a_service_leads_to_its_endpoints() {
    let server = server().await;
    let hook = Hook::start(|_, _| json!({ "allowed": false, "status": { "message": "reached" } })).await;
    let service =
        json!({ "metadata": { "name": "hook" }, "spec": { "ports": [{ "name": "https", "port": 8443 }] } });
    assert_eq!(admin(&server, "POST", "/api/v1/namespaces/default/services", Some(service)).await.code, 201);
    let config = json!({ "service": { "namespace": "default", "name": "hook", "port": 8443, "path": "/check" }, "caBundle": hook.bundle });
    install(&server, false, "d", config, json!({})).await;
    let nobody = admin(&server, "POST", MAPS, Some(map("x"))).await;
    assert!(
        nobody.body["message"].as_str().unwrap().ends_with("no endpoints available for service \"hook\""),
        "{}",
        nobody.body
    );
    let slice = json!({
        "metadata": { "name": "hook-1", "labels": { "kubernetes.io/service-name": "hook" } }, "addressType": "IPv4",
        "ports": [{ "name": "https", "port": hook.port }],
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    assert_eq!(admin(&server, "POST", slices, Some(slice)).await.code, 201);
    let refused = admin(&server, "POST", MAPS, Some(map("x"))).await;
    assert_eq!(refused.body["message"], "admission webhook \"d.hooks.dev\" denied the request: reached");
    assert_eq!(hook.asked()[0].0, "/check");
}

#[tokio::test]
async fn webhooks_are_asked_again_in_order_and_not_on_a_dry_run_they_do_not_support() {
    let server = server().await;
    let hook = Hook::start(|path, request| {
        let field = path.trim_start_matches('/');
        match request["object"]["data"][field].is_null() {
            true => patch(json!([{ "op": "add", "path": format!("/data/{field}"), "value": "1" }])),
            false => json!({ "allowed": true }),
        }
    })
    .await;
    install(&server, true, "a", hook.url("/first"), json!({ "reinvocationPolicy": "IfNeeded" })).await;
    install(&server, true, "b", hook.url("/second"), json!({})).await;
    let made = admin(&server, "POST", MAPS, Some(map("x"))).await;
    assert_eq!(made.body["data"], json!({ "k": "1", "first": "1", "second": "1" }));
    let paths: Vec<String> = hook.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/first", "/second", "/first"]);
    let dry = admin(&server, "POST", &format!("{MAPS}?dryRun=All"), Some(map("y"))).await;
    assert_eq!((dry.code, &dry.body["data"]["second"]), (201, &json!("1")));
    assert_eq!(hook.asked()[0].1["dryRun"], true);
    let path = format!("{GROUP}/mutatingwebhookconfigurations/b");
    let mut config = admin(&server, "GET", &path, None).await.body;
    config["webhooks"][0]["sideEffects"] = "Some".into();
    let refused = admin(&server, "PUT", &path, Some(config)).await;
    assert_eq!(
        refused.body["message"],
        "MutatingWebhookConfiguration.admissionregistration.k8s.io \"b\" is invalid: webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\""
    );
}
