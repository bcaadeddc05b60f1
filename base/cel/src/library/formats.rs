//! Named formats: `format.dns1123Label().validate(text)` and the others.

use std::fmt;

use base64::Engine;

use super::lists::texts;
use super::opaque::Opaque;
use super::url::Url;
use super::{Evaluated, Function, no_overload, time};
use crate::value::Value;

/// A format with a name.
pub struct Format {
    pub name: &'static str,
    function: &'static str,
    /// How large a regular expression the check counts as, for its cost.
    pub(crate) regex_size: u64,
    check: fn(&str) -> Vec<String>,
}

impl fmt::Debug for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

const fn format(
    name: &'static str,
    function: &'static str,
    regex_size: u64,
    check: fn(&str) -> Vec<String>,
) -> Format {
    Format { name, function, regex_size, check }
}

static FORMATS: [Format; 13] = [
    format("DNS1123Label", "dns1123Label", 30, dns1123_label),
    format("DNS1123Subdomain", "dns1123Subdomain", 60, dns1123_subdomain),
    format("DNS1035Label", "dns1035Label", 30, dns1035_label),
    format("QualifiedName", "qualifiedName", 60, qualified_name),
    format("DNS1123LabelPrefix", "dns1123LabelPrefix", 30, |text| dns1123_label(&as_whole(text))),
    format("DNS1123SubdomainPrefix", "dns1123SubdomainPrefix", 60, |text| dns1123_subdomain(&as_whole(text))),
    format("DNS1035LabelPrefix", "dns1035LabelPrefix", 30, |text| dns1035_label(&as_whole(text))),
    format("LabelValue", "labelValue", 40, label_value),
    format("URI", "uri", 1103, uri),
    format("UUID", "uuid", 72, uuid),
    format("Byte", "byte", 84, byte),
    format("Date", "date", 72, |text| verdict(time::parse_date(text).is_some(), "invalid date")),
    format("DateTime", "datetime", 72, |text| verdict(is_datetime(text), "invalid datetime")),
];

pub(crate) fn find(name: &str) -> Option<Function> {
    macro_rules! constant {
        ($($index:literal)*) => {
            match FORMATS.iter().position(|format| name.strip_prefix("format.") == Some(format.function))? {
                $($index => Some(|_| Ok(Value::Opaque(Opaque::Format(&FORMATS[$index])))),)*
                _ => None,
            }
        };
    }
    match name {
        "format.named" => Some(named),
        "validate" => Some(validate),
        _ => constant!(0 1 2 3 4 5 6 7 8 9 10 11 12),
    }
}

fn named(args: &[Value]) -> Evaluated {
    let [Value::String(name)] = args else { return no_overload() };
    let found = FORMATS.iter().find(|format| format.function == &**name);
    Ok(match found {
        Some(format) => Value::some(Value::Opaque(Opaque::Format(format))),
        None => Value::Optional(None),
    })
}

fn validate(args: &[Value]) -> Evaluated {
    let [Value::Opaque(Opaque::Format(format)), Value::String(text)] = args else { return no_overload() };
    let problems = (format.check)(text);
    Ok(if problems.is_empty() { Value::Optional(None) } else { Value::some(texts(problems)) })
}

fn verdict(good: bool, problem: &str) -> Vec<String> {
    if good { Vec::new() } else { vec![problem.to_owned()] }
}

/// A prefix may end with a dash, as something follows.
fn as_whole(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut rest = rest.to_owned();
            rest.pop();
            rest + "a"
        }
        _ => text.to_owned(),
    }
}

fn alphanumeric_ends(text: &str, inner: impl Fn(u8) -> bool, ends: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends_fit = bytes.first().is_some_and(|b| ends(*b)) && bytes.last().is_some_and(|b| ends(*b));
    ends_fit && bytes.iter().all(|b| inner(*b))
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    alphanumeric_ends(text, |b| is_lower(b) || b == b'-', is_lower)
}

fn too_long(text: &str, max: usize) -> Vec<String> {
    verdict(text.len() <= max, &format!("must be no more than {max} bytes"))
}

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn dns1123_label(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 63);
    problems.extend(verdict(is_label(text), LABEL_1123));
    problems
}

fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 253);
    problems.extend(verdict(text.split('.').all(is_label), SUBDOMAIN_1123));
    problems
}

fn dns1035_label(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 63);
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    problems.extend(verdict(starts && is_label(text), LABEL_1035));
    problems
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    alphanumeric_ends(text, inner, |b| b.is_ascii_alphanumeric())
}

fn label_value(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 63);
    problems.extend(verdict(text.is_empty() || is_name(text), LABEL_VALUE));
    problems
}

fn qualified_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(dns1123_subdomain(prefix).iter().map(|text| format!("prefix part {text}")));
            }
            name
        }
        _ => {
            let suffix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {NAME_PART} {suffix}")];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else {
        problems.extend(too_long(name, 63).iter().map(|text| format!("name part {text}")));
    }
    problems.extend(verdict(is_name(name), &format!("name part {NAME_PART}")));
    problems
}

fn uri(text: &str) -> Vec<String> {
    match Url::parse_reference(text) {
        Ok(()) => Vec::new(),
        Err(detail) => vec![format!("parse {}: {detail}", super::strings::quote(text))],
    }
}

fn uuid(text: &str) -> Vec<String> {
    let hex = text.replace('-', "");
    let dashes = text.len() == hex.len()
        || text.char_indices().all(|(at, c)| c != '-' || [8, 13, 18, 23].contains(&at));
    let good = hex.len() == 32 && dashes && hex.bytes().all(|b| b.is_ascii_hexdigit());
    verdict(good, "does not match the UUID format")
}

fn byte(text: &str) -> Vec<String> {
    verdict(decode_base64(text).is_some(), "invalid base64")
}

/// Standard base64 with padding; line ends are skipped.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.replace(['\n', '\r'], "");
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn is_datetime(text: &str) -> bool {
    text.len() > 10 && time::parse_datetime(text).is_some()
}
