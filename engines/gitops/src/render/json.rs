//! Trees <-> JSON: what a tree is printed as, and what becomes of an object that went through JSON.

use std::collections::HashSet;
use std::sync::Arc;

use dodai_yaml::kustomize::{Scalar, can_be_plain, float_number, refold, resolve_plain, resolve_tagged};
use serde_json::{Map, Value};

use super::node::{Kind, Node, NodeId, Style, Tag, Tree};

/// Why a tree cannot be printed. Values are not shown: they may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrintError {
    #[error("the key `{key}` is given twice in one map")]
    Duplicate { key: Arc<str> },
    #[error("the key `{key}` is not text; put it in quotes")]
    KeyNotText { key: Arc<str> },
    #[error("a map or a list cannot be a key")]
    KeyKind,
    #[error("{0}")]
    Scalar(dodai_yaml::ErrorKind),
    #[error("infinity and not-a-number cannot be printed")]
    NotFinite,
    #[error("`<<` needs a map, or a list of maps")]
    Merge,
    #[error("the document is not a map")]
    NotMap,
    #[error("a text has the control character U+{0:04X}, which cannot be printed")]
    ControlCharacter(u32),
}

/// The object, as it is printed.
pub(crate) fn to_json(tree: &Tree) -> Result<Value, PrintError> {
    if tree.kind(tree.root()) != Kind::Map {
        return Err(PrintError::NotMap);
    }
    node_to_json(tree, tree.root(), true)
}

/// How a node is printed on its way through YAML: in brackets, some texts need quotes that change what they are.
fn is_flow(tree: &Tree, id: NodeId, in_flow: bool) -> bool {
    in_flow || tree.get(id).style == Style::Flow
}

/// A part of a tree; `top`: keys that are not text are taken as text, as there.
pub(crate) fn node_to_json(tree: &Tree, id: NodeId, top: bool) -> Result<Value, PrintError> {
    convert(tree, id, top, false)
}

fn convert(tree: &Tree, id: NodeId, top: bool, in_flow: bool) -> Result<Value, PrintError> {
    let in_flow = is_flow(tree, id, in_flow);
    match tree.kind(id) {
        Kind::Scalar => scalar_to_json(tree.get(id), in_flow),
        Kind::List => tree
            .items(id)
            .iter()
            .map(|item| convert(tree, *item, false, in_flow))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Kind::Map => map_to_json(tree, id, top, in_flow).map(Value::Object),
    }
}

fn map_to_json(tree: &Tree, id: NodeId, top: bool, in_flow: bool) -> Result<Map<String, Value>, PrintError> {
    refuse_duplicates(tree, id)?;
    let mut map = Map::new();
    let mut merged = None;
    for (key, value) in tree.entries(id) {
        let key = tree.get(key);
        if key.kind != Kind::Scalar {
            return Err(PrintError::KeyKind);
        }
        if key.tag == Tag::Merge {
            merged = Some(value);
            continue;
        }
        let name = match scalar_in(key, in_flow || key.value.is_empty()).map_err(PrintError::Scalar)? {
            Scalar::String(text) => text.into_owned(),
            // `null` at the top is left out there.
            Scalar::Null if top && &*key.value == "null" => continue,
            Scalar::Null => return Err(PrintError::KeyNotText { key: Arc::clone(&key.value) }),
            _ if top => key.value.to_string(),
            _ => return Err(PrintError::KeyNotText { key: Arc::clone(&key.value) }),
        };
        check_characters(&name)?;
        map.insert(name, convert(tree, value, false, in_flow)?);
    }
    if let Some(value) = merged {
        let sources = match tree.kind(value) {
            Kind::Map => vec![value],
            Kind::List => tree.items(value).to_vec(),
            Kind::Scalar => return Err(PrintError::Merge),
        };
        for source in sources {
            if tree.kind(source) != Kind::Map {
                return Err(PrintError::Merge);
            }
            for (name, value) in map_to_json(tree, source, false, in_flow)? {
                map.entry(name).or_insert(value);
            }
        }
    }
    Ok(map)
}

fn refuse_duplicates(tree: &Tree, id: NodeId) -> Result<(), PrintError> {
    const FEW: usize = 8;
    let n_entries = tree.get(id).content.len() / 2;
    let key_of = |key: NodeId| (tree.kind(key) == Kind::Scalar).then(|| tree.value(key));
    let mut seen = HashSet::new();
    for (at, (key, _)) in tree.entries(id).enumerate() {
        let Some(name) = key_of(key) else { continue };
        let repeated = if n_entries <= FEW {
            tree.entries(id).take(at).any(|(other, _)| key_of(other) == Some(name))
        } else {
            !seen.insert(name)
        };
        if repeated {
            return Err(PrintError::Duplicate { key: Arc::clone(name) });
        }
    }
    Ok(())
}

fn scalar_to_json(node: &Node, in_flow: bool) -> Result<Value, PrintError> {
    Ok(match scalar_in(node, in_flow).map_err(PrintError::Scalar)? {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Int(value) => Value::from(value),
        Scalar::Uint(value) => Value::from(value),
        Scalar::Float(value) => Value::Number(float_number(value).ok_or(PrintError::NotFinite)?),
        Scalar::Timestamp(text) => Value::String(text),
        Scalar::String(text) if node.style == Style::Folded && !in_flow => {
            check_characters(&text)?;
            Value::String(refold(&text).into_owned())
        }
        Scalar::String(text) => {
            check_characters(&text)?;
            Value::String(text.into_owned())
        }
    })
}

