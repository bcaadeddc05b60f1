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
/// Larger values with a binary suffix are capped, as upstream does.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// Digits that upstream reads the quick way.
const QUICK_DIGITS_MAX: usize = 18;
/// Powers of a suffix beyond which a number is too large, or too small, for any further one to count.
const POWERS_MAX: u32 = 60;

/// What is wrong with a text that is no quantity.
pub(crate) const FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
pub(crate) const SUFFIX: &str = "unable to parse quantity's suffix";

/// A text taken apart.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Result<Parts<'a>, &'static str> {
        let (negative, rest) = match text.as_bytes().first().ok_or(FORM)? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        let letters = suffix.find(|c: char| !"eEinumkKMGTP".contains(c)).unwrap_or(suffix.len());
        let rest = &suffix[letters..];
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if !rest.bytes().all(|b| b.is_ascii_digit()) {
            return Err(FORM);
        }
        // Zeros at the start do not count, and no digit at all is a zero.
        let whole = whole.trim_start_matches('0');
        Ok(Parts { negative, whole, fraction, suffix })
    }
}

/// What an object shows that was given this quantity: the text itself where it looks canonical, else the canonical form.
///
/// # Errors
/// Upstream's text.
pub(crate) fn printed(text: &str) -> Result<String, &'static str> {
    let quantity = Quantity::read(text)?;
    let Parts { whole, fraction, suffix, .. } = Parts::read(text)?;
    let (format, _, exponent) = read_suffix(suffix).ok_or(SUFFIX)?;
    let whole = if whole.is_empty() { "0" } else { whole };
    let digits = format!("{whole}{fraction}");
    let keeps = match format {
        Format::Binary => {
            let precision = 15 - whole.len() as i64 - i64::from(exponent * 10) * 3 / 10 - 1;
            let value = digits.parse::<i64>().unwrap_or(0);
            exponent >= 0 && fraction.is_empty() && precision >= 0 && value & 7 != 0
        }
        _ => {
            let scale = i64::from(exponent) - fraction.len() as i64;
            digits.len() <= QUICK_DIGITS_MAX
                && scale >= -9
                && scale % 3 == 0
                && !digits.ends_with("000")
                && !digits.starts_with('0')
        }
    };
    Ok(if keeps || text == "0" { text.to_owned() } else { quantity.canonical() })
}

impl Quantity {
    /// Reads a quantity; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Quantity> {
        Quantity::read(text).ok()
    }

    fn read(text: &str) -> Result<Quantity, &'static str> {
        let Parts { negative, whole, fraction, suffix } = Parts::read(text)?;
        let (mut format, base, exponent) = read_suffix(suffix).ok_or(SUFFIX)?;
        let mut digits: i128 = 0;
        let mut scale: i32 = 0;
        for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
            if digits > i128::MAX / 10 - 1 {
                // Too large already: more digits before the point only make it larger.
                scale -= i32::from(at < whole.len());
                continue;
            }
            digits = digits * 10 + i128::from(digit - b'0');
            scale += i32::from(at >= whole.len());
        }
        // All powers of ten at once, so that what fits in the end need not fit on the way.
        let tens = if base == 10 { exponent - scale } else { -scale };
        let (mut nano, mut remainder) = (digits, false);
        for _ in 0..if base == 10 { 0 } else { exponent } {
            nano = nano.saturating_mul(base);
        }
        for _ in 0..(tens + 9).unsigned_abs().min(POWERS_MAX) {
            nano = if tens > -9 { nano.saturating_mul(10) } else { divide(nano, 10, &mut remainder) };
        }
        // What is smaller than a nano is rounded up (away from zero).
        nano = nano.saturating_add(i128::from(remainder));
        if format == Format::Binary {
            nano = nano.min(BINARY_MAX);
            if nano > 0 && nano < NANO {
                format = Format::Decimal;
            }
        }
        Ok(Quantity { nano: if negative { -nano } else { nano }, format })
    }

    /// The number of units of `10^scale`, rounded away from zero; and whether nothing was rounded.
    fn rounded(&self, scale: i32) -> (i128, bool) {
        let unit = 10i128.checked_pow((scale + 9).max(0).unsigned_abs()).unwrap_or(i128::MAX);
        let exact = self.nano % unit == 0;
        let units = self.nano / unit + if exact { 0 } else { self.nano.signum() };
        (units, exact)
    }

    /// The number in units of `10^scale`, rounded up; capped to what fits.
    pub(crate) fn scaled(&self, scale: i32) -> i64 {
        let units = self.rounded(scale).0;
        i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
    }

    /// Rounded up to a whole number of `10^scale`, and whether it was one already.
    pub(crate) fn rounded_up(&self, scale: i32) -> (Quantity, bool) {
        let (units, exact) = self.rounded(scale);
        let unit = 10i128.checked_pow((scale + 9).max(0).unsigned_abs()).unwrap_or(i128::MAX);
        (Quantity { nano: units.saturating_mul(unit), format: self.format }, exact)
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
        Quantity { nano: self.nano.saturating_add(other.nano), format }
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
            Format::Exponent => {
                let (mantissa, exponent) = decimal(nano);
                if exponent == 0 { mantissa.to_string() } else { format!("{mantissa}e{exponent}") }
            }
            _ => {
                let (mut mantissa, mut exponent) = decimal(nano);
                while exponent > 18 {
                    (mantissa, exponent) = (mantissa * 1000, exponent - 3);
                }
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

/// Mantissa and exponent (a multiple of three) of a positive number of nano units.
fn decimal(nano: i128) -> (i128, i32) {
    let (mut mantissa, mut exponent) = (nano, -9);
    while mantissa % 1000 == 0 {
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

#[cfg(test)]
pub(crate) mod tests;
