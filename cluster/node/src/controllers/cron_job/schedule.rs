//! Schedules of CronJobs: five fields (minute, hour, day of the month, month, day of the week), the usual short words,
//! and `@every`. Times are those of a clock in a time zone: one that the clock skips is left out, one that it shows twice
//! counts once.

use jiff::civil::{Date, DateTime, time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Days that are looked through for the next time; 29 February can be eight years away.
const DAYS_MAX: usize = 366 * 8 + 2;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Fields(Fields),
    /// Every so many seconds since the last time.
    Every(i64),
}

/// Bits of the values that each field allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// One of the two kinds of day is `*`: then both must fit, else one is enough.
    any_day: bool,
}

impl Schedule {
    /// Reads a schedule; says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Schedule, String> {
        let text = text.trim();
        if let Some(every) = text.strip_prefix("@every ") {
            return every_seconds(every.trim())
                .map(Schedule::Every)
                .ok_or_else(|| format!("`{every}` is no duration of a second or more"));
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: {text}", parts.len()));
        };
        let weekdays = field(weekday, 0, 7, &DAYS, 0)?;
        let is_star = |text: &str| text.split(',').any(|part| part.starts_with(['*', '?']));
        Ok(Schedule::Fields(Fields {
            minutes: field(minute, 0, 59, &[], 0)?,
            hours: field(hour, 0, 23, &[], 0)?,
            days: field(day, 1, 31, &[], 0)?,
            months: field(month, 1, 12, &MONTHS, 1)?,
            // 7 is Sunday too.
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            any_day: is_star(day) || is_star(weekday),
        }))
    }

    /// The first time after this one.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(seconds) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(SignedDuration::from_secs(*seconds)).ok()
            }
            Schedule::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn fits(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| bits & (1 << value) != 0;
        let weekday = date.weekday().to_sunday_zero_offset();
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        has(self.months, date.month()) && if self.any_day { day && weekday } else { day || weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).datetime();
        let mut date = start.date();
        for _ in 0..DAYS_MAX {
            if self.fits(date) {
                // What the clock shows at `after` it may show again: all of that day is looked through.
                let found = self.times(date).find_map(|time| {
                    let at = exists(zone, time)?;
                    (at > after).then_some(at)
                });
                if found.is_some() {
                    return found;
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn times(&self, date: Date) -> impl Iterator<Item = DateTime> {
        let (hours, minutes) = (self.hours, self.minutes);
        let hours = (0..24i8).filter(move |hour| hours & (1 << hour) != 0);
        hours.flat_map(move |hour| {
            let minutes = (0..60i8).filter(move |minute| minutes & (1 << minute) != 0);
            minutes.map(move |minute| date.to_datetime(time(hour, minute, 0, 0)))
        })
    }
}

/// The moment at which the clock shows this; the earlier of two, none if it never does.
fn exists(zone: &TimeZone, shown: DateTime) -> Option<Timestamp> {
    let at = zone.to_ambiguous_timestamp(shown).earlier().ok()?;
    (at.to_zoned(zone.clone()).datetime() == shown).then_some(at)
}

/// One field: `*`, `5`, `1-5`, `*/10`, `10-40/5`, `mon,wed`.
fn field(text: &str, min: u32, max: u32, words: &[&str], first_word: u32) -> Result<u64, String> {
    let wrong = |part: &str| format!("`{part}` is no part of a schedule between {min} and {max}");
    let value = |text: &str| -> Result<u32, String> {
        let word = words.iter().position(|word| word.eq_ignore_ascii_case(text));
        match word {
            Some(place) => Ok(first_word + place as u32),
            None => {
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse().ok().filter(|number| is_number && (min..=max).contains(number));
                number.ok_or_else(|| wrong(text))
            }
        }
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(|| wrong(part))?)
            }
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (min, max),
            Some((first, last)) => (value(first)?, value(last)?),
            // A single value with a step goes on to the end.
            None if part.contains('/') => (value(range)?, max),
            None => (value(range)?, value(range)?),
        };
        if first > last {
            return Err(wrong(part));
        }
        let mut at: u32 = first;
        while at <= last {
            bits |= 1u64 << at;
            at = at.saturating_add(step);
        }
    }
    Ok(bits)
}

/// A duration as Go writes it, in whole seconds: `1h30m`, `90s`.
fn every_seconds(text: &str) -> Option<i64> {
    let (mut total_ms, mut digits, mut rest) = (0.0f64, String::new(), text);
    while let Some(letter) = rest.chars().next() {
        if letter.is_ascii_digit() || letter == '.' {
            digits.push(letter);
            rest = &rest[1..];
            continue;
        }
        let units = [("ms", 1.0), ("h", 3_600_000.0), ("m", 60_000.0), ("s", 1000.0)];
        let (unit, ms) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total_ms += digits.parse::<f64>().ok()? * ms;
        digits.clear();
        rest = &rest[unit.len()..];
    }
    let seconds = (total_ms / 1000.0).floor();
    (digits.is_empty() && (1.0..1e12).contains(&seconds)).then_some(seconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_follows_the_fields_and_the_clock() {
        let utc = "UTC";
        let berlin = "Europe/Berlin";
        for (schedule, zone, after, want) in [
            ("* * * * *", utc, "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", utc, "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"),
            ("30 4 1 * *", utc, "2026-01-01T04:30:00Z", "2026-02-01T04:30:00Z"),
            ("0 0 29 2 *", utc, "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 12 * * mon-fri", utc, "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
            ("0 0 13 * 5", utc, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * 7", utc, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("5/20 0 * * *", utc, "2026-01-01T00:25:00Z", "2026-01-01T00:45:00Z"),
            ("@hourly", utc, "2026-01-01T00:00:01Z", "2026-01-01T01:00:00Z"),
            ("@every 1h30m", utc, "2026-01-01T00:00:01Z", "2026-01-01T01:30:01Z"),
            ("0 9 * * *", berlin, "2026-01-01T00:00:00Z", "2026-01-01T08:00:00Z"),
            ("0 9 * * *", berlin, "2026-07-01T00:00:00Z", "2026-07-01T07:00:00Z"),
            // 2:30 does not exist on that day; twice on the other, and counts once.
            ("30 2 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", berlin, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", berlin, "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            let zone = if zone == utc { TimeZone::UTC } else { TimeZone::get(zone).unwrap() };
            let found = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &zone);
            assert_eq!(found, Some(want.parse().unwrap()), "{schedule} after {after}");
        }
        assert_eq!(Schedule::parse("0 0 30 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "@every",
            "@every 1",
            "@every 0s",
            "@sometimes",
            "* * * foo *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
