//! `rotateAfter`: ages as people write them.

use std::time::Duration;

/// Reads `90d`, or what durations of dodai are otherwise (`2160h`).
pub fn parse(text: &str) -> Option<Duration> {
    if let Some(days) = text.strip_suffix('d') {
        let days: u64 = days.parse().ok()?;
        return days.checked_mul(86_400).map(Duration::from_secs);
    }
    dodai_api::duration::parse(text)
}
