//! The time that a server shows in `creationTimestamp`, conditions and tokens: the machine's, or one that a test moves.
//!
//! The code that writes times asks [`now`]; which clock that is goes with the task that serves a request. Left out: waiting.
//! Timeouts and pauses follow tokio's clock, which a test may pause.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

tokio::task_local! {
    static CLOCK: Clock;
}

/// A source of wall-clock time. Clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Simulated>);

#[derive(Clone, Debug)]
struct Simulated {
    start: Timestamp,
    /// Where tokio's clock stood when this one showed `start`; a clock without it stands still.
    origin: Option<tokio::time::Instant>,
    /// How far it was moved since, milliseconds.
    moved_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that shows `start` now and goes on with tokio's clock, which a test may pause and move.
    pub fn following_tokio(start: Timestamp) -> Clock {
        let origin = Some(tokio::time::Instant::now());
        Clock(Some(Simulated { start, origin, moved_ms: Arc::default() }))
    }

    /// A clock that shows `start` until it is moved.
    pub fn standing(start: Timestamp) -> Clock {
        Clock(Some(Simulated { start, origin: None, moved_ms: Arc::default() }))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        let Some(simulated) = &self.0 else { return Timestamp::now() };
        let passed = simulated.origin.map(|origin| SignedDuration::try_from(origin.elapsed()));
        let passed = passed.unwrap_or(Ok(SignedDuration::ZERO)).unwrap_or(SignedDuration::MAX);
        let moved = SignedDuration::from_millis(simulated.moved_ms.load(Ordering::SeqCst));
        simulated.start.saturating_add(passed.saturating_add(moved)).unwrap_or(Timestamp::MAX)
    }

    /// Sets the clock forward, or back. The machine's clock is left alone: the answer is `false`.
    pub fn jump(&self, by: SignedDuration) -> bool {
        let Some(simulated) = &self.0 else { return false };
        let by = i64::try_from(by.as_millis()).unwrap_or(if by.is_negative() { i64::MIN } else { i64::MAX });
        simulated.moved_ms.fetch_add(by, Ordering::SeqCst);
        true
    }

    /// Runs `future` under this clock.
    pub(crate) async fn show<F: Future>(&self, future: F) -> F::Output {
        match self.0 {
            None => future.await,
            Some(_) => CLOCK.scope(self.clone(), future).await,
        }
    }
}

/// The time of the server whose work this is.
pub(crate) fn now() -> Timestamp {
    CLOCK.try_with(Clock::now).unwrap_or_else(|_| Timestamp::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_clock_follows_tokio_or_stands_and_both_can_be_moved() {
        tokio::time::pause();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (following, standing) = (Clock::following_tokio(start), Clock::standing(start));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(following.now(), start + SignedDuration::from_secs(5));
        assert_eq!(standing.now(), start);
        for clock in [&following, &standing] {
            assert!(clock.clone().jump(SignedDuration::from_mins(-5)), "clones are one clock");
        }
        assert_eq!(following.now(), start - SignedDuration::from_secs(295));
        assert_eq!(standing.show(async { now() }).await, start - SignedDuration::from_mins(5));
        assert!(!Clock::system().jump(SignedDuration::from_hours(1)));
    }
}
