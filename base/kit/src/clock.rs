//! The time that controllers see: the machine's, or a simulated one that follows tokio's paused clock.

use jiff::{SignedDuration, Timestamp};

/// A source of wall-clock time. Controllers never ask the machine themselves.
#[derive(Clone, Debug)]
pub struct Clock(Option<Simulated>);

#[derive(Clone, Debug)]
struct Simulated {
    start: Timestamp,
    origin: tokio::time::Instant,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that shows `start` now and advances with tokio's clock, which a test may pause and move.
    pub fn simulated(start: Timestamp) -> Clock {
        Clock(Some(Simulated { start, origin: tokio::time::Instant::now() }))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(simulated) => {
                let elapsed =
                    SignedDuration::try_from(simulated.origin.elapsed()).unwrap_or(SignedDuration::MAX);
                simulated.start.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}
