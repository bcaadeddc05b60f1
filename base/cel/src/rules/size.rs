//! How large values can be: from the limits of a schema, or from what fits into a request.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::escape::escape;
use crate::estimate::Range;

/// Largest request, in bytes.
pub(crate) const REQUEST_SIZE_MAX: u64 = 3 << 20;

/// The size at `path` (`self`, then fields, `@items`, `@keys`, `@values`); `None` if the schema does not say.
pub(crate) fn size_at(schema: &Json, path: &[Arc<str>]) -> Option<Range> {
    let mut schema = schema;
    for step in path.get(1..)? {
        schema = match &**step {
            "@items" => schema.get("items")?,
            "@values" => schema.get("additionalProperties").filter(|schema| schema.is_object())?,
            "@keys" => {
                schema.get("additionalProperties").filter(|schema| schema.is_object())?;
                return Some(Range { min: 0, max: 0 });
            }
            field => {
                let properties = schema.get("properties")?.as_object()?;
                // A reserved word that is not escaped has no size, as upstream.
                let known = properties.iter().find(|(name, _)| escape(name).as_deref() == Some(field));
                known?.1
            }
        };
    }
    Some(Range { min: 0, max: max_elements(schema) })
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema[name].as_i64().map(|limit| u64::try_from(limit).unwrap_or(0))
}

fn max_elements(schema: &Json) -> u64 {
    let text = REQUEST_SIZE_MAX - 2;
    let int_or_string = schema["x-kubernetes-int-or-string"].as_bool().unwrap_or(false);
    if int_or_string {
        return limit(schema, "maxLength").map_or(text, |limit| limit.saturating_mul(4));
    }
    match schema["type"].as_str().unwrap_or_default() {
        "array" => limit(schema, "maxItems").unwrap_or_else(|| text / (min_size(&schema["items"]) + 1)),
        "object" if schema["additionalProperties"].is_object() => limit(schema, "maxProperties")
            .unwrap_or_else(|| text / (min_size(&schema["additionalProperties"]) + 6)),
        "string" => match schema["format"].as_str().unwrap_or_default() {
            "byte" => limit(schema, "maxLength").unwrap_or(text),
            "duration" | "date-time" => 32,
            "date" => 12,
            _ => match (limit(schema, "maxLength"), schema["enum"].as_array()) {
                (Some(limit), _) => limit.saturating_mul(4),
                (None, Some(values)) if !values.is_empty() => {
                    let longest = values.iter().filter_map(Json::as_str).map(str::len).max();
                    longest.unwrap_or(0) as u64
                }
                _ => text,
            },
        },
        _ => 0,
    }
}

/// The shortest JSON of a value, in bytes.
pub(crate) fn min_size(schema: &Json) -> u64 {
    if schema["x-kubernetes-int-or-string"].as_bool().unwrap_or(false) {
        return 1;
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" if !schema["additionalProperties"].is_object() => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
            let mut size = 2;
            for name in required {
                let property = &schema["properties"][name];
                if property.is_object() && property["default"].is_null() {
                    size += name.len() as u64 + min_size(property) + 4;
                }
            }
            size
        }
        "string" => match schema["format"].as_str().unwrap_or_default() {
            "duration" => 3,
            "date" => 12,
            "date-time" => 21,
            _ => 2,
        },
        "boolean" => 4,
        "number" | "integer" => 1,
        _ => 2,
    }
}
