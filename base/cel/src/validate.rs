//! Checks after the types are known: literals of one type in a list, readable literal arguments.

use crate::ast::{Expr, Kind};
use crate::check::{Checked, Problem};
use crate::library::{formatting, regex, time};
use crate::types::Type;
use crate::value::Value;

/// The problems of `expr` beyond its types.
pub(crate) fn validate(expr: &Expr, checked: &Checked) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(expr, checked, false, &mut problems);
    problems
}

fn walk(expr: &Expr, checked: &Checked, exempt: bool, problems: &mut Vec<Problem>) {
    let mut inner_exempt = exempt;
    match &expr.kind {
        Kind::Call { function, target, args } => {
            inner_exempt |= &**function == "format";
            literal_argument(function, target.as_deref(), args, checked, problems);
        }
        Kind::List { elements } if !exempt => {
            let parts = elements.iter().map(|element| (&element.value, element.optional));
            homogeneous(parts, true, checked, problems);
        }
        Kind::Map { entries } if !exempt => {
            homogeneous(entries.iter().map(|entry| (&entry.key, false)), false, checked, problems);
            let values = entries.iter().map(|entry| (&entry.value, entry.optional));
            homogeneous(values, false, checked, problems);
        }
        _ => {}
    }
    expr.children(&mut |child| walk(child, checked, inner_exempt, problems));
}

fn homogeneous<'a>(
    parts: impl Iterator<Item = (&'a Expr, bool)>,
    first_only: bool,
    checked: &Checked,
    problems: &mut Vec<Problem>,
) {
    let mut wanted: Option<Type> = None;
    for (part, optional) in parts {
        let found = match &checked.types[part.id] {
            Type::Optional(inner) if optional => (**inner).clone(),
            other => other.clone(),
        };
        match &wanted {
            None => wanted = Some(found),
            Some(wanted) if *wanted == found => {}
            Some(wanted) => {
                problems.push((Some(part.at), format!("expected type '{wanted}' but found '{found}'")));
                if first_only {
                    return;
                }
            }
        }
    }
}

fn literal_argument(
    function: &str,
    target: Option<&Expr>,
    args: &[Expr],
    checked: &Checked,
    problems: &mut Vec<Problem>,
) {
    let literal = |expr: &Expr| match &expr.kind {
        Kind::Literal(value) => Some(value.clone()),
        _ => None,
    };
    match (function, target, args) {
        ("duration", None, [arg]) => {
            if let Some(Value::String(text)) = literal(arg)
                && time::parse_duration(&text).is_err()
            {
                problems.push((Some(arg.at), "invalid duration argument".to_owned()));
            }
        }
        ("timestamp", None, [arg]) => {
            let wrong = match literal(arg) {
                Some(Value::String(text)) => time::parse_timestamp(&text).is_err(),
                Some(Value::Int(seconds)) => time::from_seconds(seconds).is_err(),
                _ => false,
            };
            if wrong {
                problems.push((Some(arg.at), "invalid timestamp argument".to_owned()));
            }
        }
        ("matches", _, [.., arg]) => {
            if let Some(Value::String(pattern)) = literal(arg)
                && regex::compile(&pattern).is_err()
            {
                problems.push((Some(arg.at), "invalid matches argument".to_owned()));
            }
        }
        ("format", Some(target), [arg]) => {
            if let (Some(Value::String(text)), Kind::List { elements }) = (literal(target), &arg.kind) {
                let given: Vec<&Type> =
                    elements.iter().map(|element| &checked.types[element.value.id]).collect();
                if let Err((index, message)) = formatting::check(&text, &given) {
                    let at = index.map_or(target.at, |index| elements[index].value.at);
                    problems.push((Some(at), message));
                }
            }
        }
        _ => {}
    }
}
