//! Semantic versions (2.0.0), and the lenient reading with `normalize`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::opaque::Opaque;
use super::{Evaluated, Function, no_overload};
use crate::error::EvalError;
use crate::value::Value;

/// A version.
#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    prerelease: Vec<String>,
    build: Vec<String>,
}

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "semver" => |args| {
            let version = read(args)?.map_err(EvalError::new)?;
            Ok(Value::Opaque(Opaque::Semver(Arc::new(version))))
        },
        "isSemver" => |args| Ok(Value::Bool(read(args)?.is_ok())),
        "major" => |args| number(args, 0),
        "minor" => |args| number(args, 1),
        "patch" => |args| number(args, 2),
        _ => return None,
    })
}

fn number(args: &[Value], at: usize) -> Evaluated {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => Ok(Value::Int(version.numbers[at] as i64)),
        _ => no_overload(),
    }
}

fn read(args: &[Value]) -> Result<Result<Semver, String>, EvalError> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Semver::parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(Semver::parse(&normalized(text))),
        _ => Err(EvalError::no_overload()),
    }
}

/// Without a leading `v` and leading zeros, with missing numbers added.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (numbers, rest) = match text.find(['-', '+']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut parts: Vec<String> = numbers
        .splitn(3, '.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0".to_owned(),
            stripped if stripped.starts_with(|c: char| c.is_ascii_digit()) => stripped.to_owned(),
            _ => part.to_owned(),
        })
        .collect();
    if parts.len() < 3 && rest.is_empty() {
        parts.resize(3, "0".to_owned());
    }
    parts.join(".") + rest
}

impl Semver {
    fn parse(text: &str) -> Result<Semver, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, patch] = parts[..] else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (patch, build) = match patch.split_once('+') {
            Some((patch, build)) => (patch, Some(build)),
            None => (patch, None),
        };
        let (patch, prerelease) = match patch.split_once('-') {
            Some((patch, prerelease)) => (patch, Some(prerelease)),
            None => (patch, None),
        };
        let numbers = [
            version_number("major", major)?,
            version_number("minor", minor)?,
            version_number("patch", patch)?,
        ];
        let identifiers = |list: Option<&str>, what: &str, numeric: bool| match list {
            None => Ok(Vec::new()),
            Some(list) => list.split('.').map(|part| identifier(part, what, numeric)).collect(),
        };
        Ok(Semver {
            numbers,
            prerelease: identifiers(prerelease, "Prerelease", true)?,
            build: identifiers(build, "Build meta data", false)?,
        })
    }

    /// Order by precedence; build data does not count.
    pub(crate) fn compare(&self, other: &Semver) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (&self.prerelease[..], &other.prerelease[..]) {
            ([], []) => Ordering::Equal,
            ([], _) => Ordering::Greater,
            (_, []) => Ordering::Less,
            (one, two) => {
                let pairs = one.iter().zip(two).map(|(one, two)| identifier_order(one, two));
                pairs.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&two.len()))
            }
        })
    }
}

fn version_number(what: &str, text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {what} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        let name = what[..1].to_uppercase() + &what[1..];
        return Err(format!("{name} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn identifier(text: &str, what: &str, numeric: bool) -> Result<String, String> {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(format!("Invalid character(s) found in {} {text:?}", what.to_lowercase()));
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if numeric && digits && text.len() > 1 && text.starts_with('0') {
        return Err(format!("Numeric PreRelease version must not contain leading zeroes {text:?}"));
    }
    Ok(text.to_owned())
}

fn identifier_order(one: &str, two: &str) -> Ordering {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match (number(one), number(two)) {
        (true, true) => one.len().cmp(&two.len()).then_with(|| one.cmp(two)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => one.cmp(two),
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(out, "{major}.{minor}.{patch}")?;
        if !self.prerelease.is_empty() {
            write!(out, "-{}", self.prerelease.join("."))?;
        }
        if !self.build.is_empty() {
            write!(out, "+{}", self.build.join("."))?;
        }
        Ok(())
    }
}
