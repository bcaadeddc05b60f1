//! Numbers and times as people read them: `38 ms`, `1.9 s`, `2m 10s`; ages as kubectl prints them.

use std::time::Duration;

/// A duration that something took.
pub(crate) fn took(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// An age, as kubectl's `HumanDuration` shortens it.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => pair(days / 365, "y", days % 365, "d"),
    }
}

/// The age of something that happened at this RFC 3339 time.
pub(crate) fn age_since(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => {
            age(Duration::from_secs((jiff::Timestamp::now().as_second() - time.as_second()).max(0) as u64))
        }
        Err(_) => "?".to_owned(),
    }
}

/// A size in bytes.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_written_in_the_design() {
        let cases = [(38, "38 ms"), (1_900, "1.9 s"), (130_000, "2m 10s"), (3_720_000, "1h 02m")];
        for (ms, want) in cases {
            assert_eq!(took(Duration::from_millis(ms)), want);
        }
        let ages = [
            (8, "8s"),
            (119, "119s"),
            (125, "2m5s"),
            (700, "11m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
        ];
        for (seconds, want) in ages {
            assert_eq!(age(Duration::from_secs(seconds)), want);
        }
        assert_eq!(
            (size(12), size(4096), size(25_769_803_776)),
            ("12 B".into(), "4 KiB".into(), "24.0 GiB".into())
        );
    }
}
