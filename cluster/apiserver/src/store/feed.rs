//! Events for the tasks inside the server. Each task says which it wants, and sleeps through the others: of most writes none of
//! them need know.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::{Event, Key, Object, Published, Store};

/// Events that may wait in a feed; with one more all of them are missed.
const EVENTS_MAX: usize = 2_048;

/// The published state right after an event.
pub struct Moment<'a>(pub(super) &'a Published);

impl Moment<'_> {
    /// Whether there is any object of a resource.
    pub fn has(&self, resource: &str) -> bool {
        self.0.resources.get(resource).is_some_and(|found| !found.objects.is_empty())
    }

    /// Whether any object names `uid` as its owner.
    pub fn has_dependents(&self, uid: &str) -> bool {
        self.0.dependents.contains_key(uid)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.0.get(key)
    }
}

/// Whether an event is wanted. Asked while nobody can read the store, so it should be short.
type Wanted = fn(&Moment<'_>, &Key, &Event) -> bool;

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(Key, Arc<Event>)>,
    missed: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    wanted: Wanted,
    waiting: Mutex<Waiting>,
    came: Notify,
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it took the event, and its reader is to be woken.
    fn offer(&self, moment: &Moment<'_>, key: &Key, event: &Arc<Event>) -> bool {
        if !(self.wanted)(moment, key, event) {
            return false;
        }
        let mut waiting = self.waiting();
        if waiting.events.len() >= EVENTS_MAX {
            *waiting = Waiting { events: VecDeque::new(), missed: true };
        }
        if !waiting.missed {
            waiting.events.push_back((key.clone(), event.clone()));
        }
        true
    }
}

/// All feeds of a store, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Feeds(Mutex<Vec<Weak<Queue>>>);

impl Feeds {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Queue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what was published. The result are those to be woken, when the state can be read again.
    pub(super) fn offer(
        &self,
        moment: &Moment<'_>,
        key: &Key,
        event: &Arc<Event>,
        wake: &mut Vec<Arc<Queue>>,
    ) {
        self.all().retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            if queue.offer(moment, key, event) && !wake.iter().any(|known| Arc::ptr_eq(known, &queue)) {
                wake.push(queue);
            }
            true
        });
    }

    pub(super) fn wake(queues: Vec<Arc<Queue>>) {
        queues.iter().for_each(|queue| queue.came.notify_one());
    }
}

/// Events were missed, since too many were waiting.
#[derive(Debug, PartialEq, Eq)]
pub struct Missed;

/// The wanted events, from its beginning on. Has one reader.
#[derive(Debug)]
pub struct Feed(Arc<Queue>);

impl Feed {
    /// The next event. After `Missed` there is none until `restart`.
    pub async fn next(&mut self) -> Result<(Key, Arc<Event>), Missed> {
        loop {
            {
                let mut waiting = self.0.waiting();
                if waiting.missed {
                    return Err(Missed);
                }
                if let Some(event) = waiting.events.pop_front() {
                    return Ok(event);
                }
            }
            // Remembers that it was notified since.
            self.0.came.notified().await;
        }
    }

    /// The next event, if it has come.
    pub fn try_next(&mut self) -> Option<(Key, Arc<Event>)> {
        self.0.waiting().events.pop_front()
    }

    /// Begins anew with what comes from now on.
    pub fn restart(&mut self) {
        *self.0.waiting() = Waiting::default();
    }
}

impl Store {
    /// The published events that are wanted, from now on.
    pub fn feed(&self, wanted: fn(&Moment<'_>, &Key, &Event) -> bool) -> Feed {
        let queue = Arc::new(Queue { wanted, waiting: Mutex::default(), came: Notify::new() });
        self.shared.feeds.all().push(Arc::downgrade(&queue));
        Feed(queue)
    }
}
