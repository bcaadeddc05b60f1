//! Durations as people write them in resources: `90s`, `10m`, `1h30m`, as Go's `time.ParseDuration` reads them.

use std::time::Duration;

/// Reads a positive duration of whole units `ms`, `s`, `m`, `h`, in any order and number, such as `1h30m`.
///
/// Returns `None` for anything else, also for a number without unit and for sums beyond `u64` milliseconds.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&end| end > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up_and_anything_else_is_refused() {
        for (text, want_ms) in
            [("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("1500ms", 1_500), ("0s", 0)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(want_ms)), "{text}");
        }
        for text in
            ["", "5", "m", "1d", "-1s", "1.5h", "99999999999999999999s", "1s ", "18446744073709551615h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
