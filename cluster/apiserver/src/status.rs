//! `Status` answers: every refusal of the server is one, with upstream's code, reason and text.

use serde_json::{Map, Value, json};

use crate::store::StoreError;

/// One violated rule of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    pub reason: &'static str,
    pub field: String,
    pub message: String,
}

impl Cause {
    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Cause {
        Cause { reason, field: field.into(), message }
    }

    pub fn required(field: impl Into<String>, detail: &str) -> Cause {
        let message =
            if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Cause::new("FieldValueRequired", field, message)
    }

    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        let shown = show(value);
        let message = if detail.is_empty() {
            format!("Invalid value: {shown}")
        } else {
            format!("Invalid value: {shown}: {detail}")
        };
        Cause::new("FieldValueInvalid", field, message)
    }

    /// As `invalid`, for a value that is shown as it stands.
    pub fn invalid_text(field: impl Into<String>, shown: &str, detail: &str) -> Cause {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {shown}: {detail}"))
    }

    /// As `invalid`, without a value.
    pub fn invalid_bare(field: impl Into<String>, detail: &str) -> Cause {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {detail}"))
    }

    pub fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause::new("FieldValueTypeInvalid", field, format!("Invalid value: {}: {detail}", show(value)))
    }

    pub fn forbidden(field: impl Into<String>, detail: &str) -> Cause {
        Cause::new("FieldValueForbidden", field, format!("Forbidden: {detail}"))
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause::new("FieldValueDuplicate", field, format!("Duplicate value: {}", show(value)))
    }

    pub fn not_found(field: impl Into<String>, value: &Value) -> Cause {
        Cause::new("FieldValueNotFound", field, format!("Not found: {}", show(value)))
    }

    pub fn too_long(field: impl Into<String>, max: usize) -> Cause {
        Cause::new("FieldValueTooLong", field, format!("Too long: may not be more than {max} bytes"))
    }

    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Cause {
        let items = if max == 1 { "item" } else { "items" };
        Cause::new("FieldValueTooMany", field, format!("Too many: {actual}: must have at most {max} {items}"))
    }

    /// `known` in the order in which it is shown.
    pub fn not_supported(field: impl Into<String>, value: &Value, known: &[&str]) -> Cause {
        let known: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
        let message = format!("Unsupported value: {}: supported values: {}", show(value), known.join(", "));
        Cause::new("FieldValueNotSupported", field, message)
    }

    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

/// A value as upstream prints it in an error: strings quoted, the rest as JSON.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}

/// Quotes as Go's `%q` does for the characters that occur.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    /// `None` leaves `details` out.
    pub details: Option<Box<Details>>,
    /// `metadata.continue` of a 410.
    pub list_continue: Option<Box<str>>,
    /// A Status that somebody else has made, such as a webhook: it is answered as it is.
    pub status: Option<Box<Value>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

/// `plural` or `plural.group`, as upstream names resources in messages.
pub(crate) fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl ApiError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { code, reason, message: message.into(), details: None, list_continue: None, status: None }
    }

    fn about(mut self, plural: &str, group: &str, name: &str) -> ApiError {
        let details = self.details.get_or_insert_default();
        details.name = name.into();
        details.group = group.into();
        details.kind = plural.into();
        self
    }

    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> ApiError {
        ApiError::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn not_found(plural: &str, group: &str, name: &str) -> ApiError {
        let message = format!("{} {} not found", qualified(plural, group), quote(name));
        ApiError::new(404, "NotFound", message).about(plural, group, name)
    }

    /// A path that is no resource.
    pub fn no_such_path() -> ApiError {
        let mut error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(Box::default());
        error
    }

    pub fn method_not_allowed() -> ApiError {
        let text = "the server does not allow this method on the requested resource";
        let mut error = ApiError::new(405, "MethodNotAllowed", text);
        error.details = Some(Box::default());
        error
    }

    pub fn already_exists(plural: &str, group: &str, name: &str) -> ApiError {
        let message = format!("{} {} already exists", qualified(plural, group), quote(name));
        ApiError::new(409, "AlreadyExists", message).about(plural, group, name)
    }

    pub fn conflict(plural: &str, group: &str, name: &str, detail: &str) -> ApiError {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {detail}",
            qualified(plural, group),
            quote(name)
        );
        ApiError::new(409, "Conflict", message).about(plural, group, name)
    }

    pub fn modified(plural: &str, group: &str, name: &str) -> ApiError {
        let text =
            "the object has been modified; please apply your changes to the latest version and try again";
        ApiError::conflict(plural, group, name, text)
    }

    pub fn forbidden(plural: &str, group: &str, name: &str, detail: &str) -> ApiError {
        let message = match name {
            "" => format!("{} is forbidden: {detail}", qualified(plural, group)),
            name => format!("{} {} is forbidden: {detail}", qualified(plural, group), quote(name)),
        };
        ApiError::new(403, "Forbidden", message).about(plural, group, name)
    }

    /// A 422; `kind` as in `ConfigMap` or `Widget`, with the group for what is not in the core group.
    pub fn invalid(kind: &str, group: &str, name: &str, causes: Vec<Cause>) -> ApiError {
        // The message names each once; the causes are all there, as upstream.
        let mut texts: Vec<String> = Vec::new();
        for text in causes.iter().map(Cause::text) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let what = match &*texts {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {} is invalid: {what}", qualified(kind, group), quote(name));
        let mut error = ApiError::new(422, "Invalid", message).about(kind, group, name);
        if let Some(details) = &mut error.details {
            details.causes = causes;
        }
        error
    }

    pub fn unsupported_media(accepted: &[&str]) -> ApiError {
        let text = "the body of the request was in an unknown format - accepted media types include: ";
        ApiError::new(415, "UnsupportedMediaType", format!("{text}{}", accepted.join(", ")))
    }

    pub fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(413, "RequestEntityTooLarge", message)
    }

    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(410, "Expired", message)
    }

    /// A plain 500 as upstream gives for errors without a reason.
    pub fn plain(message: impl Into<String>) -> ApiError {
        ApiError::new(500, "", message)
    }

    pub fn internal(message: impl std::fmt::Display) -> ApiError {
        let mut error = ApiError::new(500, "InternalError", format!("Internal error occurred: {message}"));
        let details = error.details.get_or_insert_default();
        details.causes = vec![Cause { reason: "", field: String::new(), message: message.to_string() }];
        error
    }

    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(503, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl Into<String>) -> ApiError {
        let mut error = ApiError::new(504, "Timeout", message);
        error.details.get_or_insert_default().retry_after_seconds = 1;
        error
    }

    /// The object that goes over the wire.
    pub fn to_value(&self) -> Value {
        if let Some(status) = &self.status {
            return (**status).clone();
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(token) = &self.list_continue {
            status["metadata"]["continue"] = (**token).into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !text.is_empty() {
                map.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut value = Map::new();
                for (key, text) in
                    [("reason", cause.reason), ("message", &cause.message), ("field", &cause.field)]
                {
                    if !text.is_empty() {
                        value.insert(key.into(), text.into());
                    }
                }
                Value::Object(value)
            });
            map.insert("causes".into(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(map)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Locked(..) => ApiError::internal(error),
            _ => ApiError::unavailable(error.to_string()),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// The answer to a deletion that removed the object at once.
pub(crate) fn deleted(plural: &str, group: &str, name: &str, uid: &str) -> Value {
    let details = Details {
        name: name.into(),
        group: group.into(),
        kind: plural.into(),
        uid: uid.into(),
        ..Details::default()
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value(),
    })
}
