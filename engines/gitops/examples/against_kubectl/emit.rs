//! Cases as files, in YAML with changing quotes and styles. The style of a value follows from its path, so that a
//! smaller case is written as the larger one was.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde_json::Value;

use crate::generate::{Case, Content, RAW};

pub(crate) fn write_case(case: &Case, folder: &Path) {
    for (path, content) in &case.files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder"))
            .expect("the temporary folder is writable");
        std::fs::write(path, text_of(content)).expect("the temporary folder is writable");
    }
}

pub(crate) fn print_case(case: &Case) {
    println!("build {}", case.root);
    for (path, content) in &case.files {
        println!("# {path}\n{}", text_of(content));
    }
}

fn text_of(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Documents(documents) => documents
            .iter()
            .map(|document| {
                let mut out = String::new();
                block(&mut out, document, 0, "");
                out
            })
            .collect::<Vec<_>>()
            .join("---\n"),
    }
}

fn style(path: &str, n: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() % n
}

fn block(out: &mut String, value: &Value, indent: usize, path: &str) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let below = format!("{path}/{key}");
                out.push_str(&format!("{pad}{}:", scalar(&Value::from(key.as_str()), &below, true)));
                nested(out, value, indent, &below);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                let below = format!("{path}/{i}");
                match item {
                    Value::Object(map) if !map.is_empty() && style(&below, 8) != 0 => {
                        let mut inner = String::new();
                        block(&mut inner, item, indent + 2, &below);
                        out.push_str(&format!("{pad}- {}", inner.trim_start()));
                    }
                    _ => {
                        out.push_str(&format!("{pad}-"));
                        nested(out, item, indent, &below);
                    }
                }
            }
        }
        _ => out.push_str(&format!("{pad}{}\n", flow(value, path))),
    }
}

fn nested(out: &mut String, value: &Value, indent: usize, path: &str) {
    let simple = match value {
        Value::Object(map) => map.is_empty() || style(path, 12) == 0,
        Value::Array(items) => items.is_empty() || style(path, 12) == 0,
        _ => true,
    };
    if let Value::String(text) = value
        && text.contains('\n')
        && !text.contains([' ', '\t'])
        && text.ends_with('\n')
        && !text.starts_with('\n')
        && !text.ends_with("\n\n")
    {
        out.push_str(" |\n");
        for line in text.lines() {
            out.push_str(&format!("{}{line}\n", " ".repeat(indent + 2)));
        }
        return;
    }
    if simple {
        out.push_str(&format!(" {}\n", flow(value, path)));
    } else {
        out.push('\n');
        block(out, value, indent + 2, path);
    }
}

fn flow(value: &Value, path: &str) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<String> = map
                .iter()
                .map(|(key, value)| {
                    let below = format!("{path}/{key}");
                    format!("{}: {}", scalar(&Value::from(key.as_str()), &below, true), flow(value, &below))
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> =
                items.iter().enumerate().map(|(i, item)| flow(item, &format!("{path}/{i}"))).collect();
            format!("[{}]", items.join(", "))
        }
        other => scalar(other, path, false),
    }
}

fn scalar(value: &Value, path: &str, is_key: bool) -> String {
    let Value::String(text) = value else { return value.to_string() };
    if let Some(raw) = text.strip_prefix(RAW) {
        return raw.to_owned();
    }
    let simple = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    match style(path, 6) {
        0 if !is_key && !text.contains(['\n', '\'']) => format!("'{text}'"),
        1..=4 if simple => text.clone(),
        _ => Value::from(text.as_str()).to_string(),
    }
}
