//! `/metrics`: who may read it, and that it counts.

use dodai_apiserver::{ApiServer, Config, User};
use http::Request;
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tower::ServiceExt;

async fn metrics(server: &ApiServer, user: User) -> (u16, String) {
    let request = Request::get("/metrics").body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = server.service(user).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn requests_and_objects_are_counted_for_those_who_monitor() {
    let server = ApiServer::open(Config::default()).await.unwrap();
    server.set_metrics(|| "further 1\n".into());
    let client = server.client(User::admin("root"));
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let map = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(maps.create(&PostParams::default(), &map).await.is_err());
    maps.list(&ListParams::default()).await.unwrap();
    maps.list(&ListParams::default()).await.unwrap();

    let (code, _) = metrics(&server, User::new("alice", &["system:authenticated"])).await;
    assert_eq!(code, 403);
    let (code, text) = metrics(&server, User::new("prometheus", &["system:monitoring"])).await;
    assert_eq!(code, 200, "{text}");
    for line in [
        r#"apiserver_request_total{verb="CREATE",group="",resource="configmaps",code="201"} 1"#,
        r#"apiserver_request_total{verb="CREATE",group="",resource="configmaps",code="409"} 1"#,
        r#"apiserver_request_total{verb="LIST",group="",resource="configmaps",code="200"} 2"#,
        "apiserver_current_inflight_requests 1",
        "further 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    let stored = maps.list(&ListParams::default()).await.unwrap().items.len();
    let all = text
        .lines()
        .find(|line| line.starts_with(r#"apiserver_storage_objects{group="",resource="configmaps"}"#));
    let all: usize = all.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(all >= stored, "{all} of {stored}");
}
