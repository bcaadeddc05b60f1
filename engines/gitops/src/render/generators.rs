//! ConfigMaps and Secrets from literals, files and env files, and the hash of their content.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::Error;
use super::json::{PrintError, node_to_json};
use super::kustomization::GeneratorArgs;
use super::names;
use super::node::{Kind, Node, NodeId, Tag, Tree};
use super::path::PathError;
use super::resource::Resource;
use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generator {
    ConfigMap,
    Secret,
}

/// Makes the object that a generator describes; `root` is the folder of the kustomization.
pub(crate) fn generate(
    world: &World,
    root: &str,
    generator: Generator,
    args: &GeneratorArgs,
) -> Result<Resource, Error> {
    if args.name.is_empty() {
        return Err(Error::new("a generator needs a `name`").in_field("name"));
    }
    let mut resource = base(generator, args);
    let data = read_data(world, root, args)?;
    fill(&mut resource, generator, args, data).map_err(|error| Error::new(error.to_string()))?;
    let options = args.options.as_ref();
    if !options.is_some_and(|options| options.disable_name_suffix_hash) {
        resource.enable(names::NEEDS_HASH);
    }
    let behavior = match args.behavior.as_str() {
        known @ ("create" | "replace" | "merge") => known,
        _ => "unspecified",
    };
    let mut annotations = resource.annotations();
    annotations.insert(names::BEHAVIOR.into(), behavior.into());
    resource.set_annotations(&annotations).map_err(|error| Error::new(error.to_string()))?;
    Ok(resource)
}

fn base(generator: Generator, args: &GeneratorArgs) -> Resource {
    let mut tree = Tree::new(Node { tag: Tag::Map, ..Node::empty(Kind::Map) });
    let root = tree.root();
    let mut push = |map: NodeId, key: &str, value: Node| {
        let value = tree.add(value);
        tree.push_entry(map, Node::text(key), value);
        value
    };
    let kind = match generator {
        Generator::ConfigMap => "ConfigMap",
        Generator::Secret => "Secret",
    };
    push(root, "apiVersion", Node::text("v1"));
    push(root, "kind", Node::text(kind));
    let metadata = push(root, "metadata", Node { tag: Tag::Map, ..Node::empty(Kind::Map) });
    push(metadata, "name", Node::text(args.name.as_str()));
    if !args.namespace.is_empty() {
        push(metadata, "namespace", Node::text(args.namespace.as_str()));
    }
    if generator == Generator::Secret {
        let secret_type = if args.secret_type.is_empty() { "Opaque" } else { &args.secret_type };
        push(root, "type", Node::text(secret_type));
    }
    Resource::new(tree, None)
}

fn fill(
    resource: &mut Resource,
    generator: Generator,
    args: &GeneratorArgs,
    data: BTreeMap<String, Vec<u8>>,
) -> Result<(), PathError> {
    let root = resource.tree.root();
    if generator == Generator::Secret {
        resource.tree.lookup_create(root, &["data"], Kind::Map)?;
    }
    for (key, value) in data {
        let (field, text) = match generator {
            Generator::Secret => ("data", encode(&value)),
            Generator::ConfigMap => match String::from_utf8(value) {
                Ok(text) => ("data", text),
                Err(error) => ("binaryData", encode(error.as_bytes())),
            },
        };
        let Some(map) = resource.tree.lookup_create(root, &[field], Kind::Map)? else { continue };
        resource.tree.set_field_node(map, &key, Node::text(text))?;
    }
    let Some(options) = &args.options else { return Ok(()) };
    for (key, value) in options.labels.iter().flatten() {
        resource.label(key, value)?;
    }
    for (key, value) in options.annotations.iter().flatten() {
        resource.annotate(key, value)?;
    }
    if options.immutable {
        resource.tree.set_field_node(root, "immutable", Node::tagged_as("true", Tag::Bool))?;
    }
    Ok(())
}

/// Base64; a longer text in lines of 70, each ended, as there.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    if encoded.len() < LINE {
        return encoded;
    }
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / LINE + 1);
    for line in encoded.as_bytes().chunks(LINE) {
        lines.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        lines.push('\n');
    }
    lines
}

