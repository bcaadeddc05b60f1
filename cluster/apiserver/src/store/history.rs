//! Tests of how much of the past is kept.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Event, EventKind, Key, Object, Published, RING_BYTES_MAX, RING_EVENTS_MAX, RING_EVENTS_MIN, RING_KEPT,
};

/// The store's past of one resource after so many events, each so long after the one before; how many of them are kept,
/// and after which revision the past begins.
fn after(events: u64, apart: Duration, bytes: usize) -> (usize, u64) {
    let key = Key::new(&"core/configmaps".into(), "default", "a");
    let mut published = Published::default();
    let began = Instant::now();
    let text = "x".repeat(bytes);
    for revision in 1..=events {
        let value = json!({ "metadata": { "name": "a", "namespace": "default" }, "data": { "text": text } });
        let json = serde_json::to_vec(&value).unwrap().into();
        let object = Arc::new(Object::index(&value, json, revision, &key));
        let at = began + apart * u32::try_from(revision).unwrap();
        let event = Event { kind: EventKind::Modified, object, previous: None, line: OnceLock::new(), at };
        published.resource(&key.resource).remember(Arc::new(event));
    }
    let resource = published.resource(&key.resource);
    let bytes: usize = resource.ring.iter().map(|event| event.object.json.len()).sum();
    assert_eq!(resource.ring_bytes, bytes);
    (resource.ring.len(), resource.floor)
}

#[test]
fn the_past_ends_with_age_number_and_bytes_and_some_of_it_always_stays() {
    // Old events go; the newest stay, however old they are.
    let seconds = RING_KEPT.as_secs();
    assert_eq!(after(1000, Duration::from_secs(1), 1), (seconds as usize + 1, 1000 - seconds - 1));
    assert_eq!(after(1000, RING_KEPT * 2, 1), (RING_EVENTS_MIN, 1000 - RING_EVENTS_MIN as u64));
    // Many at once are bounded by number and by bytes.
    let many = RING_EVENTS_MAX as u64 + 50;
    assert_eq!(after(many, Duration::ZERO, 1), (RING_EVENTS_MAX, 50));
    let (kept, floor) = after(80, Duration::ZERO, RING_BYTES_MAX / 50);
    assert!(kept < 50 && floor == 80 - kept as u64, "{kept} {floor}");
    // One that is larger than all is kept nevertheless.
    assert_eq!(after(3, Duration::ZERO, RING_BYTES_MAX), (1, 2));
}
