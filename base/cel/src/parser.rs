//! Tokens to the syntax tree. Macros are expanded as soon as their call is complete.

use std::sync::Arc;

use crate::ast::{Element, Entry, Expr, Field, Kind};
use crate::lexer::{Failure, Lexed, Literal, Token, tokens};
use crate::macros;
use crate::maker::Maker;
use crate::value::Value;

/// Longest expression, in characters (upstream's bound).
pub const EXPRESSION_SIZE_MAX: usize = 100_000;
/// Deepest expression (upstream's bound; the last node of a chain is not counted).
pub const DEPTH_MAX: usize = 250;

/// Most nodes after the expansion of macros.
pub const NODES_MAX: usize = 500_000;

const EXPECTED: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// A failure without a position belongs to the whole expression.
pub(crate) type ParseError = (Option<usize>, String);

/// Reads `source`; macros newer than the `minor` version of Kubernetes are not expanded.
pub(crate) fn parse(source: &str, minor: u32) -> Result<(Expr, usize), Vec<ParseError>> {
    let size = source.chars().count();
    if size > EXPRESSION_SIZE_MAX {
        let text =
            format!("expression code point size exceeds limit: size: {size}, limit {EXPRESSION_SIZE_MAX}");
        return Err(vec![(None, text)]);
    }
    let (tokens, failures) = tokens(source);
    let mut problems: Vec<ParseError> = failures.into_iter().map(|(at, text)| (Some(at), text)).collect();
    let mut parser = Parser { tokens, at: 0, depth: 0, maker: Maker::new(minor) };
    match parser.parse() {
        Ok(expr) if problems.is_empty() && expr.depth <= DEPTH_MAX + 1 => Ok((expr, parser.maker.n_ids())),
        Ok(_) if problems.is_empty() => Err(vec![(None, "max recursion depth exceeded".to_owned())]),
        Ok(_) => Err(problems),
        Err((at, text)) => {
            problems.push(((at != usize::MAX).then_some(at), text));
            Err(problems)
        }
    }
}

struct Parser {
    tokens: Vec<Lexed>,
    at: usize,
    depth: usize,
    maker: Maker,
}

type Parsed = Result<Expr, Failure>;

impl Parser {
    fn parse(&mut self) -> Parsed {
        let expr = self.expr()?;
        match self.token() {
            Token::End => Ok(expr),
            _ if self.at == 0 => Err(self.mismatch(EXPECTED)),
            Token::Symbol(_) => Err(self.mismatch("<EOF>")),
            _ => {
                let found = self.current();
                let text = format!("Syntax error: extraneous input '{}' expecting <EOF>", found.text);
                Err((found.at, text))
            }
        }
    }

    fn current(&self) -> &Lexed {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn token(&self) -> &Token {
        &self.current().token
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token(), Token::Symbol(found) if *found == symbol)
    }

    /// Takes the symbol if it is next, and says where it was.
    fn take(&mut self, symbol: &str) -> Option<usize> {
        let at = self.current().at;
        self.is(symbol).then(|| {
            self.at += 1;
            at
        })
    }

    fn expect(&mut self, symbol: &str) -> Result<usize, Failure> {
        self.take(symbol).ok_or_else(|| self.mismatch(&format!("'{symbol}'")))
    }

