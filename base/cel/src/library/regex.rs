//! Regular expressions: RE2's syntax for the `regex` crate, and the functions that use them.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

use super::lists::texts;
use super::{Evaluated, Function, no_overload};
use crate::error::{EvalError, fail};
use crate::value::Value;

/// Compiled expressions kept per thread; a full cache starts anew.
const CACHE_MAX: usize = 256;
/// Size of a compiled expression, in bytes.
const COMPILED_SIZE_MAX: usize = 4 << 20;

thread_local! {
    static CACHE: RefCell<HashMap<String, Result<Regex, String>>> = RefCell::default();
}

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "matches" => matches,
        "find" => find_first,
        "findAll" => find_all,
        _ => return None,
    })
}

/// Compiles RE2 syntax; the error has Go's opening words.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    CACHE.with_borrow_mut(|cache| {
        if let Some(known) = cache.get(pattern) {
            return known.clone();
        }
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        let compiled = match nested_repetition(pattern) {
            Some(operators) => {
                Err(format!("error parsing regexp: invalid nested repetition operator: `{operators}`"))
            }
            None => regex::RegexBuilder::new(&translate(pattern))
                .size_limit(COMPILED_SIZE_MAX)
                .build()
                .map_err(|error| explain(pattern, &error)),
        };
        cache.insert(pattern.to_owned(), compiled.clone());
        compiled
    })
}

fn explain(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let detail = [
        ("unclosed group", "missing closing )"),
        ("unopened group", "unexpected )"),
        ("unclosed character class", "missing closing ]"),
        ("repetition operator missing expression", "missing argument to repetition operator"),
        ("look-around", "invalid or unsupported Perl syntax"),
        ("unrecognized escape", "invalid escape sequence"),
    ];
    let detail = detail.iter().find(|(ours, _)| text.contains(ours)).map_or("invalid syntax", |(_, go)| go);
    format!("error parsing regexp: {detail}: `{pattern}`")
}

/// Two repetitions of one thing (`x++`, `x**`), which RE2 refuses; `x+?` is one.
fn nested_repetition(pattern: &str) -> Option<&str> {
    let bytes = pattern.as_bytes();
    let (mut at, mut class, mut last) = (0, false, None);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\\' => at += 1,
            b'[' if !class => {
                class = true;
                // A closing bracket that comes first is a plain character.
                at += usize::from(bytes.get(at + 1) == Some(&b'^'));
                at += usize::from(bytes.get(at + 1) == Some(&b']'));
            }
            b']' => class = false,
            b'*' | b'+' | b'?' if !class => {
                if let Some((from, end)) = last
                    && end == start
                {
                    return pattern.get(from..=at);
                }
                at += usize::from(bytes.get(at + 1) == Some(&b'?'));
                // `(?` opens a group with flags.
                if start == 0 || bytes[start - 1] != b'(' || (start > 1 && bytes[start - 2] == b'\\') {
                    last = Some((start, at + 1));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Perl classes are ASCII in RE2, and `[`, `&&`, `--`, `~~` inside a class are plain characters there.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    let mut class_start = false;
    while let Some(c) = chars.next() {
        let at_start = std::mem::take(&mut class_start);
        match c {
            '\\' => {
                let Some(next) = chars.next() else {
                    out.push('\\');
                    break;
                };
                match (next, class) {
                    ('d', false) => out.push_str("[0-9]"),
                    ('d', true) => out.push_str("0-9"),
                    ('D', _) => out.push_str("[^0-9]"),
                    ('w', false) => out.push_str("[0-9A-Za-z_]"),
                    ('w', true) => out.push_str("0-9A-Za-z_"),
                    ('W', _) => out.push_str("[^0-9A-Za-z_]"),
                    ('s', false) => out.push_str("[\\t\\n\\x0C\\r ]"),
                    ('s', true) => out.push_str("\\t\\n\\x0C\\r "),
                    ('S', _) => out.push_str("[^\\t\\n\\x0C\\r ]"),
                    ('b', false) => out.push_str("(?-u:\\b)"),
                    ('B', false) => out.push_str("(?-u:\\B)"),
                    ('Q', false) => quote_literal(&mut chars, &mut out),
                    ('<' | '>', _) => out.push(next),
                    _ => {
                        out.push('\\');
                        out.push(next);
                    }
                }
            }
            '[' if !class => {
                class = true;
                class_start = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            ']' if class && at_start => out.push_str("\\]"),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '-' if class && chars.peek() == Some(&'-') => out.push_str("\\-"),
            c => out.push(c),
        }
    }
    out
}

fn quote_literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

fn compiled(pattern: &str) -> Result<Regex, EvalError> {
    compile(pattern).map_err(EvalError::new)
}

fn matches(args: &[Value]) -> Evaluated {
    match args {
        [Value::String(text), Value::String(pattern)] => Ok(Value::Bool(compiled(pattern)?.is_match(text))),
        _ => no_overload(),
    }
}

fn find_first(args: &[Value]) -> Evaluated {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            let pattern = compiled(pattern)?;
            Ok(Value::string(pattern.find(text).map_or("", |found| found.as_str())))
        }
        _ => no_overload(),
    }
}

fn find_all(args: &[Value]) -> Evaluated {
    let (text, pattern, limit) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(limit)] => (text, pattern, *limit),
        _ => return no_overload(),
    };
    let Ok(pattern) = compile(pattern) else { return fail(compile(pattern).err().unwrap_or_default()) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(texts(pattern.find_iter(text).take(limit).map(|found| found.as_str())))
}
