//! Label and field selectors.

use std::fmt;

use serde_json::Value;

use crate::kinds::Kind;
use crate::status::{ApiError, quote};
use crate::store::Labels;

/// How a label is compared. `=` and `==` are kept apart, since they are written as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Greater,
    Less,
}

const OPERATORS: [(&str, Operator); 9] = [
    ("in", Operator::In),
    ("notin", Operator::NotIn),
    ("=", Operator::Equals),
    ("==", Operator::DoubleEquals),
    ("!=", Operator::NotEquals),
    ("gt", Operator::Greater),
    ("lt", Operator::Less),
    ("exists", Operator::Exists),
    ("!", Operator::Absent),
];

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    key: String,
    operator: Operator,
    /// Sorted.
    values: Vec<String>,
}

impl Requirement {
    /// Checks a requirement.
    ///
    /// # Errors
    /// Upstream's text.
    pub(crate) fn new(key: &str, operator: &str, mut values: Vec<String>) -> Result<Requirement, String> {
        check_key(key)?;
        let shown = |values: &[String]| Value::from(values.to_vec());
        let found = OPERATORS.into_iter().find(|(name, _)| *name == operator);
        let Some((_, operator)) = found else {
            let names: Vec<String> = OPERATORS.iter().map(|(name, _)| quote(name)).collect();
            return Err(format!(
                "operator: Unsupported value: {}: supported values: {}",
                quote(operator),
                names.join(", ")
            ));
        };
        let wrong = match (operator, values.len()) {
            (Operator::In | Operator::NotIn, 0) => "for 'in', 'notin' operators, values set can't be empty",
            (Operator::Equals | Operator::DoubleEquals | Operator::NotEquals, n) if n != 1 => {
                "exact-match compatibility requires one single value"
            }
            (Operator::Exists | Operator::Absent, n) if n > 0 => {
                "values set must be empty for exists and does not exist"
            }
            (Operator::Greater | Operator::Less, n) if n != 1 => {
                "for 'Gt', 'Lt' operators, exactly one value is required"
            }
            _ => "",
        };
        if !wrong.is_empty() {
            return Err(format!("values: Invalid value: {}: {wrong}", shown(&values)));
        }
        if matches!(operator, Operator::Greater | Operator::Less) {
            for (at, value) in values.iter().enumerate() {
                if value.parse::<i64>().is_err() {
                    return Err(format!(
                        "values[{at}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                        quote(value)
                    ));
                }
            }
        }
        for (at, value) in values.iter().enumerate() {
            check_value(key, at, value)?;
        }
        values.sort();
        Ok(Requirement { key: key.to_owned(), operator, values })
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = || value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let compared = || number(value).zip(number(self.values.first().map(String::as_str)));
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::In | Operator::Equals | Operator::DoubleEquals => listed(),
            Operator::NotIn | Operator::NotEquals => !listed(),
            Operator::Greater => compared().is_some_and(|(value, than)| value > than),
            Operator::Less => compared().is_some_and(|(value, than)| value < than),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requirement { key, operator, values } = self;
        let joined = values.join(",");
        match operator {
            Operator::Exists => f.write_str(key),
            Operator::Absent => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={joined}"),
            Operator::DoubleEquals => write!(f, "{key}=={joined}"),
            Operator::NotEquals => write!(f, "{key}!={joined}"),
            Operator::In => write!(f, "{key} in ({joined})"),
            Operator::NotIn => write!(f, "{key} notin ({joined})"),
            Operator::Greater => write!(f, "{key}>{joined}"),
            Operator::Less => write!(f, "{key}<{joined}"),
        }
    }
}

/// A label selector: all requirements must hold; `None` selects nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelSelector(Option<Vec<Requirement>>);

