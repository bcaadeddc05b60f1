//! Reads a JSON body along a type: wrong types are errors, unknown and duplicate fields are noted in the order in
//! which they stand in the body.

use std::cell::RefCell;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Shape;
use super::quantity;
use crate::status::quote;

const NO_QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
/// Nesting of an object.
pub(crate) const DEPTH_MAX: usize = 100;
/// Problems noted for one body.
const PROBLEMS_MAX: usize = 100;

/// What was read.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub value: Value,
    /// `unknown field "spec.x"`, `duplicate field "data.k"`.
    pub problems: Vec<String>,
}

#[derive(Default)]
struct Context {
    path: String,
    depth: usize,
    problems: Vec<String>,
    /// Numbers too large for their type are cut, as a conversion between types does, and not refused.
    cuts: bool,
    /// Our own text of the first error, without serde_json's position.
    error: Option<String>,
    /// The first error that did not end the reading.
    soft_error: Option<String>,
}

/// Reads JSON text.
pub(crate) fn from_slice(body: &[u8], shape: &Shape) -> Result<Decoded, String> {
    let context = RefCell::new(Context::default());
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = Seed { shape, context: &context }.deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    finish(read, context)
}

/// Reads a tree that would else be written and read as text, as after a JSON patch.
pub(crate) fn from_value(value: Value, shape: &Shape) -> Result<Decoded, String> {
    tree(value, shape, Context::default())
}

/// Converts a tree, as after a merge that knows types.
pub(crate) fn convert(value: Value, shape: &Shape) -> Result<Decoded, String> {
    tree(value, shape, Context { cuts: true, ..Context::default() })
}

fn tree(value: Value, shape: &Shape, context: Context) -> Result<Decoded, String> {
    let context = RefCell::new(context);
    let read = Seed { shape, context: &context }.deserialize(value);
    finish(read, context)
}

fn finish(read: Result<Value, serde_json::Error>, context: RefCell<Context>) -> Result<Decoded, String> {
    let context = context.into_inner();
    match read {
        Ok(value) => match context.soft_error {
            Some(error) => Err(error),
            None => Ok(Decoded { value, problems: context.problems }),
        },
        Err(error) => Err(context.error.unwrap_or_else(|| error.to_string())),
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    shape: &'a Shape,
    context: &'a RefCell<Context>,
}

impl Seed<'_> {
    fn fail<E: serde::de::Error>(&self, text: String) -> E {
        let mut context = self.context.borrow_mut();
        let error = E::custom(&text);
        context.error.get_or_insert(text);
        error
    }

    /// A value of the wrong type: noted, and reading goes on, as what is worse may follow.
    fn mismatch<E: serde::de::Error>(&self, got: &str) -> Result<Value, E> {
        if matches!(self.shape, Shape::Quantity) {
            return Err(self.fail(NO_QUANTITY.into()));
        }
        let path = self.context.borrow().path.clone();
        let place = if path.is_empty() { String::new() } else { format!(" at `{path}`") };
        Ok(self.soft(format!("json: cannot unmarshal {got} into {}{place}", self.expected())))
    }

    fn soft(&self, text: String) -> Value {
        self.context.borrow_mut().soft_error.get_or_insert(text);
        Value::Null
    }

    /// Leaves out the rest of a list that should be none.
    fn rest<'de, A: SeqAccess<'de>>(&self, mut items: A, got: &str) -> Result<Value, A::Error> {
        while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        self.mismatch(got)
    }

    fn expected(&self) -> &'static str {
        match self.shape {
            Shape::String | Shape::Bytes => "a string",
            Shape::Integer32 | Shape::Integer => "an integer",
            Shape::Number => "a number",
            Shape::Boolean => "a boolean",
            Shape::Time | Shape::MicroTime => "a time",
            Shape::IntOrString => "an integer or string",
            Shape::Quantity => "a quantity",
            Shape::Any => "a value",
            Shape::AnyObject | Shape::Struct(_) | Shape::Map(_) => "an object",
            Shape::List(_) => "a list",
        }
    }

    fn number<E: serde::de::Error>(&self, number: Number) -> Result<Value, E> {
        match self.shape {
            Shape::Integer32 | Shape::Integer => match number.as_i64() {
                Some(whole) => self.fit(whole),
                None => match number.as_f64() {
                    Some(real)
                        if real.fract() == 0.0 && real.abs() < 9.2e18 && self.context.borrow().cuts =>
                    {
                        self.fit(real as i64)
                    }
                    _ => self.mismatch(&format!("number {number}")),
                },
            },
            Shape::IntOrString if number.as_i64().is_none_or(|whole| i32::try_from(whole).is_err()) => {
                self.mismatch(&format!("number {number}"))
            }
            // A whole number is written without a point.
            Shape::Number | Shape::Any
                if number
                    .as_f64()
                    .is_some_and(|real| number.is_f64() && real.fract() == 0.0 && real.abs() < 1e15) =>
            {
                Ok((number.as_f64().unwrap_or_default() as i64).into())
            }
            Shape::Number | Shape::IntOrString | Shape::Any => Ok(Value::Number(number)),
            Shape::Quantity => self.quantity(&number.to_string()),
            _ => self.mismatch("number"),
        }
    }

    fn fit<E: serde::de::Error>(&self, number: i64) -> Result<Value, E> {
        if matches!(self.shape, Shape::Integer) || i32::try_from(number).is_ok() {
            return Ok(number.into());
        }
        if self.context.borrow().cuts {
            return Ok((number as i32).into());
        }
        self.mismatch(&format!("number {number}"))
    }

    fn quantity<E: serde::de::Error>(&self, text: &str) -> Result<Value, E> {
        quantity::printed(text).map(Value::String).map_err(|error| self.fail(error.into()))
    }

    fn text<E: serde::de::Error>(&self, text: &str) -> Result<Value, E> {
        match self.shape {
            Shape::String | Shape::IntOrString | Shape::Any => Ok(text.into()),
            Shape::Bytes => match base64_error(text) {
                None => Ok(text.into()),
                Some(at) => Ok(self.soft(format!("illegal base64 data at input byte {at}"))),
            },
            Shape::Quantity => self.quantity(text),
            Shape::Time | Shape::MicroTime => match text.parse::<Timestamp>() {
                Ok(time) if matches!(self.shape, Shape::Time) => Ok(seconds(time).into()),
                Ok(time) if has_six_digits(text) => Ok(micros(time).into()),
                Ok(_) => Err(self.fail(format!(
                    "parsing time {} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {} as \".000000\"",
                    quote(text),
                    quote(text.get(19..).unwrap_or_default())
                ))),
                Err(_) => Err(self.fail(format!(
                    "parsing time {} as \"2006-01-02T15:04:05Z07:00\": cannot parse {} as \"2006\"",
                    quote(text),
                    quote(text)
                ))),
            },
            _ => self.mismatch("string"),
        }
    }

    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut context = self.context.borrow_mut();
        context.depth += 1;
        if context.depth > DEPTH_MAX {
            drop(context);
            return Err(self.fail(format!("exceeded max depth of {DEPTH_MAX}")));
        }
        Ok(())
    }

    fn leave(&self) {
        self.context.borrow_mut().depth -= 1;
    }

    fn push(&self, segment: &str) -> usize {
        let mut context = self.context.borrow_mut();
        let before = context.path.len();
        if before > 0 && !segment.starts_with('[') {
            context.path.push('.');
        }
        context.path.push_str(segment);
        before
    }

    fn pop(&self, before: usize) {
        self.context.borrow_mut().path.truncate(before);
    }

    fn note(&self, what: &str) {
        let mut context = self.context.borrow_mut();
        if context.problems.len() < PROBLEMS_MAX {
            let problem = format!("{what} field \"{}\"", context.path);
            if !context.problems.contains(&problem) {
                context.problems.push(problem);
            }
        }
    }
}

