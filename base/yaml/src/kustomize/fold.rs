//! What becomes of a text that is written as a folded block (`>`) and read again: go-yaml's writer adds a line break in
//! front of more-indented lines, because it looks for them at the beginning of the text.

use std::borrow::Cow;

use super::emit::can_be_block;

/// The text after a round through a folded block.
pub fn refold(text: &str) -> Cow<'_, str> {
    // Only texts with more-indented lines, with breaks at their beginning or with several at their end are read as
    // something else.
    let indented = text.split('\n').skip(1).any(|line| line.starts_with([' ', '\t']));
    // That writer puts tabs into blocks; the one of the result does not.
    let fits =
        || if text.contains('\t') { can_be_block(&text.replace('\t', "x")) } else { can_be_block(text) };
    if !(indented || text.starts_with('\n') || text.ends_with("\n\n")) || !fits() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(read(&write(text), text))
}

/// The lines of the block.
fn write(text: &str) -> String {
    // The writer's mistake: it asks what follows the breaks at the beginning of the text, not those here.
    let doubles = text.trim_start_matches('\n').starts_with(|first: char| !matches!(first, ' ' | '\t'));
    let mut out = String::with_capacity(text.len() + 8);
    let (mut breaks, mut leading_spaces) = (true, true);
    for character in text.chars() {
        if character == '\n' {
            if !breaks && !leading_spaces && doubles {
                out.push('\n');
            }
            out.push('\n');
            breaks = true;
        } else {
            if breaks {
                leading_spaces = matches!(character, ' ' | '\t');
            }
            out.push(character);
            breaks = false;
        }
    }
    out
}

/// Reads the lines as a folded block; what ends it follows from the text that was written.
fn read(block: &str, original: &str) -> String {
    let mut out = String::with_capacity(block.len());
    let (mut leading_break, mut trailing, mut leading_blank) = (false, 0, false);
    let mut lines = block.split('\n').peekable();
    let breaks = |out: &mut String, n: usize| out.extend(std::iter::repeat_n('\n', n));
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        if line.is_empty() {
            // The last part stands behind the last break and is no line.
            trailing += usize::from(!is_last);
            continue;
        }
        let blank = line.starts_with([' ', '\t']);
        if leading_break && !leading_blank && !blank {
            if trailing == 0 {
                out.push(' ');
            }
        } else {
            breaks(&mut out, usize::from(leading_break));
        }
        breaks(&mut out, trailing);
        trailing = 0;
        leading_blank = blank;
        out.push_str(line);
        leading_break = !is_last;
    }
    let ends_with_break = original.ends_with('\n');
    let keeps = original == "\n" || original.ends_with("\n\n");
    breaks(&mut out, usize::from(leading_break && ends_with_break));
    if keeps {
        breaks(&mut out, trailing);
    }
    out
}
