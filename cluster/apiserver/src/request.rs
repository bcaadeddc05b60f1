//! What a request asks for: path, query, media types. Nothing here reads the store.

use std::fmt;

use http::{HeaderMap, Method};

use crate::status::{ApiError, quote};

/// Query parameters, decoded, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Query {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode_plus(key), decode_plus(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; empty when it is absent.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// A boolean as upstream reads it: present and not `false` or `0`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key), "false" | "0")
    }

    /// A whole number; 400 when it is none.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text)))
            }),
        }
    }

    /// For forwarding to the kubelet.
    pub(crate) fn encode(&self, keep: impl Fn(&str) -> bool) -> String {
        let pairs = self.0.iter().filter(|(key, _)| keep(key));
        let pairs: Vec<String> =
            pairs.map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        pairs.join("&")
    }
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// As `decode`, with `+` for a space.
fn decode_plus(text: &str) -> String {
    if text.contains('+') { decode(&text.replace('+', " ")) } else { decode(text) }
}

/// Percent-decodes; what is no encoding stays, and what is no UTF-8 is replaced.
pub(crate) fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The path, split and decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Below `/api/v1` or `/apis/group/version`.
    Resource(ResourcePath),
    /// Everything else: discovery, health, OpenAPI.
    Other(Vec<String>),
}

/// `/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/{subresource...}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub plural: String,
    pub name: String,
    /// What follows the name, `/` between segments.
    pub subresource: String,
    /// The old prefix `/watch/`.
    pub watch: bool,
}

impl Path {
    /// Splits a path. Each segment is decoded by itself, so an encoded slash cannot make another segment; `.` and
    /// `..` are refused.
    pub(crate) fn parse(path: &str) -> Result<Path, ApiError> {
        let trimmed = path.strip_prefix('/').unwrap_or(path);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let raw: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        let mut segments = Vec::with_capacity(raw.len());
        for segment in raw {
            let decoded = decode(segment);
            if matches!(&*decoded, "." | "..") || decoded.contains('\0') {
                return Err(ApiError::no_such_path());
            }
            segments.push(decoded);
        }
        let base = match segments.first().map(String::as_str) {
            Some("api") if segments.len() > 2 => 2,
            Some("apis") if segments.len() > 3 => 3,
            _ => return Ok(Path::Other(segments)),
        };
        let mut found = ResourcePath {
            group: if base == 2 { String::new() } else { segments[1].clone() },
            version: segments[base - 1].clone(),
            ..ResourcePath::default()
        };
        let mut rest = &segments[base..];
        if rest.first().is_some_and(|first| first == "watch") {
            found.watch = true;
            rest = &rest[1..];
        }
        if rest.iter().any(String::is_empty) {
            return Err(ApiError::no_such_path());
        }
        // `/namespaces/x`, `/namespaces/x/status` and `/namespaces/x/finalize` are the object itself.
        let inside = rest.first().is_some_and(|first| first == "namespaces")
            && rest.len() > 2
            && !(rest.len() == 3 && matches!(&*rest[2], "status" | "finalize"));
        if inside {
            found.namespace = rest[1].clone();
            rest = &rest[2..];
        }
        match rest {
            [] => return Ok(Path::Other(segments)),
            [plural] => found.plural = plural.clone(),
            [plural, name, subresource @ ..] => {
                found.plural = plural.clone();
                found.name = name.clone();
                found.subresource = subresource.join("/");
            }
        }
        Ok(Path::Resource(found))
    }
}

/// What the server can answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Table,
    Partial,
    PartialList,
    /// Aggregated discovery, v2 or v2beta1.
    Discovery(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Media {
    pub encoding: Encoding,
    pub form: Form,
    pub pretty: bool,
}

impl Media {
    pub(crate) const JSON: Media = Media { encoding: Encoding::Json, form: Form::Plain, pretty: false };

    pub(crate) fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
        }
    }
}

const AVAILABLE: &str = "application/json, application/yaml, application/json;stream=watch";

/// Chooses the first acceptable media type that the header names.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Media, ApiError> {
    let mut any = false;
    for header in headers.get_all(http::header::ACCEPT) {
        for range in header.to_str().unwrap_or_default().split(',') {
            if range.trim().is_empty() {
                continue;
            }
            any = true;
            if let Some(media) = read_range(range) {
                return Ok(media);
            }
        }
    }
    if !any {
        return Ok(Media::JSON);
    }
    let mut error = ApiError::new(
        406,
        "NotAcceptable",
        format!("406: Not Acceptable\n\nAvailable representations: {AVAILABLE}"),
    );
    error.details = Some(Default::default());
    Err(error)
}

fn read_range(range: &str) -> Option<Media> {
    let mut parts = range.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let form = match (kind, group, version) {
        ("", _, _) => Form::Plain,
        ("Table", "meta.k8s.io", "v1") => Form::Table,
        ("PartialObjectMetadata", "meta.k8s.io", "v1") => Form::Partial,
        ("PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::PartialList,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Form::Discovery("v2"),
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => Form::Discovery("v2beta1"),
        _ => return None,
    };
    Some(Media { encoding, form, pretty: false })
}

/// Who does what to what: the attributes for authorization.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The path, for what is no resource.
    pub path: String,
}

impl fmt::Display for Attributes {
    /// The text after `User "x" `.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.resource.is_empty() {
            return write!(f, "cannot {} path {}", self.verb, quote(&self.path));
        }
        let mut resource = self.resource.clone();
        if !self.subresource.is_empty() {
            resource = format!("{resource}/{}", self.subresource);
        }
        write!(f, "cannot {} resource {} in API group {}", self.verb, quote(&resource), quote(&self.group))?;
        match &*self.namespace {
            "" => f.write_str(" at the cluster scope"),
            namespace => write!(f, " in the namespace {}", quote(namespace)),
        }
    }
}

/// The verb of a request to a resource.
pub(crate) fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Option<&'static str> {
    let whole = path.name.is_empty();
    Some(match *method {
        Method::GET | Method::HEAD if path.watch || whole && query.flag("watch") => "watch",
        Method::GET | Method::HEAD if whole => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if whole => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    })
}
