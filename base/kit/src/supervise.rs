//! Runs engines beside each other: a controller that panics or ends is started again alone, the others do not notice.
//!
//! Leaves out: panics inside one pass, which the controller's loop catches, and the order in which the parts of a
//! process stop, which its owner decides.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use crate::controller::{Context, Engine, RunFn};
use crate::health::Health;

/// First wait before a controller that ended is started again; doubles with each further end.
pub const RESTART_WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait before it is started again. One that ran as long begins anew with the shortest.
pub const RESTART_WAIT_MAX: Duration = Duration::from_secs(300);

/// The lives of the controllers that run now, by engine and name.
type Lives = Arc<Mutex<BTreeMap<(&'static str, &'static str), AbortHandle>>>;

/// The engines of a process.
pub struct Supervisor {
    context: Context,
    stop: watch::Sender<bool>,
    keepers: JoinSet<()>,
    lives: Lives,
}

impl Supervisor {
    /// A supervisor without engines. Their health is that of the context.
    pub fn new(context: Context) -> Supervisor {
        Supervisor {
            context,
            stop: watch::Sender::new(false),
            keepers: JoinSet::new(),
            lives: Lives::default(),
        }
    }

    /// Starts every controller of an engine.
    pub fn start(&mut self, engine: Engine) {
        for (name, run) in engine.controllers {
            let keeper = Keeper {
                engine: engine.name,
                name,
                run,
                context: self.context.clone(),
                lives: self.lives.clone(),
            };
            self.keepers.spawn(keeper.keep(self.stop.subscribe()));
        }
    }

    /// How the controllers fare.
    pub fn health(&self) -> &Health {
        &self.context.health
    }

    /// Ends the controllers of an engine in the middle of whatever they do, as a fault of theirs would. They are started
    /// again as after any end. Returns how many were running.
    pub fn kill(&self, engine: &str) -> usize {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let of_engine = lives.iter().filter(|((of, _), _)| *of == engine);
        of_engine.map(|(_, life)| life.abort()).count()
    }

    /// Asks every controller to end; passes that have begun run to their end, at most for `limit`. Returns the names of
    /// those that had to be cut off; what they had begun is taken up at the next start.
    pub async fn stop(mut self, limit: Duration) -> Vec<&'static str> {
        self.stop.send_replace(true);
        let all_ended = async { while self.keepers.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all_ended).await.is_ok() {
            return Vec::new();
        }
        let lives = std::mem::take(&mut *self.lives.lock().unwrap_or_else(PoisonError::into_inner));
        lives.values().for_each(AbortHandle::abort);
        while self.keepers.join_next().await.is_some() {}
        lives.into_keys().map(|(_, name)| name).collect()
    }
}

/// Keeps one controller running.
struct Keeper {
    engine: &'static str,
    name: &'static str,
    run: RunFn,
    context: Context,
    lives: Lives,
}

impl Keeper {
    async fn keep(self, mut stop: watch::Receiver<bool>) {
        let mut wait = RESTART_WAIT_MIN;
        while !*stop.borrow() {
            let began = Instant::now();
            let ended = self.live(&stop).await;
            if *stop.borrow() {
                return;
            }
            if began.elapsed() >= RESTART_WAIT_MAX {
                wait = RESTART_WAIT_MIN;
            }
            let why = end_text(ended);
            tracing::error!(engine = self.engine, controller = self.name, %why, ?wait, "a controller ended; it is started again");
            self.context.health.ended(self.engine, self.name, &why, self.context.clock.now(), wait);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RESTART_WAIT_MAX),
            }
        }
    }

    async fn live(&self, stop: &watch::Receiver<bool>) -> Result<(), JoinError> {
        // What a controller does before its first await may panic too: all of it is in the task.
        let (run, context, stop) = (self.run, self.context.clone(), stop.clone());
        let life = tokio::spawn(async move { run(context, stop).await });
        let id = (self.engine, self.name);
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).insert(id, life.abort_handle());
        self.context.health.started(self.engine, self.name);
        let ended = life.await;
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        ended
    }
}

fn end_text(ended: Result<(), JoinError>) -> String {
    match ended {
        Ok(()) => "it ended by itself".to_owned(),
        Err(error) if error.is_panic() => format!("it panicked: {}", panic_text(&*error.into_panic())),
        Err(_) => "it was cut off".to_owned(),
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
