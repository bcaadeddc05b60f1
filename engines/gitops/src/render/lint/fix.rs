//! What `kustomize edit fix` repairs, touching only the lines of the deprecated field. A repair counts only if the text
//! says the same afterwards: the caller builds before and after.

use dodai_yaml::{Document, NodeKind, ScalarStyle};

/// A repaired text, and what was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    pub text: String,
    /// Fields that were repaired.
    pub fixed: Vec<&'static str>,
    /// Fields that were not, with the reason.
    pub left: Vec<(&'static str, &'static str)>,
}

/// Repairs deprecated fields of a kustomization.
pub fn fix(text: &str) -> Fix {
    let mut result = Fix { text: text.to_owned(), fixed: Vec::new(), left: Vec::new() };
    let repairs: [(&'static str, &'static str, Repair); 5] = [
        ("bases", "resources", rename),
        ("imageTags", "images", rename),
        ("commonLabels", "labels", labels),
        ("patchesStrategicMerge", "patches", merges),
        ("patchesJson6902", "patches", rename),
    ];
    for (field, instead, repair) in repairs {
        let Ok(documents) = dodai_yaml::parse_with(&result.text, &super::super::FIRST_DOCUMENT) else {
            break;
        };
        let Some(document) = documents.first() else { break };
        let Some(block) = Block::find(document, field) else { continue };
        if Block::find(document, instead).is_some() {
            result.left.push((field, "there is the new field too; merge them by hand"));
            continue;
        }
        match repair(&result.text, document, &block, instead) {
            Some(lines) => {
                result.text.replace_range(block.start..block.end, &lines);
                result.fixed.push(field);
            }
            None => result.left.push((field, "it is not written as a block")),
        }
    }
    if result.text.lines().any(|line| line.starts_with("vars:")) {
        result.left.push(("vars", "replacements must be written by hand"));
    }
    result
}

type Repair = fn(&str, &Document, &Block, &str) -> Option<String>;

/// The lines of a field at the top of a document.
struct Block {
    start: usize,
    end: usize,
    key_len: usize,
    value: dodai_yaml::NodeId,
}

impl Block {
    fn find(document: &Document, field: &str) -> Option<Block> {
        let NodeKind::Mapping { entries, .. } = &document.root().kind else { return None };
        let (key, value) = entries.iter().find(
            |(key, _)| matches!(&document.node(*key).kind, NodeKind::Scalar { text, .. } if &**text == field),
        )?;
        let text = document.text();
        let key_range = document.node(*key).range();
        let end = document.node(*value).range().end.max(key_range.end);
        let end = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
        // A block scalar ends behind its last line already.
        let end = if text[..document.node(*value).range().end].ends_with('\n') {
            document.node(*value).range().end
        } else {
            end
        };
        Some(Block { start: key_range.start, end, key_len: key_range.len(), value: *value })
    }
}

fn rename(text: &str, _: &Document, block: &Block, instead: &str) -> Option<String> {
    Some(format!("{instead}{}", &text[block.start + block.key_len..block.end]))
}

fn labels(text: &str, document: &Document, block: &Block, instead: &str) -> Option<String> {
    let NodeKind::Mapping { entries, .. } = &document.node(block.value).kind else { return None };
    let lines = &text[block.start + block.key_len..block.end];
    let (first, rest) = lines.split_once('\n')?;
    // `{a: b}` and values over several lines are left alone.
    if !first.trim_start_matches(':').trim().is_empty() && !first.contains('#') || entries.is_empty() {
        return None;
    }
    let indent = rest.lines().find(|line| !line.trim().is_empty())?.len()
        - rest.lines().find(|line| !line.trim().is_empty())?.trim_start().len();
    let mut out = format!("{instead}{first}\n- includeSelectors: true\n  pairs:\n");
    for line in rest.lines() {
        if line.len() >= indent
            && line.is_char_boundary(indent)
            && line[..indent].trim().is_empty()
            && !line.trim().is_empty()
        {
            out.push_str("    ");
            out.push_str(&line[indent..]);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    Some(out)
}

fn merges(text: &str, document: &Document, block: &Block, instead: &str) -> Option<String> {
    let NodeKind::Sequence { items, .. } = &document.node(block.value).kind else { return None };
    let mut out = text[block.start..block.end].to_owned();
    for item in items.iter().rev() {
        let node = document.node(*item);
        let NodeKind::Scalar { text: value, style } = &node.kind else { return None };
        let range = node.range();
        let (start, end) = (range.start - block.start, (range.end - block.start).min(out.len()));
        let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        if !out[..start].ends_with("- ") || (value.contains('\n') && !is_block) {
            return None;
        }
        let line = out[..start].rfind('\n').map_or(0, |at| at + 1);
        let dash = out[line..start].find('-')?;
        if is_block {
            // The text stands below the new key.
            let body_at = out[start..end].find('\n').map_or(end, |at| start + at + 1);
            let body: String = out[body_at..end]
                .split_inclusive('\n')
                .map(|line| {
                    if line.trim().is_empty() {
                        line.to_owned()
                    } else {
                        format!("{}{line}", " ".repeat(2 + dash.min(2)))
                    }
                })
                .collect();
            out.replace_range(body_at..end, &body);
        }
        let key = if is_block || value.trim_start().starts_with('{') { "patch: " } else { "path: " };
        out.insert_str(start, key);
    }
    out.replace_range(..block.key_len, instead);
    Some(out)
}
