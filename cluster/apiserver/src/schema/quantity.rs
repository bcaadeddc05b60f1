//! Quantities (`100m`, `1.5Gi`): reading, comparing and the canonical form.

/// A quantity as a number of nano units and the family of its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
/// Larger values are capped, as upstream does.
const MAX: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// Reads a quantity; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Quantity> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (format, base, exponent) = read_suffix(suffix)?;
        let mut digits: i128 = 0;
        let mut scale: i32 = 0;
        for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
            if digits > MAX {
                // Too large already: more digits before the point only make it larger.
                scale -= i32::from(at < whole.len());
                continue;
            }
            digits = digits * 10 + i128::from(digit - b'0');
            scale += i32::from(at >= whole.len());
        }
        let mut nano = digits.checked_mul(NANO).unwrap_or(i128::MAX / 4);
        let mut remainder = false;
        for _ in 0..exponent.unsigned_abs().min(60) {
            nano = if exponent > 0 { nano.saturating_mul(base) } else { divide(nano, base, &mut remainder) };
        }
        for _ in 0..scale.unsigned_abs().min(60) {
            nano = if scale < 0 { nano.saturating_mul(10) } else { divide(nano, 10, &mut remainder) };
        }
        // What is smaller than a nano is rounded up (away from zero).
        nano = nano.saturating_add(i128::from(remainder)).min(MAX);
        Some(Quantity { nano: if negative { -nano } else { nano }, format })
    }

    pub(crate) fn nano(&self) -> i128 {
        self.nano
    }

    pub(crate) const ZERO: Quantity = Quantity { nano: 0, format: Format::Decimal };

    pub(crate) fn whole(number: i64) -> Quantity {
        Quantity { nano: i128::from(number) * NANO, format: Format::Decimal }
    }

    /// The sum, in the form of the first that is not zero.
    pub(crate) fn plus(&self, other: &Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: (self.nano + other.nano).clamp(-MAX, MAX), format }
    }

    pub(crate) fn minus(&self, other: &Quantity) -> Quantity {
        self.plus(&Quantity { nano: -other.nano, ..*other })
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// The canonical text.
    pub(crate) fn canonical(&self) -> String {
        if self.nano == 0 {
            return "0".into();
        }
        let negative = self.nano < 0;
        let nano = self.nano.abs();
        let text = match self.format {
            Format::Binary if nano % NANO == 0 && nano >= 1024 * NANO => binary(nano / NANO),
            Format::Binary if nano % NANO == 0 => (nano / NANO).to_string(),
            Format::Exponent => {
                let (mantissa, exponent) = decimal(nano);
                if exponent == 0 { mantissa.to_string() } else { format!("{mantissa}e{exponent}") }
            }
            _ => {
                let (mantissa, exponent) = decimal(nano);
                let suffix = match exponent {
                    -9 => "n",
                    -6 => "u",
                    -3 => "m",
                    0 => "",
                    3 => "k",
                    6 => "M",
                    9 => "G",
                    12 => "T",
                    15 => "P",
                    _ => "E",
                };
                format!("{mantissa}{suffix}")
            }
        };
        if negative { format!("-{text}") } else { text }
    }
}

fn divide(value: i128, by: i128, remainder: &mut bool) -> i128 {
    *remainder |= value % by != 0;
    value / by
}

fn read_suffix(suffix: &str) -> Option<(Format, i128, i32)> {
    let decimal = |exponent| Some((Format::Decimal, 10, exponent));
    let binary = |exponent| Some((Format::Binary, 1024, exponent));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let valid = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if valid.is_empty() || !valid.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            Some((Format::Exponent, 10, exponent.parse().ok()?))
        }
    }
}

/// Mantissa and exponent (a multiple of three, at most 18) of a positive number of nano units.
fn decimal(nano: i128) -> (i128, i32) {
    let (mut mantissa, mut exponent) = (nano, -9);
    while mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    (mantissa, exponent)
}

fn binary(value: i128) -> String {
    let (mut mantissa, mut at) = (value, 0);
    while mantissa % 1024 == 0 && at < 6 {
        mantissa /= 1024;
        at += 1;
    }
    format!("{mantissa}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][at])
}
