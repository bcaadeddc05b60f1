//! Watches against a model: whatever is written, a watch delivers each change once, in order, and a list at any
//! revision is the replay of the changes up to it.

use std::collections::BTreeMap;

use dodai_apiserver::User;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, VersionMatch, WatchParams};
use kube::core::WatchEvent;
use serde_json::json;

use super::basics::server;

const NAMES: usize = 6;
const STEPS: usize = 120;

/// What the world should look like: name -> (value, selected).
type Model = BTreeMap<String, (String, bool)>;

fn model_of(maps: Vec<ConfigMap>) -> Model {
    maps.into_iter()
        .map(|map| {
            let selected = map.metadata.labels.unwrap_or_default().contains_key("pick");
            (map.metadata.name.unwrap(), (map.data.unwrap_or_default()["k"].clone(), selected))
        })
        .collect()
}

#[tokio::test]
async fn watches_and_lists_agree_with_a_model() {
    for seed in [1, 2, 3] {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let client = server().await.client(User::admin("test"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let start = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut model = Model::new();
    let mut history: Vec<(u64, Model)> = vec![(start.parse().unwrap(), model.clone())];
    for step in 0..STEPS {
        let name = format!("m{}", random.usize(..NAMES));
        let value = step.to_string();
        let pick = random.bool();
        let labels = if pick { json!({ "pick": "yes" }) } else { json!({ "pick": null }) };
        let exists = model.contains_key(&name);
        if !exists {
            let labels = if pick { json!({ "pick": "yes" }) } else { json!({}) };
            let map = json!({ "metadata": { "name": name, "labels": labels }, "data": { "k": value } });
            let map: ConfigMap = serde_json::from_value(map).unwrap();
            maps.create(&PostParams::default(), &map).await.unwrap();
            model.insert(name, (value, pick));
        } else if random.u8(..4) == 0 {
            maps.delete(&name, &Default::default()).await.unwrap();
            model.remove(&name);
        } else {
            let patch = json!({ "metadata": { "labels": labels }, "data": { "k": value } });
            maps.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            model.insert(name, (value, pick));
        }
        let now = maps.list(&ListParams::default()).await.unwrap();
        history.push((now.metadata.resource_version.unwrap().parse().unwrap(), model.clone()));
    }
    // Every revision can still be listed as it was.
    for (version, expected) in &history {
        let version = version.to_string();
        let params = ListParams {
            resource_version: Some(version),
            version_match: Some(VersionMatch::Exact),
            ..ListParams::default()
        };
        assert_eq!(model_of(maps.list(&params).await.unwrap().items), *expected, "seed {seed}");
    }
    // The last event of every watch, selected or not.
    let end = json!({ "metadata": { "name": "end", "labels": { "pick": "yes" } } });
    maps.create(&PostParams::default(), &serde_json::from_value(end).unwrap()).await.unwrap();
    // A watch from any of them ends where the model is, plain and with a selector.
    for at in [0, STEPS / 3, STEPS - 1] {
        for selected in [false, true] {
            let (version, from) = &history[at];
            let filter = |model: &Model| -> Model {
                let kept = model.iter().filter(|(_, (_, pick))| *pick || !selected);
                kept.map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            let mut params = WatchParams::default();
            if selected {
                params = params.labels("pick=yes");
            }
            let mut seen = filter(from);
            let mut last = *version;
            let mut events = maps.watch(&params, &version.to_string()).await.unwrap().boxed();
            while let Some(event) = events.next().await {
                let (map, kind) = match event.unwrap() {
                    WatchEvent::Added(map) => (map, "added"),
                    WatchEvent::Modified(map) => (map, "modified"),
                    WatchEvent::Deleted(map) => (map, "deleted"),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(error) => panic!("{error:?}"),
                };
                let now: u64 = map.metadata.resource_version.clone().unwrap().parse().unwrap();
                assert!(now > last, "seed {seed}: events go forward");
                last = now;
                let name = map.metadata.name.clone().unwrap();
                if name == "end" {
                    break;
                }
                assert_eq!(seen.contains_key(&name), kind != "added", "seed {seed}: {kind} {name}");
                match kind {
                    "deleted" => {
                        seen.remove(&name);
                    }
                    _ => seen.extend(model_of(vec![map])),
                }
            }
            assert_eq!(seen, filter(&model), "seed {seed}, from step {at}, selected {selected}");
        }
    }
}
