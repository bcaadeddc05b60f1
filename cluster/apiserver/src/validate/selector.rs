//! Label selectors.

use super::at::At;
use crate::status::Cause;

/// Checks a label selector, if there is one.
pub(super) fn label_selector(selector: &At<'_>, causes: &mut Vec<Cause>) {
    super::labels(&selector.value["matchLabels"], &selector.get("matchLabels").path, causes);
    for requirement in selector.items("matchExpressions") {
        let values = requirement.get("values");
        let given = values.value.as_array().is_some_and(|values| !values.is_empty());
        match requirement.text("operator") {
            "In" | "NotIn" if !given => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'", causes);
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if given => {
                values
                    .forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", causes);
            }
            "Exists" | "DoesNotExist" => {}
            _ => requirement.get("operator").all(["not a valid selector operator".to_owned()], causes),
        }
        requirement.get("key").qualified(causes);
        for value in values.elements() {
            value.all(crate::names::label_value(value.own_text()), causes);
        }
    }
}

/// Whether a selector can be turned into one that selects: what `label_selector` finds wrong is more than that.
pub(super) fn is_usable(selector: &At<'_>) -> bool {
    let mut wrong = Vec::new();
    label_selector(selector, &mut wrong);
    wrong.is_empty()
}