impl Default for LabelSelector {
    /// Selects everything.
    fn default() -> LabelSelector {
        LabelSelector(Some(Vec::new()))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Sign(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Sign(sign) => sign,
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    'outer: while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = &rest[c.len_utf8()..];
            continue;
        }
        for sign in ["==", "!=", "=", "!", ",", "(", ")", ">", "<"] {
            if let Some(after) = rest.strip_prefix(sign) {
                found.push(Token::Sign(sign));
                rest = after;
                continue 'outer;
            }
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=!,()><".contains(c)).unwrap_or(rest.len());
        found.push(Token::Word(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    found
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn sign(&self) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Sign(sign)) => Some(sign),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    fn found(&self) -> String {
        self.peek().map(|token| token.text().to_owned()).unwrap_or_default()
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.sign() == Some("!");
        if absent {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(key)) => key,
            other => {
                let found = other.map(|token| token.text().to_owned()).unwrap_or_default();
                return Err(format!("found '{found}', expected: identifier"));
            }
        };
        // Here the key has no name of its own yet.
        check_key(&key).map_err(|error| error.replacen("key:", "<nil>:", 1))?;
        if absent {
            return Requirement::new(&key, "!", Vec::new());
        }
        let operator = match self.peek().cloned() {
            None | Some(Token::Sign(",")) => return Requirement::new(&key, "exists", Vec::new()),
            Some(Token::Sign(sign @ ("=" | "==" | "!="))) => sign,
            Some(Token::Sign(">")) => "gt",
            Some(Token::Sign("<")) => "lt",
            Some(Token::Word(word)) if word == "in" => "in",
            Some(Token::Word(word)) if word == "notin" => "notin",
            Some(other) => {
                return Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text()));
            }
        };
        self.at += 1;
        let values = match operator {
            "in" | "notin" => self.list()?,
            _ => vec![self.single()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn single(&mut self) -> Result<String, String> {
        match self.peek().cloned() {
            None | Some(Token::Sign(",")) => Ok(String::new()),
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            Some(other) => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        if self.sign() != Some("(") {
            return Err(format!("found '{}' expected: '('", self.found()));
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            match self.next() {
                Some(Token::Word(word)) => {
                    values.push(word);
                    match self.next() {
                        Some(Token::Sign(",")) => {}
                        Some(Token::Sign(")")) => break,
                        other => {
                            let found = other.map(|token| token.text().to_owned()).unwrap_or_default();
                            return Err(format!("found '{found}', expected: ',' or ')'"));
                        }
                    }
                }
                Some(Token::Sign(",")) => values.push(String::new()),
                Some(Token::Sign(")")) => {
                    values.push(String::new());
                    break;
                }
                other => {
                    let found = other.map(|token| token.text().to_owned()).unwrap_or_default();
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
            }
        }
        // In a text, what stands twice counts once.
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match crate::names::label_key(key) {
        Some(detail) => Err(format!("key: Invalid value: {}: {detail}", quote(key))),
        None => Ok(()),
    }
}

fn check_value(key: &str, at: usize, value: &str) -> Result<(), String> {
    let wrong = crate::names::label_value_errors(value);
    match (!wrong.is_empty()).then(|| wrong.join("; ")) {
        Some(detail) => Err(format!("values[{at}][{key}]: Invalid value: {}: {detail}", quote(value))),
        None => Ok(()),
    }
}

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Result<LabelSelector, ApiError> {
        LabelSelector::read(text).map_err(ApiError::bad_request)
    }

    fn read(text: &str) -> Result<LabelSelector, String> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        match parser.peek() {
            None | Some(Token::Word(_) | Token::Sign("!")) => {}
            Some(other) => {
                return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text()));
            }
        }
        while parser.peek().is_some() {
            let requirement = parser.requirement();
            requirements
                .push(requirement.map_err(|detail| format!("unable to parse requirement: {detail}"))?);
            match parser.peek().cloned() {
                None => break,
                Some(Token::Sign(",")) => {
                    parser.at += 1;
                    match parser.peek() {
                        Some(Token::Word(_) | Token::Sign("!")) => {}
                        other => {
                            let found = other.map(|token| token.text().to_owned()).unwrap_or_default();
                            return Err(format!("found '{found}', expected: identifier after ','"));
                        }
                    }
                }
                Some(other) => {
                    return Err(format!("found '{}', expected: ',' or 'end of string'", other.text()));
                }
            }
        }
        requirements.sort_by(|one: &Requirement, two| one.key.cmp(&two.key));
        Ok(LabelSelector(Some(requirements)))
    }

    /// Reads a LabelSelector object: nothing selects nothing, an empty one everything.
    ///
    /// # Errors
    /// When a requirement is not valid, in upstream's words.
    pub(crate) fn from_object(selector: &Value) -> Result<LabelSelector, String> {
        let Some(selector) = selector.as_object() else { return Ok(LabelSelector(None)) };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, "=", vec![value])?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default();
            let values = expression["values"].as_array().into_iter().flatten();
            let values: Vec<String> =
                values.map(|value| value.as_str().unwrap_or_default().to_owned()).collect();
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => "in",
                "NotIn" => "notin",
                "Exists" => "exists",
                "DoesNotExist" => "!",
                other => return Err(format!("{} is not a valid label selector operator", quote(other))),
            };
            let none = values.is_empty();
            // A Go slice without elements is shown as nothing.
            let found = Requirement::new(key, operator, values);
            requirements.push(match none {
                true => found.map_err(|text| text.replace("Invalid value: []", "Invalid value: null"))?,
                false => found?,
            });
        }
        requirements.sort_by(|one, two| one.key.cmp(&two.key));
        Ok(LabelSelector(Some(requirements)))
    }

    /// Whether everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        let Some(requirements) = &self.0 else { return false };
        requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

