//! The formats that schemas of custom resources may name, with upstream's idea of each. Unknown formats are not checked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::names;

/// Formats that are patterns.
static PATTERNS: LazyLock<BTreeMap<&'static str, Regex>> = LazyLock::new(|| {
    let byte = r"(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])";
    let patterns = [
        ("bsonobjectid", "^[0-9a-fA-F]{24}$".to_owned()),
        ("uuid", uuid("[0-9a-f]", "[0-9a-f]")),
        ("uuid3", uuid("3", "[0-9a-f]")),
        ("uuid4", uuid("4", "[89ab]")),
        ("uuid5", uuid("5", "[89ab]")),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$".to_owned()),
        ("rgbcolor", format!(r"^rgb\(\s*{byte}\s*,\s*{byte}\s*,\s*{byte}\s*\)$")),
        ("ssn", "^[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}$".to_owned()),
        ("byte", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$".to_owned()),
        ("hostname", r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$".to_owned()),
        ("creditcard", r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11}|6[27][0-9]{14})$".to_owned()),
        ("time", "^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$".to_owned()),
        ("durations", "([0-9]+)\\s*([A-Za-zµ]+)".to_owned()),
        ("email", r#"^(?:[^<>@]*<)?(?:[^\s<>@,;:\\"\[\]().]+(?:\.[^\s<>@,;:\\"\[\]().]+)*|"[^"]*")@(?:[^\s<>@,;:\\"\[\]().]+(?:\.[^\s<>@,;:\\"\[\]().]+)*|\[[^\[\]\s]+\])>?$"#.to_owned()),
    ];
    patterns
        .into_iter()
        .map(|(name, pattern)| (name, Regex::new(&pattern).expect("patterns of this file compile")))
        .collect()
});

fn uuid(version: &str, variant: &str) -> String {
    let (version, variant) = (version.to_owned(), variant.to_owned());
    let third =
        if version == "[0-9a-f]" { "[0-9a-f]{4}".to_owned() } else { format!("{version}[0-9a-f]{{3}}") };
    format!("(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}$")
}

/// Whether `text` has the format, which may be written with dashes.
pub(super) fn matches(format: &str, text: &str) -> bool {
    let format = format.replace('-', "");
    match format.as_str() {
        "datetime" => date_time(text),
        "date" => date(text),
        "ipv4" => loose_ipv4(text).is_some() || text.contains('.') && text.parse::<Ipv6Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uri" => request_uri(text),
        "duration" => duration(text),
        "email" => pattern("email", text) && text.contains('<') == text.ends_with('>'),
        "hostname" => {
            pattern("hostname", text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63)
        }
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "isbn" => isbn10(text) || isbn13(text),
        "creditcard" => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            pattern("creditcard", &digits) && luhn(&digits)
        }
        "k8sshortname" => names::label(text).is_empty(),
        "k8slongname" => names::subdomain(text).is_none(),
        "bsonobjectid" | "uuid" | "uuid3" | "uuid4" | "uuid5" | "hexcolor" | "rgbcolor" | "ssn" | "byte" => {
            pattern(&format, text)
        }
        _ => true,
    }
}

/// The formats of a schema that upstream does not know for the types they stand with.
pub(crate) fn unknown(schema: &Value, found: &mut Vec<String>) {
    let known = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "datetime",
        "k8sshortname",
        "k8slongname",
    ];
    match schema {
        Value::Object(map) => {
            if let Some(format) = map.get("format").and_then(Value::as_str).filter(|text| !text.is_empty()) {
                let fits = match schema["type"].as_str().unwrap_or_default() {
                    "" | "string" => known.contains(&format.replace('-', "").as_str()),
                    "integer" => format == "int32" || format == "int64",
                    "number" => format == "float" || format == "double",
                    _ => false,
                };
                if !fits {
                    found.push(format.to_owned());
                }
            }
            for field in ["items", "additionalProperties", "not"] {
                if map.get(field).is_some_and(Value::is_object) {
                    unknown(&schema[field], found);
                }
            }
            for field in ["allOf", "anyOf", "oneOf"] {
                schema[field].as_array().into_iter().flatten().for_each(|inner| unknown(inner, found));
            }
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.for_each(|(_, inner)| unknown(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| unknown(inner, found)),
        _ => {}
    }
}

fn pattern(name: &str, text: &str) -> bool {
    PATTERNS.get(name).is_some_and(|pattern| pattern.is_match(text))
}

fn date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn date_time(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let mut parts = text.split('t');
    let (Some(day), Some(time)) = (parts.next(), parts.next()) else { return false };
    let Some(found) = PATTERNS.get("time").and_then(|pattern| pattern.captures(time)) else { return false };
    date(day) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// Zeros may lead.
fn loose_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        let part =
            parts.next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))?;
        *byte = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(bytes))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let Ok(bits) = bits.parse::<u8>() else { return false };
    loose_ipv4(address).is_some() && bits <= 32 || address.parse::<Ipv6Addr>().is_ok() && bits <= 128
}

/// 6, 8 or 20 bytes: `00:00:5e:00:53:01`, `00-00-...`, `0000.5e00.5301`.
fn mac(text: &str) -> bool {
    let (separator, width) = match text {
        _ if text.contains(':') => (':', 2),
        _ if text.contains('-') => ('-', 2),
        _ => ('.', 4),
    };
    let mut n_bytes = 0;
    for part in text.split(separator) {
        if part.len() != width || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        n_bytes += width / 2;
    }
    [6, 8, 20].contains(&n_bytes)
}

