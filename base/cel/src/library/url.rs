//! URLs as Go's `url.ParseRequestURI` reads them: absolute, or an absolute path.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::lists::texts;
use super::opaque::Opaque;
use super::{Evaluated, Function, no_overload};
use crate::error::EvalError;
use crate::value::{Key, Map, Value};

/// The parts of a URL, still escaped.
#[derive(Clone, Debug, Default)]
pub struct Url {
    scheme: String,
    opaque: String,
    user: Option<String>,
    host: String,
    has_authority: bool,
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "url" => |args| match args {
            [Value::String(text)] => match Url::parse(text) {
                Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
                Err(detail) => Err(EvalError::new(format!(
                    "URL parse error during conversion from string: parse {}: {detail}",
                    super::strings::quote(text)
                ))),
            },
            _ => no_overload(),
        },
        "isURL" => |args| match args {
            [Value::String(text)] => Ok(Value::Bool(Url::parse(text).is_ok())),
            _ => no_overload(),
        },
        "getScheme" => |args| part(args, |url| url.scheme.clone()),
        "getHost" => |args| part(args, |url| url.host.clone()),
        "getHostname" => |args| part(args, |url| url.split_host().0.to_owned()),
        "getPort" => |args| part(args, |url| url.split_host().1.to_owned()),
        "getEscapedPath" => |args| part(args, |url| escape(&url.path)),
        "getQuery" => query,
        _ => return None,
    })
}

fn this(args: &[Value]) -> Result<&Url, EvalError> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(url),
        _ => Err(EvalError::no_overload()),
    }
}

fn part(args: &[Value], pick: fn(&Url) -> String) -> Evaluated {
    this(args).map(|url| Value::string(pick(url)))
}

fn query(args: &[Value]) -> Evaluated {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in this(args)?.query.as_deref().unwrap_or_default().split('&') {
        if pair.is_empty() || pair.contains(';') {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) {
            found.entry(key).or_default().push(value);
        }
    }
    let entries = found.into_iter().map(|(key, values)| (Key::String(key.into()), texts(values))).collect();
    Ok(Value::Map(Arc::new(Map { entries, ..Map::default() })))
}

impl Url {
    /// The whole text must be a request URI; then a fragment is split off, as upstream parses twice.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let whole = Url::parse_request(text)?;
        let Some((before, fragment)) = text.split_once('#') else { return Ok(whole) };
        let mut url = Url::parse_request(before)?;
        url.fragment = Some(fragment.to_owned());
        Ok(url)
    }

    fn parse_request(text: &str) -> Result<Url, String> {
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text.is_empty() {
            return Err("empty url".to_owned());
        }
        let mut url = Url::default();
        if text == "*" {
            url.path = text.to_owned();
            return Ok(url);
        }
        let (scheme, rest) = split_scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        url.query = query.map(str::to_owned);
        if !rest.starts_with('/') {
            if url.scheme.is_empty() {
                return Err("invalid URI for request".to_owned());
            }
            url.opaque = rest.to_owned();
            return Ok(url);
        }
        let mut path = rest;
        if let Some(after) = rest.strip_prefix("//")
            && !url.scheme.is_empty()
        {
            let end = after.find('/').unwrap_or(after.len());
            url.authority(&after[..end])?;
            path = &after[end..];
        }
        if unescape(path, false).is_none() {
            return Err(format!("invalid URL escape {}", super::strings::quote(bad_escape(path))));
        }
        url.path = path.to_owned();
        Ok(url)
    }

    /// An absolute or relative reference, as Go's `url.Parse` reads it.
    pub(crate) fn parse_reference(text: &str) -> Result<(), String> {
        let text = text.split('#').next().unwrap_or_default();
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (scheme, rest) = split_scheme(text)?;
        let rest = rest.split('?').next().unwrap_or_default();
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                return Ok(());
            }
            if rest.split('/').next().unwrap_or_default().contains(':') {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        if let Some(after) = rest.strip_prefix("//") {
            Url::default().authority(after.split('/').next().unwrap_or_default())?;
        }
        match unescape(rest, false) {
            Some(_) => Ok(()),
            None => Err(format!("invalid URL escape {}", super::strings::quote(bad_escape(rest)))),
        }
    }

    fn authority(&mut self, text: &str) -> Result<(), String> {
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        check_host(host)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if user.is_some_and(|user| !user.chars().all(plain)) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        self.user = user.map(str::to_owned);
        self.host = host.to_owned();
        self.has_authority = true;
        Ok(())
    }

    fn split_host(&self) -> (&str, &str) {
        let host = &self.host;
        if let Some(inner) = host.strip_prefix('[')
            && let Some((address, rest)) = inner.split_once(']')
        {
            return (address, rest.strip_prefix(':').unwrap_or_default());
        }
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
            _ => (host, ""),
        }
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let valid_port = |port: &str| match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
        &host[end + 1..]
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    if !valid_port(port) {
        return Err(format!("invalid port {} after host", super::strings::quote(port)));
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "-._~!$&'()*+,;=:[]<>\"%".contains(c);
    if let Some(c) = host.chars().find(|c| !allowed(*c)) {
        return Err(format!("invalid character {} in host name", super::strings::quote(&c.to_string())));
    }
    Ok(())
}

fn bad_escape(text: &str) -> &str {
    let mut from = 0;
    while let Some(at) = text[from..].find('%') {
        let at = from + at;
        let escape = text.get(at..at + 3).unwrap_or(&text[at..]);
        if escape.len() < 3 || !escape[1..].bytes().all(|b| b.is_ascii_hexdigit()) {
            return escape;
        }
        from = at + 3;
    }
    ""
}

fn unescape(text: &str, plus: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let high = char::from(*bytes.get(at + 1)?).to_digit(16)?;
                let low = char::from(*bytes.get(at + 2)?).to_digit(16)?;
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            b => out.push(b),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// The path with everything escaped that must be; what is escaped already stays.
fn escape(path: &str) -> String {
    let mut out = String::new();
    for b in path.bytes() {
        match b {
            b if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&b) => {
                out.push(char::from(b))
            }
            b => out += &format!("%{b:02X}"),
        }
    }
    out
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            write!(out, "{}:", self.scheme)?;
        }
        if self.opaque.is_empty() {
            if self.has_authority {
                out.write_str("//")?;
                if let Some(user) = &self.user {
                    write!(out, "{user}@")?;
                }
                out.write_str(&self.host)?;
            }
            out.write_str(&escape(&self.path))?;
        } else {
            out.write_str(&self.opaque)?;
        }
        if let Some(query) = &self.query {
            write!(out, "?{query}")?;
        }
        match self.fragment.as_deref() {
            None | Some("") => Ok(()),
            Some(fragment) => write!(out, "#{fragment}"),
        }
    }
}
