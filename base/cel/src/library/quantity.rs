//! Kubernetes quantities: exact decimals with nine digits after the point.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::opaque::Opaque;
use super::{Evaluated, Function, no_overload};
use crate::error::{EvalError, fail};
use crate::value::Value;

/// Digits of a number that are read.
const DIGITS_MAX: usize = 1_000;
/// Largest decimal exponent.
const EXPONENT_MAX: i64 = 1_000;

const WRONG: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// A quantity: sign, magnitude in nano-units (limbs of nine decimal digits, least first), and the notation.
#[derive(Clone, Debug)]
pub struct Quantity {
    negative: bool,
    limbs: Vec<u32>,
    notation: Notation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Notation {
    Decimal,
    Binary,
    Exponent,
}

const LIMB: u64 = 1_000_000_000;

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "quantity" => |args| match args {
            [Value::String(text)] => Quantity::parse(text).map(wrap).map_err(EvalError::new),
            _ => no_overload(),
        },
        "isQuantity" => |args| match args {
            [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_ok())),
            _ => no_overload(),
        },
        "sign" => |args| quantity(args).map(|quantity| Value::Int(quantity.sign())),
        "isInteger" => |args| quantity(args).map(|quantity| Value::Bool(quantity.as_int().is_some())),
        "asInteger" => |args| match quantity(args)?.as_int() {
            Some(value) => Ok(Value::Int(value)),
            None => fail("cannot convert value to integer"),
        },
        "asApproximateFloat" => |args| quantity(args).map(|quantity| Value::Double(quantity.as_double())),
        "add" => |args| sum(args, false),
        "sub" => |args| sum(args, true),
        "isGreaterThan" => |args| order(args).map(|order| Value::Bool(order.is_gt())),
        "isLessThan" => |args| order(args).map(|order| Value::Bool(order.is_lt())),
        "compareTo" => |args| order(args).map(|order| Value::Int(order as i64)),
        _ => return None,
    })
}

fn wrap(quantity: Quantity) -> Value {
    Value::Opaque(Opaque::Quantity(Arc::new(quantity)))
}

fn quantity(args: &[Value]) -> Result<&Quantity, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Quantity(quantity))) => Ok(quantity),
        _ => Err(EvalError::no_overload()),
    }
}

fn order(args: &[Value]) -> Result<Ordering, EvalError> {
    match args {
        [Value::Opaque(Opaque::Quantity(one)), Value::Opaque(Opaque::Quantity(two))] => Ok(one.compare(two)),
        [Value::Opaque(Opaque::Semver(one)), Value::Opaque(Opaque::Semver(two))] => Ok(one.compare(two)),
        _ => Err(EvalError::no_overload()),
    }
}

fn sum(args: &[Value], subtract: bool) -> Evaluated {
    let one = quantity(args)?;
    let mut two = match args.get(1) {
        Some(Value::Opaque(Opaque::Quantity(two))) => Quantity::clone(two),
        Some(Value::Int(value)) => Quantity::from_int(*value),
        _ => return no_overload(),
    };
    two.negative ^= subtract;
    Ok(wrap(one.plus(&two)))
}

impl Quantity {
    fn from_int(value: i64) -> Quantity {
        let mut limbs = vec![0];
        let mut rest = value.unsigned_abs();
        while rest > 0 {
            limbs.push((rest % LIMB) as u32);
            rest /= LIMB;
        }
        Quantity { negative: value < 0, limbs: trimmed(limbs), notation: Notation::Decimal }
    }

    /// Reads `[+-]digits[.digits]suffix`; more than nine digits after the point are rounded up.
    pub fn parse(text: &str) -> Result<Quantity, String> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err("quantities must match the regular expression".to_owned()),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || number.len() > DIGITS_MAX {
            return Err(WRONG.to_owned());
        }
        let allowed = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let allowed = allowed.strip_prefix(['+', '-']).unwrap_or(allowed);
        if !allowed.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WRONG.to_owned());
        }
        let (binary, exponent, notation) = suffix_scale(suffix).ok_or("unable to parse quantity's suffix")?;
        let mut limbs = scaled(whole, fraction, exponent + 9, binary);
        if limbs.is_empty() {
            limbs = Vec::new();
        }
        let negative = negative && !limbs.is_empty();
        Ok(Quantity { negative, limbs, notation })
    }

    pub(crate) fn compare(&self, other: &Quantity) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => magnitude_order(&self.limbs, &other.limbs),
            (true, true) => magnitude_order(&other.limbs, &self.limbs),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }

    fn sign(&self) -> i64 {
        match (self.limbs.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn plus(&self, other: &Quantity) -> Quantity {
        let notation = if self.limbs.is_empty() { other.notation } else { self.notation };
        let (negative, limbs) = if self.negative == other.negative {
            (self.negative, added(&self.limbs, &other.limbs))
        } else if magnitude_order(&self.limbs, &other.limbs).is_ge() {
            (self.negative, subtracted(&self.limbs, &other.limbs))
        } else {
            (other.negative, subtracted(&other.limbs, &self.limbs))
        };
        Quantity { negative: negative && !limbs.is_empty(), limbs, notation }
    }

    fn as_int(&self) -> Option<i64> {
        if self.limbs.first().is_some_and(|nano| *nano != 0) {
            return None;
        }
        let mut value: i128 = 0;
        for limb in self.limbs.iter().skip(1).rev() {
            value = value.checked_mul(i128::from(LIMB))?.checked_add(i128::from(*limb))?;
        }
        i64::try_from(if self.negative { -value } else { value }).ok()
    }

    fn as_double(&self) -> f64 {
        let digits = self.digits();
        let text = format!("{}{digits}e-9", if self.negative { "-" } else { "" });
        text.parse().unwrap_or(f64::NAN)
    }

    /// The magnitude in nano-units.
    fn digits(&self) -> String {
        let mut text = String::new();
        for limb in self.limbs.iter().rev() {
            text += &format!("{limb:09}");
        }
        let text = text.trim_start_matches('0');
        if text.is_empty() { "0".to_owned() } else { text.to_owned() }
    }
}

fn suffix_scale(suffix: &str) -> Option<(u32, i64, Notation)> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(at) = binary.iter().position(|known| *known == suffix) {
        return Some((at as u32 + 1, 0, Notation::Binary));
    }
    let decimal = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    if let Some((_, exponent)) = decimal.iter().find(|(known, _)| *known == suffix) {
        return Some((0, *exponent, Notation::Decimal));
    }
    let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (exponent.abs() <= EXPONENT_MAX).then_some((0, exponent, Notation::Exponent))
}

