//! Rules for texts that are no names of objects: ports, headers, variables, percentages, numbers. With upstream's texts.

/// A text of upstream's for a rule that is a regular expression.
fn rule(what: &str, examples: &[&str], pattern: &str) -> String {
    if examples.is_empty() {
        return format!("{what} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{what} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// The name of a port.
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters".into());
    }
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || !text.bytes().all(fine) {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".into());
    }
    wrong
}

/// A number between two others, both included.
pub(crate) fn in_range(number: i64, low: i64, high: i64) -> Option<String> {
    (!(low..=high).contains(&number)).then(|| format!("must be between {low} and {high}, inclusive"))
}

/// A user or a group.
pub(crate) fn user_id(number: i64) -> Option<String> {
    in_range(number, 0, i64::from(i32::MAX))
}

/// `25%`.
pub(crate) fn percent(text: &str) -> Option<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let what = "a valid percent string must be a numeric string followed by an ending '%'";
    (!fine).then(|| rule(what, &["1%", "93%"], "[0-9]+%"))
}

/// The name of an HTTP header.
pub(crate) fn header(text: &str) -> Option<String> {
    let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let what = "a valid HTTP header must consist of alphanumeric characters or '-'";
    (!fine).then(|| rule(what, &["X-Header-Name"], "[-A-Za-z0-9]+"))
}

/// The name of an environment variable.
pub(crate) fn variable(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.is_empty() {
        wrong.push("environment variable name must be non-empty".into());
    }
    if !text.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        wrong.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .into(),
        );
    }
    wrong
}

/// What a name made into a file may not be.
pub(crate) fn no_parent(text: &str) -> Option<String> {
    match text {
        "." | ".." => Some(format!("must not be '{text}'")),
        _ if text.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// An identifier of C, which CEL's are too.
pub(crate) fn identifier(text: &str) -> Option<String> {
    let fine = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let what = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    (!fine).then(|| rule(what, &["my_name", "MY_NAME", "MyName"], "[A-Za-z_][A-Za-z0-9_]*"))
}

/// Rules of upstream that no kind checked here needs so far; they stand here with the cases that prove them.
#[cfg(test)]
pub(crate) mod unused {
    use super::rule;

    /// A path below a domain: `example.com/some/path`.
    pub(crate) fn domain_path(text: &str) -> Vec<String> {
        if text.is_empty() {
            return vec![String::new()];
        }
        let (host, path) = match text.split_once('/') {
            Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
            _ => return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".into()],
        };
        let mut wrong = crate::names::subdomain_errors(host);
        let pattern = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
            wrong.push(rule("Invalid path", &[], pattern));
        }
        wrong
    }

    /// The name of an environment variable as it was before it was relaxed.
    pub(crate) fn strict_variable(text: &str) -> Vec<String> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let good = !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(fine);
        let what = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        let first = (!good).then(|| rule(what, &examples, "[-._a-zA-Z][-._a-zA-Z0-9]*"));
        first.into_iter().chain(super::no_parent(text)).collect()
    }

    /// A whole number in its one form.
    pub(crate) fn decimal_integer(text: &str) -> Option<String> {
        if text.is_empty() {
            return Some("must be non-empty".into());
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let fine = text == "0"
            || !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        (!fine).then(|| "must be a valid decimal integer in canonical form".into())
    }

    /// A key below a domain: `example.com/key`.
    pub(crate) fn domain_key(text: &str) -> Vec<String> {
        if text.is_empty() {
            return vec![String::new()];
        }
        let wrong = super::super::qualified_name(text);
        if wrong.is_empty() && !text.contains('/') {
            return vec!["must be a domain-prefixed key (such as \"acme.io/foo\")".into()];
        }
        wrong
    }

    /// A domain of at least two labels, each of which is one.
    pub(crate) fn full_domain(text: &str) -> Vec<String> {
        if text.is_empty() {
            return vec![String::new()];
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let wrong = super::super::subdomain_errors(text);
        if !wrong.is_empty() {
            return vec![wrong.join(",")];
        }
        if !text.contains('.') {
            return vec!["should be a domain with at least two segments separated by dots".into()];
        }
        let labels = text.split('.').map(super::super::label).find(|wrong| !wrong.is_empty());
        labels.map(|wrong| wrong.join(",")).into_iter().collect()
    }
}