/// Whether the fraction of a time has the six digits that a `MicroTime` is written with.
fn has_six_digits(text: &str) -> bool {
    let fraction = text.get(19..).unwrap_or_default();
    let digits = fraction.bytes().skip(1).take_while(u8::is_ascii_digit).count();
    fraction.starts_with('.') && digits == 6
}

/// RFC 3339 to the second.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 with six digits.
pub(crate) fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The place of the first byte that is not base64 (line breaks are allowed).
fn base64_error(text: &str) -> Option<usize> {
    let mut n = 0;
    let mut padding = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' if n % 4 >= 2 || padding > 0 => {
                padding += 1;
                n += 1;
                if padding > 2 {
                    return Some(at);
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => n += 1,
            _ => return Some(at),
        }
    }
    (n % 4 != 0).then_some(text.len())
}

const ANY: Shape = Shape::Any;

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        match self.shape {
            Shape::Boolean | Shape::Any => Ok(value.into()),
            _ => self.mismatch("bool"),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.mismatch("number"),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let element = match self.shape {
            Shape::List(element) => &**element,
            Shape::Bytes => {
                use base64::Engine;
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element::<Value>()? {
                    match byte.as_u64().and_then(|byte| u8::try_from(byte).ok()) {
                        Some(byte) => bytes.push(byte),
                        None => return self.rest(items, "array"),
                    }
                }
                return Ok(base64::engine::general_purpose::STANDARD.encode(bytes).into());
            }
            Shape::Any => &ANY,
            _ => return self.rest(items, "array"),
        };
        self.enter()?;
        let mut list = Vec::new();
        loop {
            let before = self.push(&format!("[{}]", list.len()));
            let item = items.next_element_seed(Seed { shape: element, context: self.context })?;
            self.pop(before);
            match item {
                Some(item) => list.push(item),
                None => break,
            }
        }
        self.leave();
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        if !matches!(self.shape, Shape::Struct(_) | Shape::Map(_) | Shape::AnyObject | Shape::Any) {
            while entries.next_entry::<String, serde::de::IgnoredAny>()?.is_some() {}
            return self.mismatch("object");
        }
        self.enter()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let shape = match self.shape {
                Shape::Struct(fields) => fields.fields().get(&key).map(|field| &field.shape),
                Shape::Map(values) => Some(&**values),
                _ => Some(&ANY),
            };
            let before = self.push(&key);
            match shape {
                None => {
                    self.note("unknown");
                    entries.next_value_seed(Seed { shape: &ANY, context: self.context })?;
                }
                Some(shape) => {
                    if map.contains_key(&key) {
                        self.note("duplicate");
                    }
                    let value = entries.next_value_seed(Seed { shape, context: self.context })?;
                    map.insert(key, value);
                }
            }
            self.pop(before);
        }
        self.leave();
        if map.contains_key("$serde_json::private::Number") {
            return Err(A::Error::custom("a number is written as an object"));
        }
        Ok(Value::Object(map))
    }
}
