//! How a case of upstream's numbers-or-texts is judged.

use serde_json::Value;

use super::scaled;
use crate::schema::Shape;
use crate::schema::decode;
use crate::suite::same;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn case(case: &Value) -> Result<(), String> {
    match text(&case["op"]) {
        "scaled" => {
            let total = case["total"].as_i64().unwrap();
            match scaled(&case["value"], total, case["roundUp"] == true) {
                Err(error) => same(error.as_str(), text(&case["error"])),
                Ok(_) if case["error"].is_string() => Err("is read".into()),
                Ok(got) => same(got, case["result"].as_i64().unwrap()),
            }
        }
        "json" => match decode::from_slice(text(&case["input"]).as_bytes(), &Shape::IntOrString) {
            Err(_) if case["error"].is_string() => Ok(()),
            Err(error) => Err(error),
            Ok(_) if case["error"].is_string() => Err("is read".into()),
            Ok(decoded) => same(decoded.value, case["json"].clone()),
        },
        other => Err(format!("{other} is not there")),
    }
}
