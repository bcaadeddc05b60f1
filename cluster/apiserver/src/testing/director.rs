//! Who decides in a simulation what goes wrong with a request: the choices of the run.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use http::StatusCode;
use jiff::SignedDuration;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::Call;
use super::fault::{Director, Fault, WatchFault};
use super::sim::{Sim, lock};

/// Shortest latency of a request, milliseconds: time passes while programs talk.
const LATENCY_MS_MIN: u32 = 5;
/// Longest latency above that, milliseconds.
const LATENCY_MS_MAX: u32 = 45;
/// How long a program stands still: past the fifteen seconds for which a lease is commonly held.
const PAUSE: Duration = Duration::from_secs(30);

/// What may happen at a point. The numbers stand on tapes: new ones go to the end.
const REFUSED: u32 = 1;
const BUSY: u32 = 2;
const RESET: u32 = 3;
const LOST: u32 = 4;
const DONE_THEN_LOST: u32 = 5;
const CONFLICT: u32 = 6;
const LATE: u32 = 7;
const EXPIRED: u32 = 8;
const CRASH_BEFORE: u32 = 9;
const CRASH_AFTER: u32 = 10;
const PAUSED: u32 = 11;
const CLOCK_BACK: u32 = 12;
const CLOCK_AN_HOUR: u32 = 13;
const CLOCK_A_SEASON: u32 = 14;
const NEXT_STEP: u32 = 15;
const STALE: u32 = 16;
const WATCH_LATE: u32 = 17;
const WATCH_ENDS: u32 = 18;
const WATCH_BREAKS: u32 = 19;
const WATCH_EXPIRES: u32 = 20;

/// Faults of the fault layer, by number; the durations are those of a tape of zeros.
const OF_CALLS: [(u32, Fault); 11] = [
    (REFUSED, Fault::Refused(503)),
    (BUSY, Fault::Refused(429)),
    (RESET, Fault::Reset),
    (LOST, Fault::Lost),
    (DONE_THEN_LOST, Fault::DoneThenLost),
    (CONFLICT, Fault::Conflict),
    (LATE, Fault::Late(Duration::from_secs(2))),
    (EXPIRED, Fault::Expired),
    (CRASH_BEFORE, Fault::CrashBefore),
    (CRASH_AFTER, Fault::CrashAfter),
    (STALE, Fault::Stale(1)),
];
/// What fits every request.
const AROUND: u32 = 1 << PAUSED | 1 << CLOCK_BACK | 1 << CLOCK_AN_HOUR | 1 << CLOCK_A_SEASON | 1 << NEXT_STEP;
const OF_WATCHES: u32 =
    1 << WATCH_LATE | 1 << WATCH_ENDS | 1 << WATCH_BREAKS | 1 << WATCH_EXPIRES | 1 << NEXT_STEP;

/// The name of a fault of a tape.
pub(crate) fn fault_name(fault: u32) -> &'static str {
    const NAMES: [&str; 21] = [
        "none",
        "refused (503)",
        "refused (429)",
        "reset",
        "lost",
        "done, then lost",
        "conflict",
        "late answer",
        "expired (410)",
        "crash before",
        "crash after",
        "pause",
        "clock -5 min",
        "clock +1 h",
        "clock +90 d",
        "next step now",
        "stale list",
        "watch late",
        "watch ends",
        "watch breaks",
        "watch ends, then 410",
    ];
    NAMES.get(fault as usize).copied().unwrap_or("none")
}

/// One life of an instance.
#[derive(Default)]
pub(super) struct Life {
    dead: Mutex<bool>,
    died: Notify,
    paused: Mutex<Option<Instant>>,
}

impl Life {
    /// Waits for its end.
    pub(super) async fn ended(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }

    /// No pause any more.
    pub(super) fn go_on(&self) {
        *lock(&self.paused) = None;
    }

    fn is_dead(&self) -> bool {
        *lock(&self.dead)
    }

    /// Waits while it stands still, and for ever when it is dead.
    async fn lives(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let Some(until) = lock(&self.paused).filter(|until| *until > Instant::now()) else { return };
            tokio::time::sleep_until(until).await;
        }
    }
}

