//! Bounds: each has an answer that says so.

use std::convert::Infallible;

use bytes::Bytes;
use dodai_apiserver::store::{Change, Key, Store, StoreError};
use dodai_apiserver::{ApiServer, User};
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::basics::server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn ask(server: &ApiServer, method: &str, path: &str, media: &str, body: String) -> (u16, Value) {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
    let request =
        Request::builder().method(method).uri(path).header("content-type", media).body(body).unwrap();
    let Ok(response) = server.service(User::admin("test")).oneshot(request).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused() {
    let server = server().await;
    let json_type = "application/json";
    let huge = json!({ "metadata": { "name": "a" }, "data": { "k": "v".repeat(3 << 20) } }).to_string();
    let (code, status) = ask(&server, "POST", MAPS, json_type, huge).await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    let (code, _) =
        ask(&server, "POST", MAPS, json_type, json!({ "metadata": { "name": "a" } }).to_string()).await;
    assert_eq!(code, 201);
    let operations: Vec<Value> = vec![json!({ "op": "add", "path": "/data", "value": {} }); 10_001];
    let path = format!("{MAPS}/a");
    let (code, status) =
        ask(&server, "PATCH", &path, "application/json-patch+json", json!(operations).to_string()).await;
    assert_eq!(code, 413, "{status}");
    let deep = format!("{{\"metadata\":{{\"name\":\"b\"}},\"x\":{}1{}}}", "[".repeat(110), "]".repeat(110));
    let (code, status) = ask(&server, "POST", MAPS, json_type, deep).await;
    assert_eq!(code, 400, "{status}");
    // Together larger than an object may be, though neither map is.
    let wide = json!({ "metadata": { "name": "c", "annotations": { "a": "v".repeat(200_000) } },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": { "metadata": { "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "c", "image": "i", "args": vec!["v".repeat(1000); 1500] }] } } } });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let (code, status) = ask(&server, "POST", path, json_type, wide.to_string()).await;
    assert_eq!(code, 413, "{status}");
}

#[tokio::test]
async fn names_and_paths_cannot_leave_their_place() {
    let server = server().await;
    for (path, expected) in [
        ("/api/v1/namespaces/default/../kube-system/configmaps/a", 404),
        ("/api/v1/namespaces/default/%2e%2e/configmaps", 404),
        ("/api/v1/namespaces/default/configmaps/%2e%2e%2fsecrets", 404),
        ("/api/v1/namespaces//configmaps", 404),
        ("/api/v1/namespaces/default/configmaps/a%2fb", 404),
    ] {
        let (code, status) = ask(&server, "GET", path, "", String::new()).await;
        assert_eq!(code, expected, "{path}: {status}");
    }
    let slash = json!({ "metadata": { "name": "a/b" } }).to_string();
    let (code, _) = ask(&server, "POST", MAPS, "application/json", slash).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn a_watcher_that_falls_out_of_the_history_is_told() {
    let store = Store::memory();
    let resource = "core/configmaps".into();
    let mut watcher = store.watch(&resource, 0).unwrap();
    for n in 0..10_002 {
        let value = json!({ "metadata": { "name": "a", "annotations": { "n": n.to_string() } } });
        store
            .write(&Key::new(&resource, "default", "a"), |_, _| Ok::<_, StoreError>(Change::Put(value)))
            .await
            .unwrap();
    }
    assert!(watcher.take().is_err());
    assert!(store.watch(&resource, store.revision()).is_ok());
}
