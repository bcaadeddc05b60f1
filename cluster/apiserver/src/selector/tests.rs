//! How a case of upstream's selectors is judged.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::store::Labels;

use super::{FieldSelector, LabelSelector, OPERATORS, Requirement, unescape};
use crate::suite::same;

type Judged = Result<(), String>;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn described(selector: &LabelSelector) -> (String, Value) {
    let requirements = selector.0.clone().unwrap_or_default();
    let shown: Vec<String> = requirements.iter().map(Requirement::to_string).collect();
    let list = requirements.iter().map(|requirement| {
        let name = OPERATORS.iter().find(|(_, operator)| *operator == requirement.operator).unwrap().0;
        let mut values = requirement.values.clone();
        values.dedup();
        json!({ "key": requirement.key, "operator": name, "values": values })
    });
    (shown.join(","), list.collect())
}

fn judge(got: Result<LabelSelector, String>, case: &Value) -> Judged {
    match got {
        Err(error) => same(error.as_str(), text(&case["message"])),
        Ok(_) if case["status"] == "error" => Err(format!("wanted {}", case["message"])),
        Ok(selector) => {
            let (canonical, requirements) = described(&selector);
            same(canonical.as_str(), text(&case["canonical"]))?;
            same(requirements, case["requirements"].clone())?;
            same(selector.is_empty(), case["empty"] == true)
        }
    }
}

pub(crate) fn labels_parse(case: &Value) -> Judged {
    judge(LabelSelector::read(text(&case["selector"])), case)
}

pub(crate) fn labels_match(case: &Value) -> Judged {
    let selector = LabelSelector::read(text(&case["selector"]))?;
    same(selector.matches(&Labels::of(&case["labels"])), case["matches"] == true)
}

pub(crate) fn labels_requirement(case: &Value) -> Judged {
    let values = case["values"].as_array().into_iter().flatten().map(|value| text(value).to_owned());
    match Requirement::new(text(&case["key"]), text(&case["operator"]), values.collect()) {
        Err(error) => same(error.as_str(), text(&case["message"])),
        Ok(requirement) => same(requirement.to_string().as_str(), text(&case["canonical"])),
    }
}

pub(crate) fn label_selector_object(case: &Value) -> Judged {
    judge(LabelSelector::from_object(&case["labelSelector"]), case)
}

pub(crate) fn fields_parse(case: &Value) -> Judged {
    match FieldSelector::read(text(&case["selector"])) {
        Err(error) => same(error.as_str(), text(&case["message"])),
        Ok(selector) => {
            let list = selector.0.iter().map(|(field, value, equal)| {
                json!({ "field": field, "operator": if *equal { "=" } else { "!=" }, "value": value })
            });
            same(list.collect::<Value>(), case["requirements"].clone())?;
            same(selector.is_empty(), case["empty"] == true)
        }
    }
}

pub(crate) fn fields_match(case: &Value) -> Judged {
    let selector = FieldSelector::read(text(&case["selector"]))?;
    let fields = labels(&case["fields"]);
    let matches = selector.matches(|field| fields.get(field).cloned().unwrap_or_default());
    same(matches, case["matches"] == true)
}

pub(crate) fn fields_escape(case: &Value) -> Judged {
    let input = text(&case["input"]);
    if case["op"] == "escape" {
        // What is escaped reads as it was.
        return same(unescape(text(&case["result"]))?.as_str(), input);
    }
    match unescape(input) {
        Err(error) => same(error.as_str(), text(&case["error"])),
        Ok(got) => same(got.as_str(), text(&case["result"])),
    }
}
