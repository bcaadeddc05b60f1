//! How the controllers of a process fare: which run, which are down and why, which objects they have set aside.
//!
//! Kept in memory only. Who shows it (the embedded API as ComponentStatus, metrics) reads a copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::Key;

/// Objects set aside that are listed; more are set aside all the same.
pub const SET_ASIDE_MAX: usize = 1000;
/// Longest text of a panic that is kept, bytes.
const MESSAGE_BYTES_MAX: usize = 500;

/// One controller of one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerHealth {
    /// The engine it belongs to.
    pub engine: &'static str,
    /// Its name.
    pub controller: &'static str,
    /// Whether it runs now.
    pub running: bool,
    /// How often it ended by itself, or panicked, and was started again.
    pub restarts: u64,
    /// Why and when it ended last.
    pub last_end: Option<(Timestamp, String)>,
    /// How long it waits before it is started again, while it does not run.
    pub waits: Option<Duration>,
}

/// An object that its controller leaves alone until it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct SetAside {
    /// The controller that panics over it.
    pub controller: &'static str,
    /// The object.
    pub key: Key,
    /// The text of the panic.
    pub message: String,
}

#[derive(Default)]
struct State {
    controllers: BTreeMap<(&'static str, &'static str), ControllerHealth>,
    set_aside: BTreeMap<(&'static str, Key), String>,
}

/// The health of all controllers of a process, shared by cloning.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every controller that was ever started, by engine and name.
    pub fn controllers(&self) -> Vec<ControllerHealth> {
        self.with(|state| state.controllers.values().cloned().collect())
    }

    /// The objects that are set aside, by controller and key.
    pub fn set_aside(&self) -> Vec<SetAside> {
        self.with(|state| {
            let one = |((controller, key), message): (&(&'static str, Key), &String)| SetAside {
                controller,
                key: key.clone(),
                message: message.clone(),
            };
            state.set_aside.iter().map(one).collect()
        })
    }

    pub(crate) fn started(&self, engine: &'static str, controller: &'static str) {
        self.with(|state| {
            let health = state.controllers.entry((engine, controller)).or_insert(ControllerHealth {
                engine,
                controller,
                running: true,
                restarts: 0,
                last_end: None,
                waits: None,
            });
            health.running = true;
            health.waits = None;
        });
    }

    pub(crate) fn ended(
        &self,
        engine: &'static str,
        controller: &'static str,
        why: &str,
        now: Timestamp,
        waits: Duration,
    ) {
        self.with(|state| {
            if let Some(health) = state.controllers.get_mut(&(engine, controller)) {
                health.running = false;
                health.restarts += 1;
                health.last_end = Some((now, shortened(why)));
                health.waits = Some(waits);
            }
            // What is set aside is tried again by the next life of the controller.
            state.set_aside.retain(|(by, _), _| *by != controller);
        });
    }

    pub(crate) fn put_aside(&self, controller: &'static str, key: &Key, message: &str) {
        self.with(|state| {
            let id = (controller, key.clone());
            if state.set_aside.len() < SET_ASIDE_MAX || state.set_aside.contains_key(&id) {
                state.set_aside.insert(id, shortened(message));
            }
        });
    }

    /// The object did not panic this time, or is gone.
    pub(crate) fn taken_up(&self, controller: &'static str, key: &Key) {
        self.with(|state| {
            // After every pass, and there is hardly ever one: no key is copied for that.
            if !state.set_aside.is_empty() {
                state.set_aside.remove(&(controller, key.clone()));
            }
        });
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned()
}
