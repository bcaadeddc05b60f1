//! Characters to tokens. Positions are counted in characters. Escapes are resolved here.

use std::sync::Arc;

use crate::value::Value;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name in back quotes, which Kubernetes does not allow.
    Quoted,
    /// `true`, `false`, `null` and `in` come as names too.
    Name(Arc<str>),
    Literal(Literal),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) enum Literal {
    /// Unsigned digits and whether they are hexadecimal; the parser adds the sign.
    Int(String, bool),
    Uint(u64),
    Double(f64),
    Text(Value),
}

impl PartialEq for Literal {
    fn eq(&self, _: &Literal) -> bool {
        false
    }
}

pub(crate) struct Lexed {
    pub(crate) token: Token,
    pub(crate) at: usize,
    /// The text of the token, for messages.
    pub(crate) text: String,
}

pub(crate) type Failure = (usize, String);

const SYMBOLS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%", "<", ">", "=",
];

/// Unreadable places that are reported; the rest is left out.
const FAILURES_MAX: usize = 30;

/// All tokens of `source`, with an end token, and the places that are none.
pub(crate) fn tokens(source: &str) -> (Vec<Lexed>, Vec<Failure>) {
    let chars: Vec<char> = source.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0 };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = match lexer.next() {
            Ok(token) => token,
            Err(failure) => {
                lexer.at = lexer.at.max(at + 1).min(chars.len());
                let readable = !failure.1.starts_with("Syntax");
                if failures.len() < FAILURES_MAX {
                    failures.push(failure);
                }
                if !readable {
                    continue;
                }
                Token::Literal(Literal::Text(Value::Null))
            }
        };
        let text = chars[at..lexer.at.min(chars.len())].iter().collect();
        let end = token == Token::End;
        found.push(Lexed { token, at, text });
        if end {
            return (found, failures);
        }
    }
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip_blank(&mut self) {
        while self.at < self.chars.len() {
            match self.peek(0) {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == '/' => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Result<Token, Failure> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if let Some((raw, bytes, prefix)) = self.string_prefix() {
            let start = self.at;
            self.at += prefix;
            return self.string(start, raw, bytes).map(|value| Token::Literal(Literal::Text(value)));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            let name: String = self.chars[start..self.at].iter().collect();
            return Ok(Token::Name(name.into()));
        }
        if first == '`'
            && let Some(n) = self.chars[self.at + 1..].iter().position(|&c| c == '`')
        {
            self.at += n + 2;
            return Ok(Token::Quoted);
        }
        for symbol in SYMBOLS {
            if symbol.chars().enumerate().all(|(index, c)| self.peek(index) == c) {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        Err((self.at, format!("Syntax error: token recognition error at: '{first}'")))
    }

    fn string_prefix(&self) -> Option<(bool, bool, usize)> {
        let quote = |c: char| c == '"' || c == '\'';
        let (a, b, c) = (self.peek(0).to_ascii_lowercase(), self.peek(1).to_ascii_lowercase(), self.peek(2));
        match (a, b) {
            (a, _) if quote(a) => Some((false, false, 0)),
            ('r', b) if quote(b) => Some((true, false, 1)),
            ('b', b) if quote(b) => Some((false, true, 1)),
            ('b', 'r') if quote(c) => Some((true, true, 2)),
            _ => None,
        }
    }

    fn number(&mut self) -> Result<Token, Failure> {
        let start = self.at;
        if self.peek(0) == '0' && self.peek(1) == 'x' && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            let digits = self.digits(|c| c.is_ascii_hexdigit());
            if matches!(self.peek(0), 'u' | 'U') {
                self.at += 1;
                let value = u64::from_str_radix(&digits, 16)
                    .map_err(|_| (start, "invalid uint literal".to_owned()))?;
                return Ok(Token::Literal(Literal::Uint(value)));
            }
            return Ok(Token::Literal(Literal::Int(digits, true)));
        }
        let mut text = self.digits(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            text.push('.');
            text += &self.digits(|c| c.is_ascii_digit());
        }
        let signed = usize::from(matches!(self.peek(1), '+' | '-'));
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + signed).is_ascii_digit() {
            double = true;
            text.push('e');
            if signed == 1 {
                text.push(self.peek(1));
            }
            self.at += 1 + signed;
            text += &self.digits(|c| c.is_ascii_digit());
        }
        if double {
            let value: f64 = text.parse().map_err(|_| (start, "invalid double literal".to_owned()))?;
            if value.is_infinite() {
                return Err((start, "invalid double literal".to_owned()));
            }
            return Ok(Token::Literal(Literal::Double(value)));
        }
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            let value = text.parse().map_err(|_| (start, "invalid uint literal".to_owned()))?;
            return Ok(Token::Literal(Literal::Uint(value)));
        }
        Ok(Token::Literal(Literal::Int(text, false)))
    }

    fn digits(&mut self, allowed: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while allowed(self.peek(0)) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn string(&mut self, start: usize, raw: bool, bytes: bool) -> Result<Value, Failure> {
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut text = Text { bytes, wrong: false, data: Vec::new() };
        loop {
            if self.at >= self.chars.len() {
                return Err(self.unreadable(start));
            }
            let c = self.peek(0);
            if c == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += width;
                break;
            }
            if !triple && (c == '\n' || c == '\r') {
                return Err(self.unreadable(start));
            }
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(start, &mut text)?;
            } else if c == '\r' {
                if self.peek(0) == '\n' {
                    self.at += 1;
                }
                text.push('\n');
            } else {
                text.push(c);
            }
        }
        if text.wrong {
            return Err((start, "unable to unescape string".to_owned()));
        }
        if bytes {
            return Ok(Value::Bytes(text.data.into()));
        }
        let text = String::from_utf8(text.data).expect("only whole characters were written");
        Ok(Value::String(text.into()))
    }

    fn escape(&mut self, start: usize, text: &mut Text) -> Result<(), Failure> {
        let c = self.peek(0);
        self.at += 1;
        let plain = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => c,
            'x' | 'X' => return self.numeric(start, text, 2, 16),
            'u' | 'U' if text.bytes => {
                text.wrong = true;
                return Ok(());
            }
            'u' => return self.numeric(start, text, 4, 16),
            'U' => return self.numeric(start, text, 8, 16),
            '0'..='3' => {
                self.at -= 1;
                return self.numeric(start, text, 3, 8);
            }
            _ => return Err(self.unreadable(start)),
        };
        text.push(plain);
        Ok(())
    }

    fn numeric(&mut self, start: usize, text: &mut Text, n: usize, radix: u32) -> Result<(), Failure> {
        let mut value = 0u32;
        for _ in 0..n {
            let Some(digit) = self.peek(0).to_digit(radix) else { return Err(self.unreadable(start)) };
            value = value.wrapping_mul(radix).wrapping_add(digit);
            self.at += 1;
        }
        if text.bytes {
            text.data.push(value as u8);
            return Ok(());
        }
        match char::from_u32(value) {
            Some(c) => text.push(c),
            None => text.wrong = true,
        }
        Ok(())
    }

    fn unreadable(&self, start: usize) -> Failure {
        let text: String = self.chars[start..self.at.min(self.chars.len())].iter().collect();
        (start, format!("Syntax error: token recognition error at: '{text}'"))
    }
}

struct Text {
    bytes: bool,
    /// An escape stands for no character.
    wrong: bool,
    data: Vec<u8>,
}

impl Text {
    fn push(&mut self, c: char) {
        self.data.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