fn read_data(world: &World, root: &str, args: &GeneratorArgs) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut pairs: Vec<(String, Vec<u8>, String)> = Vec::new();
    for (i, path) in args.envs.iter().enumerate() {
        let field = format!("envs[{i}]");
        let (_, content) = world.read(root, path).map_err(|error| error.in_field(&*field))?;
        for (key, value) in env_lines(&content)
            .map_err(|message| Error::new(format!("`{path}`: {message}")).in_field(&*field))?
        {
            pairs.push((key, value, field.clone()));
        }
    }
    for (i, literal) in args.literals.iter().enumerate() {
        let field = format!("literals[{i}]");
        match literal.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                pairs.push((key.to_owned(), unquote(value).as_bytes().to_vec(), field));
            }
            _ => return Err(Error::new("a literal has the form `key=value`").in_field(field)),
        }
    }
    for (i, source) in args.files.iter().enumerate() {
        let field = format!("files[{i}]");
        let (key, path) = file_source(source).map_err(|message| Error::new(message).in_field(&*field))?;
        let (_, content) = world.read(root, path).map_err(|error| error.in_field(&*field))?;
        pairs.push((key.to_owned(), content.to_vec(), field));
    }
    let mut data = BTreeMap::new();
    for (key, value, field) in pairs {
        if data.insert(key.clone(), value).is_some() {
            return Err(
                Error::new(format!("the key `{key}` of `{}` is given twice", args.name)).in_field(field)
            );
        }
    }
    Ok(data)
}

/// Longest line of an env file; upstream silently stops reading at one.
const ENV_LINE_BYTES_MAX: usize = 64 * 1024;

/// `KEY=value` lines; a line without `=` has an empty value.
fn env_lines(content: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut pairs = Vec::new();
    for (i, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.len() >= ENV_LINE_BYTES_MAX {
            return Err(format!("line {} has more than {ENV_LINE_BYTES_MAX} bytes", i + 1));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(mut line) = std::str::from_utf8(line) else {
            return Err(format!("line {} is not UTF-8", i + 1));
        };
        if i == 0 {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            pairs.push((key.to_owned(), value.as_bytes().to_vec()));
        }
    }
    Ok(pairs)
}

fn unquote(text: &str) -> &str {
    for quote in ['"', '\''] {
        if text.len() >= 2
            && let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote))
        {
            return inner;
        }
    }
    text
}

/// `[key=]path`
fn file_source(source: &str) -> Result<(&str, &str), &'static str> {
    match source.matches('=').count() {
        0 => {
            let trimmed = source.trim_end_matches('/');
            Ok((trimmed.rsplit('/').next().unwrap_or(source), source))
        }
        1 => match source.split_once('=') {
            Some(("", _)) => Err("the key before `=` is missing"),
            Some((_, "")) => Err("the path behind `=` is missing"),
            Some(pair) => Ok(pair),
            None => Err("a file source has the form `[key=]path`"),
        },
        _ => Err("neither the key nor the path of a file source can contain `=`"),
    }
}

/// The suffix for the name of a generated object.
pub(crate) fn content_hash(resource: &Resource) -> Result<String, Error> {
    let tree = &resource.tree;
    let encoded = match &*resource.kind() {
        "ConfigMap" => encode_parts(tree, "ConfigMap", &["data"], &["binaryData"]),
        "Secret" => encode_parts(tree, "Secret", &["data", "type"], &["stringData"]),
        other => {
            return Err(Error::new(format!(
                "a hash of an object of kind `{other}` is not supported, only of ConfigMaps and Secrets"
            )));
        }
    }
    .map_err(|error| Error::new(error.to_string()))?;
    let digest = hex::encode(Sha256::digest(encoded.as_bytes()));
    let replaced = digest[..10].chars().map(|digit| match digit {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    });
    Ok(replaced.collect())
}

fn encode_parts(tree: &Tree, kind: &str, always: &[&str], if_map: &[&str]) -> Result<String, PrintError> {
    let mut parts: BTreeMap<&str, Value> = BTreeMap::new();
    parts.insert("kind", Value::from(kind));
    // Never the name: it is looked up under a path that does not exist.
    parts.insert("name", Value::from(""));
    for field in always {
        parts.insert(field, field_value(tree, field)?);
    }
    for field in if_map {
        let value = field_value(tree, field)?;
        if value.is_object() {
            parts.insert(field, value);
        }
    }
    let mut out = String::from("{");
    for (i, (key, value)) in parts.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        go_json_text(&mut out, key);
        out.push(':');
        go_json(&mut out, value);
    }
    out.push('}');
    Ok(out)
}

fn field_value(tree: &Tree, field: &str) -> Result<Value, PrintError> {
    let Some(id) = tree.field(tree.root(), field) else { return Ok(Value::from("")) };
    match tree.kind(id) {
        Kind::Scalar => Ok(Value::from(&**tree.value(id))),
        Kind::List => Ok(Value::Null),
        Kind::Map => node_to_json(tree, id, true),
    }
}

/// JSON as Go writes it: `<`, `>`, `&` and line separators escaped.
pub(crate) fn go_json(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => go_json_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                go_json(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                go_json_text(out, key);
                out.push(':');
                go_json(out, value);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn go_json_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
