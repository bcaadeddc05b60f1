//! Values that are a number or a text, such as `25%`.

use serde_json::Value;

/// The number a count or a percentage of `total` comes to.
///
/// # Errors
/// Upstream's text.
pub(crate) fn scaled(value: &Value, total: i64, round_up: bool) -> Result<i64, String> {
    match value {
        Value::Null => Err("nil value for IntOrString".into()),
        Value::String(text) => {
            let percent = percent(text).map_err(|error| format!("invalid value for IntOrString: {error}"))?;
            let product = percent as f64 * total as f64 / 100.0;
            Ok(if round_up { product.ceil() } else { product.floor() } as i64)
        }
        number => number.as_i64().ok_or_else(|| "invalid value for IntOrString: it is no number".into()),
    }
}

fn percent(text: &str) -> Result<i64, String> {
    let Some(number) = text.strip_suffix('%') else {
        return Err("invalid type: string is not a percentage".into());
    };
    let wrong = || {
        format!(
            "invalid value {}: strconv.Atoi: parsing {}: invalid syntax",
            crate::status::quote(text),
            crate::status::quote(number)
        )
    };
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse().map_err(|_| wrong())
}

#[cfg(test)]
pub(crate) mod tests;
