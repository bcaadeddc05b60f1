//! Whether an object already says what we would apply.

use serde_json::Value;

/// Whether everything in `wanted` stands in `current` with the same value.
///
/// Fields that `wanted` does not have (defaults, status, other people's) do not count. Lists must have the same length and
/// cover each other position by position, which holds for what a controller writes itself; a list that others extend
/// makes this answer `false`, which only costs an apply that changes nothing. `null`, `{}` and `[]` in `wanted` are
/// covered by absence, as a server drops them.
pub fn covers(current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match current.get(key) {
                Some(current) => covers(current, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(current), Value::Array(wanted)) => {
            current.len() == wanted.len()
                && current.iter().zip(wanted).all(|(current, wanted)| covers(current, wanted))
        }
        (current, wanted) => current == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn defaults_and_foreign_fields_do_not_count_but_values_and_lengths_do() {
        let current = json!({"spec": {"replicas": 2, "selector": {"a": "b"}, "list": [{"name": "x", "extra": 1}]}, "status": {}});
        assert!(covers(&current, &json!({"spec": {"replicas": 2, "list": [{"name": "x"}]}})));
        assert!(covers(&current, &json!({"spec": {"empty": {}, "none": null, "nothing": []}})));
        assert!(!covers(&current, &json!({"spec": {"replicas": 3}})));
        assert!(!covers(&current, &json!({"spec": {"list": []}})));
        assert!(!covers(&current, &json!({"spec": {"new": "x"}})));
    }
}
