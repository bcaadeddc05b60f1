//! `vars`: `$(NAME)` in fields becomes the value of a field of an object.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::fields::of_path;
use crate::render::config::FieldSpec;
use crate::render::error::Error;
use crate::render::fieldspec::apply;
use crate::render::kustomization::Var;
use crate::render::node::{Kind, Node, NodeId, Style, Tag, Tree};
use crate::render::path::{PathError, split_smart};
use crate::render::resource::Resource;
use crate::render::world::World;

/// The value of a var.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    Float(f64),
    /// A map or a list; it is not put anywhere.
    Other,
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Int(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Other => String::new(),
        }
    }
}

/// Replaces all vars.
pub(crate) fn resolve(
    world: &World,
    objects: &mut [Resource],
    vars: &BTreeMap<String, Var>,
    specs: &[FieldSpec],
) -> Result<(), Error> {
    let mut values = BTreeMap::new();
    for var in vars.values() {
        values.insert(var.name.clone(), value_of(objects, var)?);
    }
    if values.is_empty() {
        return Ok(());
    }
    let used = RefCell::new(BTreeSet::new());
    let replacer = Replacer { values: &values, used: &used };
    for resource in objects {
        for spec in specs {
            let mut set = |tree: &mut Tree, at| replacer.set(tree, at);
            let done = apply(&mut resource.tree, spec, None, &mut set);
            done.map_err(|error| match error {
                SetError::Path(error) => of_path(resource, world, &spec.path, &error),
                SetError::NotText => {
                    let error = PathError::Kind(crate::render::node::WrongKind {
                        expected: "text",
                        found: "other value",
                    });
                    of_path(resource, world, &spec.path, &error)
                }
            })?;
        }
    }
    let used = used.into_inner();
    let unused: Vec<&str> = values.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
    if !unused.is_empty() {
        world.warn(format!("well-defined vars that were never replaced: {}", unused.join(",")));
    }
    Ok(())
}

fn value_of(objects: &[Resource], var: &Var) -> Result<Value, Error> {
    let holder = objects.iter().find(|resource| resource.vars.iter().any(|name| **name == *var.name));
    let Some(holder) = holder else {
        let message =
            format!("no object fits the var `{}`: {} `{}`", var.name, var.gvk.kind, var.object_name);
        return Err(Error::new(message).in_field("vars"));
    };
    let missing = || {
        Error::new(format!("the var `{}` asks for `{}`, which is not there", var.name, var.field_path))
            .in_field("vars")
    };
    let path = with_indices(&split_smart(&var.field_path));
    let tree = &holder.tree;
    let at = tree.lookup(tree.root(), &path).ok().flatten().ok_or_else(missing)?;
    let node = tree.get(at);
    if node.kind != Kind::Scalar {
        return Ok(Value::Other);
    }
    let text = &*node.value;
    Ok(match node.tag {
        Tag::Int => Value::Int(text.parse().map_err(|_| missing())?),
        Tag::Float => Value::Float(text.parse().map_err(|_| missing())?),
        Tag::Bool => Value::Bool(match text {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => true,
            "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
            _ => return Err(missing()),
        }),
        _ => Value::Text(text.to_owned()),
    })
}

/// `ports[0]` is two parts.
fn with_indices(path: &[String]) -> Vec<String> {
    let mut parts = Vec::new();
    for part in path {
        let split = part.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
        match split.filter(|(_, index)| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()))
        {
            Some((name, index)) => {
                if !name.is_empty() {
                    parts.push(name.to_owned());
                }
                parts.push(index.to_owned());
            }
            None => parts.push(part.clone()),
        }
    }
    parts
}

enum SetError {
    Path(PathError),
    NotText,
}

impl From<PathError> for SetError {
    fn from(error: PathError) -> SetError {
        SetError::Path(error)
    }
}

struct Replacer<'r> {
    values: &'r BTreeMap<String, Value>,
    used: &'r RefCell<BTreeSet<String>>,
}

impl Replacer<'_> {
    fn set(&self, tree: &mut Tree, at: NodeId) -> Result<(), SetError> {
        if tree.is_null(at) {
            return Ok(());
        }
        match tree.kind(at) {
            Kind::Scalar => {
                if tree.get(at).is_string() {
                    self.replace(tree, at);
                }
            }
            Kind::Map => {
                for entry in tree.get(at).content.clone().chunks_exact(2) {
                    if !tree.get(entry[0]).is_string() {
                        return Err(SetError::NotText);
                    }
                    if tree.get(entry[1]).is_string() {
                        self.replace(tree, entry[1]);
                    }
                }
            }
            Kind::List => {
                for item in tree.items(at).to_vec() {
                    if !tree.get(item).is_string() {
                        return Err(SetError::NotText);
                    }
                    self.replace(tree, item);
                }
            }
        }
        Ok(())
    }

    fn replace(&self, tree: &mut Tree, at: NodeId) {
        let value = self.expand(tree.value(at));
        let node = match value {
            Value::Int(value) => Node::tagged_as(value.to_string(), Tag::Int),
            Value::Bool(value) => Node::tagged_as(value.to_string(), Tag::Bool),
            Value::Float(value) => Node::tagged_as(value.to_string(), Tag::Float),
            Value::Text(text) => Node { style: Style::Plain, ..Node::text(text) },
            Value::Other => return,
        };
        *tree.get_mut(at) = node;
    }

    /// A text that is one var becomes its value, with its type; else vars are written into the text.
    fn expand(&self, text: &str) -> Value {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let after = &rest[at + 1..];
            if after.is_empty() {
                break;
            }
            out.push_str(&rest[..at]);
            match after.as_bytes()[0] {
                b'$' => {
                    out.push('$');
                    rest = &after[1..];
                }
                b'(' => match after.find(')') {
                    Some(end) => {
                        let name = &after[1..end];
                        let whole = text.len() == name.len() + 3 && at == 0;
                        match self.lookup(name) {
                            Some(value) if whole => return value,
                            Some(value) => out.push_str(&value.shown()),
                            None => {
                                out.push_str("$(");
                                out.push_str(name);
                                out.push(')');
                            }
                        }
                        rest = &after[end + 1..];
                    }
                    None => {
                        out.push_str("$(");
                        rest = &after[1..];
                    }
                },
                _ => {
                    // The character after the `$` is not looked at again.
                    let len = after.chars().next().map_or(0, char::len_utf8);
                    out.push('$');
                    out.push_str(&after[..len]);
                    rest = &after[len..];
                }
            }
        }
        out.push_str(rest);
        Value::Text(out)
    }

    fn lookup(&self, name: &str) -> Option<Value> {
        let value = self.values.get(name).filter(|value| !matches!(value, Value::Other))?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(value.clone())
    }
}