/// `whole.fraction * 10^exponent * 1024^binary`, rounded up to a whole number.
fn scaled(whole: &str, fraction: &str, exponent: i64, binary: u32) -> Vec<u32> {
    let mut digits = format!("{whole}{fraction}");
    let shift = exponent - fraction.len() as i64;
    let mut below = String::new();
    if shift >= 0 {
        digits.extend(std::iter::repeat_n('0', shift as usize));
    } else {
        let cut = digits.len().saturating_sub(shift.unsigned_abs() as usize);
        let missing = shift.unsigned_abs() as usize - (digits.len() - cut);
        below = "0".repeat(missing) + &digits[cut..];
        digits.truncate(cut);
    }
    // Work on the digits below the unit too while multiplying by 1024.
    let n_below = below.len();
    let mut limbs = from_digits(&(digits + &below));
    for _ in 0..binary {
        multiply(&mut limbs, 1024);
    }
    if n_below == 0 {
        return trimmed(limbs);
    }
    let all = Quantity { negative: false, limbs, notation: Notation::Decimal }.digits();
    let cut = all.len().saturating_sub(n_below);
    let rest = all[cut..].bytes().any(|b| b != b'0');
    let mut limbs = from_digits(&all[..cut]);
    if rest {
        limbs = added(&limbs, &[1]);
    }
    trimmed(limbs)
}

fn from_digits(digits: &str) -> Vec<u32> {
    let mut limbs = Vec::new();
    let mut end = digits.len();
    while end > 0 {
        let start = end.saturating_sub(9);
        limbs.push(digits[start..end].parse().expect("only digits come here"));
        end = start;
    }
    trimmed(limbs)
}

fn multiply(limbs: &mut Vec<u32>, by: u64) {
    let mut carry = 0;
    for limb in limbs.iter_mut() {
        let product = u64::from(*limb) * by + carry;
        *limb = (product % LIMB) as u32;
        carry = product / LIMB;
    }
    if carry > 0 {
        limbs.push(carry as u32);
    }
}

fn trimmed(mut limbs: Vec<u32>) -> Vec<u32> {
    while limbs.last() == Some(&0) {
        limbs.pop();
    }
    limbs
}

fn added(one: &[u32], two: &[u32]) -> Vec<u32> {
    let mut sum = Vec::new();
    let mut carry = 0;
    for at in 0..one.len().max(two.len()) {
        let total = u64::from(one.get(at).copied().unwrap_or(0))
            + u64::from(two.get(at).copied().unwrap_or(0))
            + carry;
        sum.push((total % LIMB) as u32);
        carry = total / LIMB;
    }
    if carry > 0 {
        sum.push(carry as u32);
    }
    trimmed(sum)
}

/// `one - two`, where `one` is not smaller.
fn subtracted(one: &[u32], two: &[u32]) -> Vec<u32> {
    let mut rest = Vec::new();
    let mut borrow = 0;
    for (at, limb) in one.iter().enumerate() {
        let mut value = i64::from(*limb) - i64::from(two.get(at).copied().unwrap_or(0)) - borrow;
        borrow = i64::from(value < 0);
        if value < 0 {
            value += LIMB as i64;
        }
        rest.push(value as u32);
    }
    trimmed(rest)
}

fn magnitude_order(one: &[u32], two: &[u32]) -> Ordering {
    one.len().cmp(&two.len()).then_with(|| one.iter().rev().cmp(two.iter().rev()))
}

impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        if self.limbs.is_empty() {
            return out.write_str("0");
        }
        if self.notation == Notation::Binary
            && let Some(value) = self.as_int().map(i64::unsigned_abs)
            && value >= 1024
        {
            let names = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let (mut value, mut power) = (value, 0);
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(out, "{sign}{value}{}", names[power]);
        }
        let digits = self.digits();
        let zeros = digits.len() - digits.trim_end_matches('0').len();
        let power = (zeros / 3).min(9);
        let number = &digits[..digits.len() - power * 3];
        let exponent = power as i64 * 3 - 9;
        if self.notation == Notation::Exponent {
            return match exponent {
                0 => write!(out, "{sign}{number}"),
                exponent => write!(out, "{sign}{number}e{exponent}"),
            };
        }
        let names = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        write!(out, "{sign}{number}{}", names[power])
    }
}
