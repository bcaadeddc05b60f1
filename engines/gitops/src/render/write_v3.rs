//! A tree as text in the order and with the quotes that it was read with: what kustomize writes back into a field that
//! holds YAML. Comments and flow style are not kept.

use dodai_yaml::kustomize::{can_be_plain, resolve_plain};

use super::node::{Kind, Node, NodeId, Style, Tag, Tree};

pub(crate) fn to_text(tree: &Tree) -> String {
    let mut out = String::new();
    block(&mut out, tree, tree.root(), 0);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// A collection whose first line begins where the cursor is.
fn block(out: &mut String, tree: &Tree, id: NodeId, indent: usize) {
    match tree.kind(id) {
        Kind::Scalar => scalar(out, tree.get(id), indent),
        Kind::Map => {
            for (i, (key, value)) in tree.entries(id).enumerate() {
                if i > 0 {
                    new_line(out, indent);
                }
                scalar(out, tree.get(key), indent);
                out.push(':');
                let is_empty = tree.get(value).content.is_empty();
                match tree.kind(value) {
                    Kind::Map if !is_empty => {
                        new_line(out, indent + 2);
                        block(out, tree, value, indent + 2);
                    }
                    Kind::List if !is_empty => {
                        new_line(out, indent);
                        block(out, tree, value, indent);
                    }
                    _ => {
                        out.push(' ');
                        leaf(out, tree, value, indent);
                    }
                }
            }
        }
        Kind::List => {
            for (i, item) in tree.items(id).iter().enumerate() {
                if i > 0 {
                    new_line(out, indent);
                }
                out.push_str("- ");
                if tree.get(*item).content.is_empty() {
                    leaf(out, tree, *item, indent);
                } else {
                    block(out, tree, *item, indent + 2);
                }
            }
        }
    }
}

fn leaf(out: &mut String, tree: &Tree, id: NodeId, indent: usize) {
    match tree.kind(id) {
        Kind::Map => out.push_str("{}"),
        Kind::List => out.push_str("[]"),
        Kind::Scalar => scalar(out, tree.get(id), indent),
    }
}

fn new_line(out: &mut String, indent: usize) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(out: &mut String, node: &Node, indent: usize) {
    let text = &*node.value;
    let plain_is_text = resolve_plain(text).tag() == "str";
    let style = match node.style {
        Style::Plain if text.contains('\n') => Style::Literal,
        Style::Plain if node.tag == Tag::Str && !plain_is_text => Style::Double,
        Style::Plain if !can_be_plain(text) => Style::Single,
        Style::Folded => Style::Literal,
        Style::Flow => Style::Plain,
        style => style,
    };
    match style {
        Style::Plain => out.push_str(text),
        Style::Single => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
        Style::Literal
            if text.ends_with('\n') && !text.starts_with([' ', '\n']) && !text.ends_with("\n\n") =>
        {
            out.push('|');
            for line in text.lines() {
                out.push('\n');
                if !line.is_empty() {
                    out.extend(std::iter::repeat_n(' ', indent + 2));
                    out.push_str(line);
                }
            }
            out.push('\n');
        }
        _ => out.push_str(&serde_json::Value::from(text).to_string()),
    }
}
