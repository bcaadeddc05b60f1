//! JSON -> YAML, byte for byte as `sigs.k8s.io/yaml` prints it: keys in natural order, lists not indented under
//! their key, plain text where the reader of that library takes it for text, lines folded at 80 columns.
//!
//! The state of the cursor (`column`, `whitespace`, `indention`) follows libyaml's emitter, since its decisions to
//! break a line depend on it. Left out: comments, anchors, tags, flow style other than `{}` and `[]`.

use serde_json::Value;

use super::natural_order;
use crate::kubernetes::{self, Scalar, resolve::is_timestamp};

/// A line is broken at the first space behind this column.
const WIDTH: usize = 80;
const INDENT: isize = 2;
/// A longer key, in bytes, needs the `? ` form.
const SIMPLE_KEY_BYTES_MAX: usize = 128;

/// One document, with a line feed at its end.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// Appends one document to a text that is empty or ends with a line feed.
pub fn write(out: &mut String, value: &Value) {
    let mut emitter = Emitter { out, column: 0, indent: -1, whitespace: true, indention: true };
    emitter.node(value, Context::Root);
    if emitter.column > 0 {
        emitter.put_break();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Item,
    /// The value of a map's entry.
    Value,
    /// A key before `:` in its line.
    SimpleKey,
    /// A key behind `?`.
    LongKey,
}

struct Emitter<'o> {
    out: &'o mut String,
    column: usize,
    indent: isize,
    /// The last character was white space that separates.
    whitespace: bool,
    /// Nothing but indentation and indicators stand in the line.
    indention: bool,
}