/// Characters that the second half of kustomize refuses to read again.
fn check_characters(text: &str) -> Result<(), PrintError> {
    if text.is_ascii() && !text.as_bytes().contains(&0x7f) {
        return Ok(());
    }
    match text.chars().find(
        |character| matches!(character, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'),
    ) {
        Some(character) => Err(PrintError::ControlCharacter(u32::from(character))),
        None => Ok(()),
    }
}

/// What a scalar of a block is when it is printed and read again.
pub(crate) fn scalar_of(node: &Node) -> Result<Scalar<'_>, dodai_yaml::ErrorKind> {
    scalar_in(node, false)
}

fn scalar_in(node: &Node, in_flow: bool) -> Result<Scalar<'_>, dodai_yaml::ErrorKind> {
    let text = &*node.value;
    // Of what is more than text, only times and nothing at all are quoted in brackets.
    let quoted_in_flow = in_flow && (text.is_empty() || text.contains([':', ',', '?', '[', ']', '{', '}']));
    let quoted = node.style != Style::Plain || quoted_in_flow || text.contains('\n');
    match &node.tag {
        Tag::Str => Ok(Scalar::String(text.into())),
        Tag::None if quoted || !can_be_plain(text) => Ok(Scalar::String(text.into())),
        Tag::None => Ok(resolve_plain(text)),
        tag if node.tagged => resolve_tagged(tag.short(), text),
        tag => {
            let plain = resolve_plain(text);
            if plain.tag() != tag.short() {
                resolve_tagged(tag.short(), text)
            } else if quoted {
                Ok(Scalar::String(text.into()))
            } else {
                Ok(plain)
            }
        }
    }
}

/// A tree from JSON as kustomize makes it: numbers went through floats.
pub(crate) fn from_json(value: &Value) -> Tree {
    let mut tree = Tree::with_capacity(64);
    let root = add_json(&mut tree, value);
    tree.set_root(root);
    tree
}

pub(crate) fn add_json(tree: &mut Tree, value: &Value) -> NodeId {
    let node = match value {
        Value::Null => Node::tagged_as("null", Tag::Null),
        Value::Bool(value) => Node::tagged_as(if *value { "true" } else { "false" }, Tag::Bool),
        Value::Number(number) => {
            let text = go_float(number.as_f64().unwrap_or(0.0));
            let tag = Tag::from_short(resolve_plain(&text).tag());
            Node::tagged_as(text, tag)
        }
        Value::String(text) => string_node(text),
        Value::Array(items) => {
            let content = items.iter().map(|item| add_json(tree, item)).collect();
            Node { tag: Tag::List, content, ..Node::empty(Kind::List) }
        }
        Value::Object(map) => {
            let mut content = Vec::with_capacity(2 * map.len());
            for (key, value) in map {
                let key = tree.add(string_node(key));
                let value = add_json(tree, value);
                content.extend([key, value]);
            }
            Node { tag: Tag::Map, content, ..Node::empty(Kind::Map) }
        }
    };
    tree.add(node)
}

/// Text with the style in which a writer would give it.
fn string_node(text: &str) -> Node {
    let style = match text {
        _ if text.contains('\n') => Style::Literal,
        _ if is_taken_for_other(text) => Style::Double,
        _ if !can_be_plain(text) => Style::Single,
        _ => Style::Plain,
    };
    Node { tag: Tag::Str, style, ..Node::scalar(text) }
}

/// Whether a reader of YAML 1.1 or 1.2 takes the text for something else than text.
fn is_taken_for_other(text: &str) -> bool {
    !matches!(resolve_plain(text), Scalar::String(_)) || is_not_string_in_1_1(text)
}

/// Whether the text, read as a YAML 1.1 document, is not text: `yes`, `12`, `a: b`.
pub(crate) fn is_not_string_in_1_1(text: &str) -> bool {
    use dodai_yaml::kubernetes;
    if text.is_empty() || text.contains('\n') {
        return false;
    }
    if can_be_plain(text) {
        return !matches!(kubernetes::resolve(None, text), Ok(kubernetes::Scalar::String(_)));
    }
    match dodai_yaml::parse(text) {
        Err(_) => false,
        Ok(documents) => match documents.first() {
            None => true,
            Some(document) => !matches!(document.to_json(), Ok(Value::String(_)) | Err(_)),
        },
    }
}

/// Go's `strconv.FormatFloat(value, 'g', -1, 64)`.
fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// JSON with two spaces of indentation, as Go writes it.
pub(crate) fn go_pretty(value: &Value) -> String {
    let mut out = String::new();
    pretty(&mut out, value, 0);
    out
}

fn pretty(out: &mut String, value: &Value, depth: usize) {
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                new_line(out, depth + 1);
                super::generators::go_json(out, &Value::from(key.as_str()));
                out.push_str(": ");
                pretty(out, value, depth + 1);
            }
            new_line(out, depth);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                new_line(out, depth + 1);
                pretty(out, item, depth + 1);
            }
            new_line(out, depth);
            out.push(']');
        }
        other => super::generators::go_json(out, other),
    }
}
