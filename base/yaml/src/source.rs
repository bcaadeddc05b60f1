//! The text that was read, and where its lines begin: byte offset -> line and column.

use std::fmt;

/// A place in a text as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The first line is 1.
    pub line: usize,
    /// In characters (not bytes); the first is 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A text with the byte offset of each of its lines.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(text: &str) -> Source {
        let mut line_starts = vec![0];
        let bytes = text.as_bytes();
        for (i, byte) in bytes.iter().enumerate() {
            // A lone carriage return is a line break in YAML too.
            let ends_line = *byte == b'\n' || (*byte == b'\r' && bytes.get(i + 1) != Some(&b'\n'));
            if ends_line {
                line_starts.push(i + 1);
            }
        }
        Source { text: text.to_owned(), line_starts }
    }

    /// The position of a byte offset; an offset past the end or inside a character is moved back to the last
    /// place that exists.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let mut before = &self.text[self.line_starts[line - 1]..offset];
        if line == 1 {
            before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before);
        }
        Position { line, column: before.chars().count() + 1 }
    }
}