pub(super) struct SimDirector {
    sim: Sim,
    life: std::sync::Arc<Life>,
    /// Paths whose next watch begins too far in the past.
    expired: Mutex<BTreeSet<String>>,
}

impl SimDirector {
    pub(super) fn new(sim: Sim, life: std::sync::Arc<Life>) -> SimDirector {
        SimDirector { sim, life, expired: Mutex::default() }
    }

    /// A duration from `least`, longer by a picked part of `more`.
    fn picked(&self, least: Duration, more: Duration) -> Duration {
        least + Duration::from_millis(self.sim.pick(more.as_millis() as u32).into())
    }

    /// What is neither of the network nor of the server.
    async fn around(&self, fault: u32) {
        let jump = |by: SignedDuration| {
            self.sim.clock().jump(by);
        };
        match fault {
            PAUSED => {
                let until = Instant::now() + self.picked(PAUSE, Duration::from_secs(90));
                *lock(&self.life.paused) = Some(until);
            }
            CLOCK_BACK => jump(SignedDuration::from_mins(-5)),
            CLOCK_AN_HOUR => jump(SignedDuration::from_hours(1)),
            CLOCK_A_SEASON => jump(SignedDuration::from_hours(90 * 24)),
            NEXT_STEP => self.sim.step().await,
            _ => {}
        }
    }

    async fn decide(&self, call: &Call) -> Option<Fault> {
        self.life.lives().await;
        if lock(&self.expired).remove(&call.path) && call.is_watch() {
            return Some(Fault::Expired);
        }
        let latency = LATENCY_MS_MIN + self.sim.pick(LATENCY_MS_MAX);
        tokio::time::sleep(Duration::from_millis(latency.into())).await;
        let fits = OF_CALLS.iter().filter(|(_, fault)| fault.fits(call));
        let picked = self.sim.fault(fits.fold(AROUND, |mask, (number, _)| mask | 1 << number));
        if picked != 0 {
            self.sim.note(format_args!("{call}: {}", fault_name(picked)));
            self.around(picked).await;
        }
        self.life.lives().await;
        let (_, fault) = OF_CALLS.iter().find(|(number, _)| *number == picked)?;
        Some(match fault {
            Fault::Late(least) => Fault::Late(self.picked(*least, Duration::from_secs(8))),
            Fault::Stale(_) => {
                let newest = self.sim.revision();
                Fault::Stale(newest.saturating_sub(1 + u64::from(self.sim.pick(20))).max(1))
            }
            other => *other,
        })
    }
}

impl Director for SimDirector {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Option<Fault>> {
        Box::pin(async move {
            let fault = self.decide(call).await;
            self.sim.count(call);
            fault
        })
    }

    fn after(&self, call: &Call, status: Option<StatusCode>) {
        let code = status.map_or(0, |status| status.as_u16());
        self.sim.hash((call.instance, call.number, &call.path, call.verb(), code));
        self.sim.note(format_args!("{call} -> {code}"));
    }

    fn event<'a>(&'a self, watch: &'a Call) -> BoxFuture<'a, Option<WatchFault>> {
        Box::pin(async move {
            self.life.lives().await;
            let picked = self.sim.fault(OF_WATCHES);
            if picked == 0 {
                return None;
            }
            self.sim.note(format_args!("{watch}: {}", fault_name(picked)));
            self.around(picked).await;
            let fault = match picked {
                WATCH_LATE => {
                    let wait = self.picked(Duration::from_secs(3), Duration::from_secs(10));
                    self.sim.sleep_unless_healed(wait).await;
                    return None;
                }
                WATCH_ENDS => WatchFault::Ends,
                WATCH_BREAKS => WatchFault::Breaks,
                WATCH_EXPIRES => {
                    lock(&self.expired).insert(watch.path.clone());
                    WatchFault::Ends
                }
                _ => return None,
            };
            Some(fault)
        })
    }

    fn without_bookmarks(&self) -> bool {
        true
    }

    fn crashed(&self) {
        *lock(&self.life.dead) = true;
        self.life.died.notify_one();
    }
}
