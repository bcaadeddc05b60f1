//! Label and field selectors.

use std::collections::BTreeMap;

use crate::kinds::Kind;
use crate::status::{ApiError, quote};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

/// A label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<(String, Operator)>);

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

    fn requirement(&mut self) -> Result<(String, Operator), String> {
        let absent = self.sign() == Some("!");
        if absent {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(key)) => key,
            other => {
                let found = other.map(|token| token.text().to_owned()).unwrap_or_default();
                return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
            }
        };
        check_key(&key)?;
        if absent {
            return Ok((key, Operator::Absent));
        }
        let operator = match self.peek().cloned() {
            None | Some(Token::Sign(",")) => return Ok((key, Operator::Exists)),
            Some(Token::Sign("=" | "==")) => "=",
            Some(Token::Sign("!=")) => "!=",
            Some(Token::Sign(">")) => ">",
            Some(Token::Sign("<")) => "<",
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
        for value in &values {
            check_value(&key, value)?;
        }
        let integer = |values: &[String]| {
            let text = values.first().cloned().unwrap_or_default();
            text.parse::<i64>().map_err(|_| {
                format!(
                    "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    quote(&text)
                )
            })
        };
        Ok(match operator {
            "in" | "=" => (key, Operator::In(values)),
            "notin" | "!=" => (key, Operator::NotIn(values)),
            ">" => (key, Operator::Greater(integer(&values)?)),
            _ => (key, Operator::Less(integer(&values)?)),
        })
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
        Ok(values)
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match crate::names::label_key(key) {
        Some(detail) => Err(format!("key: Invalid value: {}: {detail}", quote(key))),
        None => Ok(()),
    }
}

fn check_value(key: &str, value: &str) -> Result<(), String> {
    match crate::names::label_value(value) {
        Some(detail) => Err(format!("values[0][{key}]: Invalid value: {}: {detail}", quote(value))),
        None => Ok(()),
    }
}

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Result<LabelSelector, ApiError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        let fail = |detail: String| ApiError::bad_request(format!("unable to parse requirement: {detail}"));
        while parser.peek().is_some() {
            requirements.push(parser.requirement().map_err(fail)?);
            match parser.peek() {
                None => break,
                Some(Token::Sign(",")) => {
                    parser.at += 1;
                    if parser.peek().is_none() {
                        return Err(fail("found '', expected: identifier after ','".into()));
                    }
                }
                Some(other) => {
                    return Err(fail(format!("found '{}', expected: ',' or 'end of string'", other.text())));
                }
            }
        }
        Ok(LabelSelector(requirements))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, operator)| {
            let value = labels.get(key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match operator {
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Greater(than) => number().is_some_and(|number| number > *than),
                Operator::Less(than) => number().is_some_and(|number| number < *than),
            }
        })
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
        let mut terms = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let split = ["!=", "==", "="]
                .iter()
                .filter_map(|sign| Some((term.find(sign)?, *sign)))
                .min_by_key(|found| found.0);
            let Some((at, sign)) = split else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            let field = term[..at].to_owned();
            let value = unescape(&term[at + sign.len()..]);
            if !known.contains(&field.as_str()) && kind.is("batch", "jobs") {
                let text = format!("field label {} not supported for Job", quote(&field));
                return Err(ApiError::bad_request(text));
            }
            if !known.contains(&field.as_str()) && names_fields_itself(kind) {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            if !known.contains(&field.as_str()) {
                let names: Vec<String> = known.iter().map(|name| quote(name)).collect();
                return Err(ApiError::bad_request(format!(
                    "{} is not a known field selector: only {}",
                    quote(&field),
                    names.join(", ")
                )));
            }
            terms.push((field, value, sign != "!="));
        }
        Ok(FieldSelector(terms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, field: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|(name, value, equal)| (field(name) == *value) == *equal)
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

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

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