    fn mismatch(&self, expected: &str) -> Failure {
        let found = self.current();
        let text = if found.token == Token::End { "<EOF>" } else { &found.text };
        (found.at, format!("Syntax error: mismatched input '{text}' expecting {expected}"))
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.depth >= DEPTH_MAX {
            return Err((usize::MAX, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Stops long chains before they are too deep to walk.
    fn not_too_deep(&self) -> Result<(), Failure> {
        if self.maker.deepest() > DEPTH_MAX + 1 {
            return Err((usize::MAX, "max recursion depth exceeded".to_owned()));
        }
        Ok(())
    }

    fn expr(&mut self) -> Parsed {
        self.deeper(|parser| {
            let condition = parser.logical("||", "_||_")?;
            let Some(at) = parser.take("?") else { return Ok(condition) };
            let truthy = parser.logical("||", "_||_")?;
            parser.expect(":")?;
            let falsy = parser.expr()?;
            Ok(parser.maker.call(at, "_?_:_", vec![condition, truthy, falsy]))
        })
    }

    /// `a || b || c ...` as a balanced tree, so that long chains are not deep.
    fn logical(&mut self, symbol: &str, function: &str) -> Parsed {
        let mut terms = Vec::new();
        let mut places = Vec::new();
        loop {
            terms.push(if symbol == "||" { self.logical("&&", "_&&_")? } else { self.relation()? });
            match self.take(symbol) {
                Some(at) => places.push(at),
                None => break,
            }
        }
        Ok(balanced(&mut self.maker, function, &mut terms.into_iter().map(Some).collect::<Vec<_>>(), &places))
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        loop {
            let at = self.current().at;
            let function = match self.token() {
                Token::Symbol("==") => "_==_",
                Token::Symbol("!=") => "_!=_",
                Token::Symbol("<") => "_<_",
                Token::Symbol("<=") => "_<=_",
                Token::Symbol(">") => "_>_",
                Token::Symbol(">=") => "_>=_",
                Token::Name(name) if &**name == "in" => "@in",
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.sum()?;
            left = self.maker.call(at, function, vec![left, right]);
            self.not_too_deep()?;
        }
    }

    fn sum(&mut self) -> Parsed {
        self.binary(&[("+", "_+_"), ("-", "_-_")], |parser| {
            parser.binary(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")], Parser::unary)
        })
    }

    fn binary(&mut self, operators: &[(&str, &str)], next: impl Fn(&mut Parser) -> Parsed) -> Parsed {
        let mut left = next(self)?;
        'more: loop {
            for (symbol, function) in operators {
                if let Some(at) = self.take(symbol) {
                    let right = next(self)?;
                    left = self.maker.call(at, function, vec![left, right]);
                    self.not_too_deep()?;
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn unary(&mut self) -> Parsed {
        if let Some(at) = self.take("!") {
            let mut odd = true;
            while self.take("!").is_some() {
                odd = !odd;
            }
            let operand = self.member()?;
            return Ok(if odd { self.maker.call(at, "!_", vec![operand]) } else { operand });
        }
        if self.is("-") {
            let number = self.tokens.get(self.at + 1).map(|next| &next.token);
            if matches!(number, Some(Token::Literal(Literal::Int(..) | Literal::Double(_)))) {
                return self.member();
            }
            let at = self.expect("-")?;
            let mut odd = true;
            while self.take("-").is_some() {
                odd = !odd;
            }
            let operand = self.member()?;
            return Ok(if odd { self.maker.call(at, "-_", vec![operand]) } else { operand });
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            self.not_too_deep()?;
            if let Some(at) = self.take(".") {
                let optional = self.take("?").is_some();
                let field = self.field_name()?;
                if optional {
                    let name = self.maker.literal(at, Value::String(field));
                    operand = self.maker.call(at, "_?._", vec![operand, name]);
                } else if let Some(at) = self.take("(") {
                    let args = self.arguments(")")?;
                    operand = macros::expand(&mut self.maker, at, &field, Some(operand), args)?;
                } else {
                    let kind = Kind::Select { operand: Box::new(operand), field, test: false };
                    operand = self.maker.make(at, kind);
                }
            } else if let Some(at) = self.take("[") {
                let function = if self.take("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.maker.call(at, function, vec![operand, index]);
            } else if self.is("{") && operand.qualified_name().is_some() {
                let at = self.expect("{")?;
                operand = self.message(at, operand)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn field_name(&mut self) -> Result<Arc<str>, Failure> {
        match self.token() {
            Token::Name(name) if !matches!(&**name, "true" | "false" | "null" | "in") => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            Token::Name(name) if &**name == "in" => {
                let found = self.current();
                let at = self.tokens[self.at - 1].at;
                Err((at, format!("Syntax error: no viable alternative at input '.{}'", found.text)))
            }
            Token::Name(_) => Err(self.mismatch("IDENTIFIER")),
            Token::Quoted => Err((self.current().at, "unsupported syntax: '`'".to_owned())),
            _ => {
                Err((self.tokens[self.at - 1].at, "Syntax error: no viable alternative at input '.'".into()))
            }
        }
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Expr>, Failure> {
        let mut args = Vec::new();
        if self.take(close).is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.take(",").is_none() {
                self.expect(close)?;
                return Ok(args);
            }
        }
    }

    fn message(&mut self, at: usize, name: Expr) -> Parsed {
        let name: Arc<str> = name.qualified_name().expect("the caller asked").into();
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.take("?").is_some();
            let at = self.current().at;
            let Token::Name(name) = self.token().clone() else {
                return Err(self.mismatch("{'}', ',', '?', IDENTIFIER}"));
            };
            self.at += 1;
            self.expect(":")?;
            fields.push(Field { name: (*name).into(), at, value: self.expr()?, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        Ok(self.maker.make(at, Kind::Message { name, fields }))
    }

    fn primary(&mut self) -> Parsed {
        let at = self.current().at;
        let negative = self.take("-").is_some();
        match self.token().clone() {
            Token::Literal(literal) => {
                self.at += 1;
                let value = literal_value(literal, negative).map_err(|text| (at, text))?;
                Ok(self.maker.literal(at, value))
            }
            Token::Name(name) => self.name(at, &name),
            Token::Symbol(".") => {
                self.at += 1;
                let Token::Name(name) = self.token().clone() else {
                    return Err((at, "Syntax error: no viable alternative at input '.'".to_owned()));
                };
                self.name(at, &name)
            }
            Token::Symbol("(") => {
                self.at += 1;
                let expr = self.expr()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Symbol("[") => self.list(at),
            Token::Symbol("{") => self.map(at),
            _ => Err(self.mismatch(EXPECTED)),
        }
    }

    fn name(&mut self, at: usize, name: &str) -> Parsed {
        let literal = match name {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            "in" => return Err(self.mismatch(EXPECTED)),
            _ => None,
        };
        self.at += 1;
        if let Some(value) = literal {
            return Ok(self.maker.literal(at, value));
        }
        if crate::escape::is_reserved_field(name) {
            return Err((at, format!("reserved identifier: {name}")));
        }
        if let Some(at) = self.take("(") {
            let args = self.arguments(")")?;
            return macros::expand(&mut self.maker, at, name, None, args);
        }
        Ok(self.maker.ident(at, name))
    }

    fn list(&mut self, at: usize) -> Parsed {
        self.expect("[")?;
        let mut elements = Vec::new();
        while !self.is("]") {
            let optional = self.take("?").is_some();
            elements.push(Element { value: self.expr()?, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect("]")?;
        Ok(self.maker.make(at, Kind::List { elements }))
    }

    fn map(&mut self, at: usize) -> Parsed {
        self.expect("{")?;
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.take("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expr()?, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        Ok(self.maker.make(at, Kind::Map { entries }))
    }
}

fn literal_value(literal: Literal, negative: bool) -> Result<Value, String> {
    match literal {
        Literal::Int(digits, hex) => {
            let magnitude = i128::from_str_radix(&digits, if hex { 16 } else { 10 });
            let signed = magnitude.map(|magnitude| if negative { -magnitude } else { magnitude });
            let value = signed.ok().and_then(|value| i64::try_from(value).ok());
            value.map(Value::Int).ok_or_else(|| "invalid int literal".to_owned())
        }
        Literal::Double(value) => Ok(Value::Double(if negative { -value } else { value })),
        Literal::Uint(value) => Ok(Value::Uint(value)),
        Literal::Text(value) => Ok(value),
    }
}

fn balanced(maker: &mut Maker, function: &str, terms: &mut [Option<Expr>], places: &[usize]) -> Expr {
    if terms.len() == 1 {
        return terms[0].take().expect("each term is taken once");
    }
    let middle = places.len() / 2;
    let (left, right) = terms.split_at_mut(middle + 1);
    let left = balanced(maker, function, left, &places[..middle]);
    let right = balanced(maker, function, right, &places[middle + 1..]);
    maker.call(places[middle], function, vec![left, right])
}
