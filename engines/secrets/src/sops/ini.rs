//! The line formats: dotenv and INI.

use super::Error;
use super::tree::{Tree, text};

/// Flat metadata, in the order of the file.
type Flat = Vec<(String, String)>;

/// `KEY=value` lines; `\n` in a value is a line feed. Metadata has `sops_` in front.
pub(super) fn dotenv(input: &str) -> Result<(Tree, Flat), Error> {
    let mut values = Vec::new();
    let mut metadata = Vec::new();
    for (number, line) in input.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            let what = format!("line {}: no `=`", number + 1);
            return Err(Error::Format { format: "dotenv", what });
        };
        let value = value.replace("\\n", "\n");
        match key.strip_prefix("sops_") {
            Some(field) => metadata.push((field.to_owned(), value)),
            None => values.push((key.to_owned(), text(&value))),
        }
    }
    Ok((Tree::Map(values), metadata))
}

/// Sections of `key = value` lines. Metadata is the section `sops`.
pub(super) fn ini(input: &str) -> Result<(Tree, Flat), Error> {
    let mut sections: Vec<(String, Vec<(String, Tree)>)> = vec![("DEFAULT".to_owned(), Vec::new())];
    let mut metadata = Vec::new();
    let mut lines = input.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        let bad = |what: &str| Error::Format { format: "INI", what: format!("line {}: {what}", number + 1) };
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split_once(']').ok_or_else(|| bad("no `]`"))?.0;
            if !sections.iter().any(|(section, _)| section == name) {
                sections.push((name.to_owned(), Vec::new()));
            } else if let Some(at) = sections.iter().position(|(section, _)| section == name) {
                // A section that goes on.
                let section = sections.remove(at);
                sections.push(section);
            }
            continue;
        }
        let at = line.find(['=', ':']).ok_or_else(|| bad("no `=`"))?;
        let key = line[..at].trim().trim_matches(['"', '`']).to_owned();
        let written = line[at + 1..].trim();
        let value = if let Some(rest) = written.strip_prefix("\"\"\"") {
            until(rest, "\"\"\"", &mut lines).ok_or_else(|| bad("no end of the value"))?
        } else if let Some(rest) = written.strip_prefix('`') {
            until(rest, "`", &mut lines).ok_or_else(|| bad("no end of the value"))?
        } else {
            unquoted(written).to_owned()
        };
        let Some((section, entries)) = sections.last_mut() else { continue };
        if section == "sops" {
            metadata.push((key, value.replace("\\n", "\n")));
        } else {
            entries.push((key, text(&value)));
        }
    }
    let tree = sections
        .into_iter()
        .filter(|(name, _)| name != "sops")
        .map(|(name, entries)| (name, Tree::Map(entries)));
    Ok((Tree::Map(tree.collect()), metadata))
}

/// A value over several lines.
fn until<'a>(first: &str, end: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<String> {
    let mut value = String::new();
    let mut line = first;
    loop {
        if let Some((last, _)) = line.split_once(end) {
            value.push_str(last);
            return Some(value);
        }
        value.push_str(line);
        value.push('\n');
        line = lines.next()?.1;
    }
}

/// Without the quotes around it, or the comment behind it.
fn unquoted(written: &str) -> &str {
    for quote in ['"', '\''] {
        if written.len() > 1 && written.starts_with(quote) && written.ends_with(quote) {
            return &written[1..written.len() - 1];
        }
    }
    let comment = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| written.find(mark)).min();
    comment.map_or(written, |at| written[..at].trim_end())
}