/// What Go's `url.ParseRequestURI` reads: an absolute path, or a scheme and more.
fn request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let (scheme, rest) = match text.split_once(':') {
        Some(("", _)) => return false,
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
        {
            (scheme, rest)
        }
        _ => ("", text),
    };
    let path = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        return !scheme.is_empty();
    }
    let path = match path.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        None => path,
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            if !host_and_port(authority.rsplit('@').next().unwrap_or_default()) {
                return false;
            }
            path
        }
    };
    let escaped = |(at, _): (usize, &str)| {
        path.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    path.match_indices('%').all(escaped)
}

fn host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, rest)) => (address, rest),
            None => return false,
        },
        None => text.split_at(text.rfind(':').unwrap_or(text.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    port.bytes().all(|b| b.is_ascii_digit()) && !host.chars().any(|c| " \\^`{|}#%".contains(c))
}

/// Go's durations (`1h30m`), or numbers with units among whatever else (`2 days`).
fn duration(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let units =
        ["ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr", "d", "w", "wk"];
    let long = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let Some(pattern) = PATTERNS.get("durations") else { return false };
    let mut any = false;
    for found in pattern.captures_iter(rest) {
        if found[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = found[2].to_lowercase();
        any |= units.contains(&unit.as_str()) || long.iter().any(|start| unit.starts_with(start));
    }
    any
}

fn plain_isbn(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn isbn10(text: &str) -> bool {
    let text = plain_isbn(text);
    let mut sum = 0;
    for (at, c) in text.chars().enumerate() {
        let digit = match c {
            'X' if at == 9 => 10,
            _ => match c.to_digit(10) {
                Some(digit) => digit,
                None => return false,
            },
        };
        sum += (at as u32 + 1) * digit;
    }
    text.len() == 10 && sum.is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let text = plain_isbn(text);
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(10)).collect();
    let Some(digits) = digits.filter(|digits| digits.len() == 13) else { return false };
    digits.iter().enumerate().map(|(at, digit)| digit * if at % 2 == 0 { 1 } else { 3 }).sum::<u32>() % 10
        == 0
}

fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_upstreams() {
        let good = [
            ("date-time", "2014-12-15T19:30:20.000Z"),
            ("date-time", "2014-12-15t19:30:20+01:00"),
            ("date", "2024-02-29"),
            ("uri", "/some/path"),
            ("uri", "http://[::1]:80/a?b=c"),
            ("uri", "mailto:a@b"),
            ("uri", "https://example.com"),
            ("email", "a.b@example.com"),
            ("email", "Somebody <a@b>"),
            ("hostname", "a-b.example.com"),
            ("hostname", "localhost"),
            ("ipv4", "010.1.2.3"),
            ("ipv6", "::1"),
            ("cidr", "10.0.0.0/8"),
            ("cidr", "fd00::/64"),
            ("mac", "0000.5e00.5301"),
            ("mac", "00-00-5e-00-53-01"),
            ("uuid", "F47AC10B58CC4372A5670E02B2C3D479"),
            ("uuid4", "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
            ("isbn", "0321751043"),
            ("isbn13", "978-0321751041"),
            ("creditcard", "4111-1111-1111-1111"),
            ("ssn", "111-11-1111"),
            ("hexcolor", "#FFF"),
            ("rgbcolor", "rgb(255, 0,10)"),
            ("byte", "aGk="),
            ("duration", "1h30m"),
            ("duration", "2 days"),
            ("duration", "1.5h"),
            ("k8s-short-name", "a-b"),
            ("k8s-long-name", "a.b-c"),
            ("bsonobjectid", "507f1f77bcf86cd799439011"),
            ("password", "anything"),
            ("nonsense", "anything"),
        ];
        for (format, text) in good {
            assert!(matches(format, text), "{format} {text}");
        }
        let bad = [
            ("date-time", "2014-12-15 19:30:20Z"),
            ("date-time", "2014-12-15T24:00:00Z"),
            ("date-time", "2014-12-15T19:30:20"),
            ("date", "2023-02-29"),
            ("date", "2023-2-9"),
            ("uri", "example.com"),
            ("uri", ""),
            ("uri", "http://a b/"),
            ("uri", "http://a:x/"),
            ("uri", "/a%zz"),
            ("email", "a"),
            ("email", "a@"),
            ("email", "a b@c"),
            ("hostname", "-a"),
            ("hostname", "a_b.com"),
            ("ipv4", "1.2.3"),
            ("ipv4", "1.2.3.256"),
            ("ipv6", "1.2.3.4"),
            ("cidr", "10.0.0.0/33"),
            ("cidr", "10.0.0.0"),
            ("mac", "00:00:5e:00:53"),
            ("uuid", "f47ac10b"),
            ("uuid4", "f47ac10b-58cc-3372-a567-0e02b2c3d479"),
            ("isbn10", "0321751044"),
            ("isbn13", "978-0321751042"),
            ("creditcard", "4111-1111-1111-1112"),
            ("ssn", "1111-11-111"),
            ("hexcolor", "#FFFF"),
            ("rgbcolor", "rgb(256,0,0)"),
            ("byte", ""),
            ("byte", "a"),
            ("duration", "1"),
            ("duration", "soon"),
            ("k8s-short-name", "a.b"),
            ("k8s-long-name", "A"),
            ("bsonobjectid", "507f"),
        ];
        for (format, text) in bad {
            assert!(!matches(format, text), "{format} {text}");
        }
    }
}
