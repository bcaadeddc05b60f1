//! The time that controllers see: the machine's, a simulated one that follows tokio's paused clock, or whatever is told.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// A source of wall-clock time. Controllers never ask the machine themselves.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Simulated { start: Timestamp, origin: tokio::time::Instant },
    Told(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::system",
            Source::Simulated { .. } => "Clock::simulated",
            Source::Told(_) => "Clock::told",
        })
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that shows `start` now and advances with tokio's clock, which a test may pause and move.
    pub fn simulated(start: Timestamp) -> Clock {
        Clock(Source::Simulated { start, origin: tokio::time::Instant::now() })
    }

    /// A clock that shows what `now` says, such as one that a simulation moves.
    pub fn told(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock(Source::Told(Arc::new(now)))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Simulated { start, origin } => {
                let elapsed = SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX);
                start.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
            }
            Source::Told(now) => now(),
        }
    }
}
