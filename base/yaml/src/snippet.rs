//! An error shown at its line, the same everywhere in dodai:
//!
//! ```text
//! apps/shop/app.yaml:14:5: error: unknown field `replica` (spec.processes.web)
//!    |
//! 14 |     replica: 2
//!    |     ^^^^^^^ did you mean `replicas`?
//! ```
//!
//! No colour, no terminal width: the text is for logs, pipes and code review as well.

use unicode_width::UnicodeWidthChar;

use crate::source::Position;

/// Characters of a line that are shown; a longer line is cut around the place.
const LINE_CHARS_MAX: usize = 120;
/// Characters kept before the place in a line that is cut.
const CONTEXT_CHARS: usize = 40;
/// A tab is shown as this many spaces.
const TAB_WIDTH: usize = 4;

/// Renders an error at a place of a text, with a line feed at the end. `len` is the number of characters to mark;
/// it is cut at the end of the line. `hint` stands behind the marks. A position behind the text gives the first
/// line only.
///
/// The line is printed as it stands: not for logs when the text may be a Secret.
pub fn render_snippet(
    file: &str,
    text: &str,
    position: Position,
    len: usize,
    message: &str,
    hint: Option<&str>,
) -> String {
    let Position { line, column } = position;
    let mut out = format!("{file}:{line}:{column}: error: {message}\n");
    let Some(shown) = line.checked_sub(1).and_then(|index| nth_line(text, index)) else {
        if let Some(hint) = hint {
            out.push_str(&format!("hint: {hint}\n"));
        }
        return out;
    };
    let view = view(shown, column.max(1) - 1, len.max(1));
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let marks = "^".repeat(view.mark_width.max(1));
    let indent = " ".repeat(view.mark_start);
    let hint = hint.map(|hint| format!(" {hint}")).unwrap_or_default();
    out.push_str(&format!("{gutter} |\n"));
    out.push_str(format!("{number} | {}", view.line).trim_end());
    out.push_str(&format!("\n{gutter} | {indent}{marks}{hint}\n"));
    out
}

/// The lines as [`crate::Document`] counts them: a lone carriage return ends one too.
fn nth_line(text: &str, index: usize) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    for _ in 0..index {
        let at = rest.find(['\n', '\r'])?;
        let width = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[at + width..];
    }
    Some(&rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())])
}

struct View {
    line: String,
    /// Both in terminal columns.
    mark_start: usize,
    mark_width: usize,
}

fn view(line: &str, start: usize, len: usize) -> View {
    let n_chars = line.chars().count();
    let skip = if n_chars > LINE_CHARS_MAX { start.saturating_sub(CONTEXT_CHARS) } else { 0 };
    let mut view = View { line: String::new(), mark_start: 0, mark_width: 0 };
    if skip > 0 {
        view.line.push('…');
        view.mark_start += 1;
    }
    for (i, character) in line.chars().enumerate().skip(skip).take(LINE_CHARS_MAX) {
        let width = match character {
            '\t' => {
                view.line.push_str(&" ".repeat(TAB_WIDTH));
                TAB_WIDTH
            }
            // Anything a terminal could act on is shown as a mark.
            character if character.is_control() => {
                view.line.push(char::REPLACEMENT_CHARACTER);
                1
            }
            character => {
                view.line.push(character);
                character.width().unwrap_or(0)
            }
        };
        if i < start {
            view.mark_start += width;
        } else if i < start.saturating_add(len) {
            view.mark_width += width;
        }
    }
    if n_chars > skip + LINE_CHARS_MAX {
        view.line.push('…');
    }
    view
}