impl Emitter<'_> {
    fn node(&mut self, value: &Value, context: Context) {
        match value {
            Value::Object(map) if map.is_empty() => self.indicator("{}", true, false, false),
            Value::Array(list) if list.is_empty() => self.indicator("[]", true, false, false),
            Value::Object(map) => self.map(map),
            Value::Array(list) => self.list(list, context),
            Value::String(text) => self.text(text, context),
            Value::Null => self.plain("null", true),
            Value::Bool(value) => self.plain(if *value { "true" } else { "false" }, true),
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => self.plain(&go_float(float), true),
                _ => self.plain(&number.to_string(), true),
            },
        }
    }

    fn list(&mut self, list: &[Value], context: Context) {
        let outer = self.indent;
        let indentless = matches!(context, Context::Value | Context::LongKey) && !self.indention;
        self.increase_indent(false, indentless);
        for item in list {
            self.write_indent();
            self.indicator("-", true, false, true);
            self.node(item, Context::Item);
        }
        self.indent = outer;
    }

    fn map(&mut self, map: &serde_json::Map<String, Value>) {
        let outer = self.indent;
        self.increase_indent(false, false);
        let mut entries: Vec<(&String, &Value)> = map.iter().collect();
        entries.sort_by(|a, b| natural_order(a.0, b.0));
        for (key, value) in entries {
            self.write_indent();
            let is_simple = key.len() <= SIMPLE_KEY_BYTES_MAX && !key.contains(is_break);
            if is_simple {
                self.text(key, Context::SimpleKey);
                self.indicator(":", false, false, false);
            } else {
                self.indicator("?", true, false, true);
                self.text(key, Context::LongKey);
                self.write_indent();
                self.indicator(":", true, false, true);
            }
            self.node(value, Context::Value);
        }
        self.indent = outer;
    }

    fn text(&mut self, text: &str, context: Context) {
        let is_key = context == Context::SimpleKey;
        let allow_breaks = !is_key;
        let outer = self.indent;
        self.increase_indent(true, false);
        if is_simple_word(text) && !needs_quotes(text) {
            self.word(text);
        } else {
            match style(text, is_key) {
                Style::Plain => self.plain(text, allow_breaks),
                Style::Single => self.single_quoted(text, allow_breaks),
                Style::Double => self.double_quoted(text, allow_breaks),
                Style::Literal => self.literal(text),
            }
        }
        self.indent = outer;
    }

    fn increase_indent(&mut self, flow: bool, indentless: bool) {
        if self.indent < 0 {
            self.indent = if flow { INDENT } else { 0 };
        } else if !indentless {
            self.indent += INDENT;
        }
    }

    fn put(&mut self, character: char) {
        self.out.push(character);
        self.column += 1;
    }

    fn put_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// Writes a line break that is a part of a text.
    fn write_break(&mut self, character: char) {
        self.out.push(character);
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.max(0) as usize;
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, indicator: &str, need_whitespace: bool, whitespace: bool, indention: bool) {
        if need_whitespace && !self.whitespace {
            self.put(' ');
        }
        self.out.push_str(indicator);
        self.column += indicator.len();
        self.whitespace = whitespace;
        self.indention = self.indention && indention;
    }

    /// Plain ASCII text without spaces.
    fn word(&mut self, text: &str) {
        if !self.whitespace {
            self.put(' ');
        }
        self.out.push_str(text);
        self.column += text.len();
        self.whitespace = false;
        self.indention = false;
    }

    fn plain(&mut self, text: &str, allow_breaks: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        self.flowing(text, allow_breaks, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn single_quoted(&mut self, text: &str, allow_breaks: bool) {
        self.indicator("'", true, false, false);
        self.flowing(text, allow_breaks, true);
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    /// Text in which one line break is a space: plain, and in single quotes.
    fn flowing(&mut self, text: &str, allow_breaks: bool, quoted: bool) {
        let (mut spaces, mut breaks) = (false, false);
        let mut characters = text.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let next = characters.peek().map(|(_, next)| *next);
            if character == ' ' {
                let inside = !quoted || (at > 0 && at + 1 < text.len());
                if allow_breaks && !spaces && self.column > WIDTH && inside && next != Some(' ') {
                    self.write_indent();
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else if is_break(character) {
                if !breaks && character == '\n' {
                    self.put_break();
                }
                self.write_break(character);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                if quoted && character == '\'' {
                    self.put('\'');
                }
                self.put(character);
                self.indention = false;
                spaces = false;
                breaks = false;
            }
        }
    }

    fn double_quoted(&mut self, text: &str, allow_breaks: bool) {
        self.indicator("\"", true, false, false);
        let mut spaces = false;
        let mut characters = text.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            if !is_printable(character) || is_break(character) || matches!(character, '"' | '\\' | '\u{feff}')
            {
                self.escape(character);
                spaces = false;
            } else if character == ' ' {
                let inside = at > 0 && at + 1 < text.len();
                if allow_breaks && !spaces && self.column > WIDTH && inside {
                    self.write_indent();
                    if characters.peek().is_some_and(|(_, next)| *next == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else {
                self.put(character);
                spaces = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn escape(&mut self, character: char) {
        self.put('\\');
        let short = match character {
            '\0' => Some('0'),
            '\u{7}' => Some('a'),
            '\u{8}' => Some('b'),
            '\t' => Some('t'),
            '\n' => Some('n'),
            '\u{b}' => Some('v'),
            '\u{c}' => Some('f'),
            '\r' => Some('r'),
            '\u{1b}' => Some('e'),
            '"' => Some('"'),
            '\\' => Some('\\'),
            '\u{85}' => Some('N'),
            '\u{a0}' => Some('_'),
            '\u{2028}' => Some('L'),
            '\u{2029}' => Some('P'),
            _ => None,
        };
        if let Some(short) = short {
            self.put(short);
            return;
        }
        let code = u32::from(character);
        let digits = match code {
            0..=0xff => format!("x{code:02X}"),
            0x100..=0xffff => format!("u{code:04X}"),
            _ => format!("U{code:08X}"),
        };
        self.out.push_str(&digits);
        self.column += digits.len();
    }

    fn literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with(|first| first == ' ' || is_break(first)) {
            self.indicator("2", false, false, false);
        }
        let mut from_end = text.chars().rev();
        match (from_end.next(), from_end.next()) {
            (Some(last), before) if is_break(last) => {
                if before.is_none_or(is_break) {
                    self.indicator("+", false, false, false);
                }
            }
            _ => self.indicator("-", false, false, false),
        }
        self.put_break();
        self.indention = true;
        self.whitespace = true;
        let indent = self.indent.max(0) as usize;
        for line in text.split_inclusive(is_break) {
            let content = line.trim_end_matches(is_break);
            if !content.is_empty() {
                self.write_indent();
                debug_assert!(self.column == indent);
                self.out.push_str(content);
                self.column += content.chars().count();
                self.indention = false;
            }
            if let Some(last) = line.chars().next_back().filter(|last| is_break(*last)) {
                self.write_break(last);
                self.indention = true;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn style(text: &str, is_key: bool) -> Style {
    let analysis = analyze(text);
    let mut style = match text {
        _ if text.contains('\n') => Style::Literal,
        _ if needs_quotes(text) => Style::Double,
        _ => Style::Plain,
    };
    if is_key && analysis.multiline {
        style = Style::Double;
    }
    if style == Style::Plain && (!analysis.plain || (text.is_empty() && is_key)) {
        style = Style::Single;
    }
    if style == Style::Single && !analysis.single_quoted {
        style = Style::Double;
    }
    if style == Style::Literal && (!analysis.block || is_key) {
        style = Style::Double;
    }
    style
}

/// Whether a text can be written without quotes as the value of a block, whatever a reader then takes it for.
pub fn can_be_plain(text: &str) -> bool {
    is_simple_word(text) || analyze(text).plain
}

/// Whether a text can be written as a block scalar.
pub(super) fn can_be_block(text: &str) -> bool {
    analyze(text).block
}

/// Whether the reader takes the plain text for something else than text.
fn needs_quotes(text: &str) -> bool {
    let Some(first) = text.bytes().next() else { return true };
    match first {
        b'0'..=b'9' | b'+' | b'-' => {
            !matches!(kubernetes::resolve(None, text), Ok(Scalar::String(_)))
                || is_timestamp(text)
                || is_base_60(text)
        }
        b'.' | b'~' | b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' => {
            !matches!(kubernetes::resolve(None, text), Ok(Scalar::String(_)))
        }
        _ => false,
    }
}

/// `12:30:45`, `-1:2.5`: a number of YAML 1.1.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = match unsigned.rsplit_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let is_digit_or_line = |byte: u8| byte.is_ascii_digit() || byte == b'_';
    let mut groups = whole.split(':');
    let first = groups.next().unwrap_or_default();
    let first_fits =
        first.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && first.bytes().all(is_digit_or_line);
    let mut n_groups = 0;
    let groups_fit = groups.all(|group| {
        n_groups += 1;
        match group.as_bytes() {
            [digit] => digit.is_ascii_digit(),
            [ten, digit] => (b'0'..=b'5').contains(ten) && digit.is_ascii_digit(),
            _ => false,
        }
    });
    first_fits
        && groups_fit
        && n_groups > 0
        && fraction.is_none_or(|fraction| fraction.bytes().all(is_digit_or_line))
}

/// Only letters, digits and marks that mean nothing inside of a word.
fn is_simple_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|first| first.is_ascii_alphanumeric() || matches!(first, b'/' | b'$' | b'_'))
        && bytes.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'-' | b'_' | b'/' | b'$' | b'@' | b'=' | b'+' | b'~')
        })
}

struct Analysis {
    multiline: bool,
    /// Can be plain in block context.
    plain: bool,
    single_quoted: bool,
    block: bool,
}

fn analyze(text: &str) -> Analysis {
    if text.is_empty() {
        return Analysis { multiline: false, plain: true, single_quoted: true, block: false };
    }
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut line_breaks, mut special) = (false, false);
    let (mut leading, mut trailing_space, mut trailing_break) = (false, false, false);
    let (mut break_space, mut space_break) = (false, false);
    let (mut previous_space, mut previous_break) = (false, false);
    let mut preceded_by_whitespace = true;
    let mut characters = text.chars().enumerate().peekable();
    while let Some((i, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let followed_by_whitespace = next.is_none_or(|next| matches!(next, ' ' | '\t'));
        indicators |= match character {
            '#' if i > 0 => preceded_by_whitespace,
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`' => i == 0,
            '?' | '-' => i == 0 && followed_by_whitespace,
            ':' => followed_by_whitespace,
            _ => false,
        };
        special |= !is_printable(character);
        if character == ' ' {
            leading |= i == 0;
            trailing_space |= next.is_none();
            break_space |= previous_break;
            (previous_space, previous_break) = (true, false);
        } else if is_break(character) {
            line_breaks = true;
            leading |= i == 0;
            trailing_break |= next.is_none();
            space_break |= previous_space;
            (previous_space, previous_break) = (false, true);
        } else {
            (previous_space, previous_break) = (false, false);
        }
        preceded_by_whitespace = matches!(character, ' ' | '\t' | '\0') || is_break(character);
    }
    let odd = space_break || special;
    Analysis {
        multiline: line_breaks,
        plain: !(leading
            || trailing_space
            || trailing_break
            || break_space
            || odd
            || line_breaks
            || indicators),
        single_quoted: !(break_space || odd),
        block: !(trailing_space || odd),
    }
}

fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(character: char) -> bool {
    match character {
        '\n' | ' '..='~' => true,
        '\u{0}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        // Four bytes in UTF-8: not printable for libyaml's table.
        other => u32::from(other) < 0x10000,
    }
}

/// Go's `strconv.FormatFloat(value, 'g', -1, 64)`: an exponent below 1e-4 and from 1e6 on.
fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    const EXPONENT_END: i32 = 6;
    if (-4..EXPONENT_END).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