/// A field selector: field, value, and whether it must be equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<(String, String, bool)>);

/// Kinds with words of their own for a field that they do not select by.
fn names_fields_itself(kind: &Kind) -> bool {
    const CORE: [&str; 7] =
        ["pods", "nodes", "replicationcontrollers", "events", "namespaces", "secrets", "services"];
    kind.is_custom()
        || kind.group.is_empty() && CORE.contains(&&*kind.plural)
        || matches!(kind.group.as_str(), "events.k8s.io" | "certificates.k8s.io")
}

impl FieldSelector {
    /// `known` are the fields of the kind.
    pub(crate) fn parse(text: &str, known: &[&str], kind: &Kind) -> Result<FieldSelector, ApiError> {
        let selector = FieldSelector::read(text).map_err(ApiError::bad_request)?;
        for (field, _, _) in &selector.0 {
            if known.contains(&field.as_str()) {
                continue;
            }
            if kind.is("batch", "jobs") {
                let text = format!("field label {} not supported for Job", quote(field));
                return Err(ApiError::bad_request(text));
            }
            if names_fields_itself(kind) {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            let names: Vec<String> = known.iter().map(|name| quote(name)).collect();
            return Err(ApiError::bad_request(format!(
                "{} is not a known field selector: only {}",
                quote(field),
                names.join(", ")
            )));
        }
        Ok(selector)
    }

    /// Reads the terms, whatever their fields; they are sorted.
    pub(crate) fn read(text: &str) -> Result<FieldSelector, String> {
        let mut parts = split_terms(text);
        parts.sort();
        let mut terms = Vec::new();
        for term in parts.into_iter().filter(|term| !term.is_empty()) {
            let split = ["!=", "==", "="]
                .iter()
                .filter_map(|sign| Some((term.find(sign)?, *sign)))
                .min_by_key(|found| found.0);
            let Some((at, sign)) = split else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            let value = unescape(&term[at + sign.len()..])?;
            terms.push((term[..at].to_owned(), value, sign != "!="));
        }
        Ok(FieldSelector(terms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, field: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|(name, value, equal)| (field(name) == *value) == *equal)
    }

    /// The one value that the selector demands of a field.
    pub(crate) fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(known, _, equal)| known == field && *equal).map(|(_, value, _)| value.as_str())
    }

    /// Whether only `metadata.name` and `metadata.namespace` are asked for.
    pub(crate) fn only_names(&self) -> bool {
        self.0.iter().all(|(name, _, _)| name == "metadata.name" || name == "metadata.namespace")
    }
}

fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
        } else if let Some(term) = terms.last_mut() {
            term.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("invalid field selector: invalid escape sequence: \\{other}"));
                }
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", c as u32));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
pub(crate) mod tests;

/// The fields by which a kind can be selected beside name and namespace.
pub(crate) fn known_fields(group: &str, plural: &str) -> &'static [&'static str] {
    match (group, plural) {
        ("", "pods") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["metadata.name", "spec.unschedulable"],
        ("", "replicationcontrollers") => &["metadata.name", "metadata.namespace", "status.replicas"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
            "metadata.name",
            "metadata.namespace",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
            "metadata.name",
            "metadata.namespace",
        ],
        ("", "namespaces") => &["metadata.name", "status.phase"],
        ("", "secrets") => &["type", "metadata.name", "metadata.namespace"],
        ("", "services") => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        ("batch", "jobs") => &["metadata.name", "metadata.namespace", "status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["metadata.name", "spec.signerName"],
        _ => &["metadata.name", "metadata.namespace"],
    }
}
