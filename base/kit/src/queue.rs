//! Which objects are due, and how long one that failed waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::Key;

/// First wait after a failure; doubles with each further one.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait after a failure.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// First wait after somebody else wrote the object in between; doubles while that goes on. The watch tells of what was
/// written and ends the wait; until it does, another try says the same and is refused again.
pub const CONFLICT_MIN: Duration = Duration::from_millis(500);
/// Longest wait after a conflict.
pub const CONFLICT_MAX: Duration = Duration::from_secs(30);

/// Passes that write which an object may have one right after the other.
pub const WRITES_BURST: u32 = 30;
/// After these, one in so much time: whoever undoes what somebody else writes must not do it as fast as it can.
pub const WRITES_PACE: Duration = Duration::from_millis(200);

/// Keys that are due at some time. A key is in it once; one that is being worked on waits until that is done.
#[derive(Default)]
pub struct Queue {
    due: BTreeMap<(Instant, u64), Key>,
    at: HashMap<Key, (Instant, u64)>,
    busy: HashSet<Key>,
    /// Keys that became due while they were being worked on.
    again: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
    conflicts: HashMap<Key, u32>,
    /// When the passes that wrote are paid for, at one in [`WRITES_PACE`], and whether it was told that the key is slow.
    paid: HashMap<Key, (Instant, bool)>,
    /// How many of `paid` make it worth a look which are over.
    paid_max: usize,
    /// Keeps keys apart that are due at the same instant, first come first served.
    sequence: u64,
}

impl Queue {
    /// Makes the key due at `when`, or earlier if it is already.
    pub fn add(&mut self, key: Key, when: Instant) {
        let when = self.free_at(&key).map_or(when, |free| when.max(free));
        if self.busy.contains(&key) {
            let again = self.again.entry(key).or_insert(when);
            *again = (*again).min(when);
            return;
        }
        if let Some(&(at, sequence)) = self.at.get(&key) {
            if at <= when {
                return;
            }
            self.due.remove(&(at, sequence));
        }
        self.sequence += 1;
        self.at.insert(key.clone(), (when, self.sequence));
        self.due.insert((when, self.sequence), key);
    }

    /// Takes a key that is due; it counts as being worked on until [`Queue::done`].
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        let (&(when, _), _) = self.due.first_key_value()?;
        if when > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.at.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// The work on a key ended; it becomes due again at `next`, or when something happened meanwhile.
    pub fn done(&mut self, key: Key, next: Option<Instant>) {
        self.busy.remove(&key);
        let again = self.again.remove(&key);
        if let Some(when) = [next, again].into_iter().flatten().min() {
            self.add(key, when);
        }
    }

    /// When the next key is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(&(when, _), _)| when)
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Counts a failure of the key and gives how long it waits: doubling, with a fifth of jitter either way.
    pub fn failed(&mut self, key: &Key) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        *failures = failures.saturating_add(1);
        doubled(BACKOFF_MIN, BACKOFF_MAX, *failures).mul_f64(0.8 + 0.4 * fastrand::f64())
    }

    /// Counts a conflict of the key and gives how long it waits.
    pub fn conflicted(&mut self, key: &Key) -> Duration {
        let conflicts = self.conflicts.entry(key.clone()).or_insert(0);
        *conflicts = conflicts.saturating_add(1);
        doubled(CONFLICT_MIN, CONFLICT_MAX, *conflicts)
    }

    /// Forgets the failures and conflicts of a key.
    pub fn succeeded(&mut self, key: &Key) {
        self.failures.remove(key);
        self.conflicts.remove(key);
    }

    /// Counts a pass over the key that wrote. `true`: it has used up its burst, and is slowed down from now on.
    pub fn wrote(&mut self, key: &Key, now: Instant) -> bool {
        let before = self.paid.get(key).copied().filter(|(paid, _)| *paid > now);
        let (paid, told) = before.unwrap_or((now, false));
        let paid = paid + WRITES_PACE;
        let is_slow = paid > now + WRITES_PACE * WRITES_BURST;
        self.paid.insert(key.clone(), (paid, told || is_slow));
        if self.paid.len() > self.paid_max {
            self.paid.retain(|_, (paid, _)| *paid > now);
            self.paid_max = self.paid.len() * 2 + 64;
        }
        is_slow && !told
    }

    /// When a key that has written much may have its next pass.
    fn free_at(&self, key: &Key) -> Option<Instant> {
        self.paid.get(key)?.0.checked_sub(WRITES_PACE * WRITES_BURST)
    }

    /// How often the key failed in a row.
    pub fn failures(&self, key: &Key) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }
}

/// The wait after so many (at least one) in a row: the first, doubled with each further one, up to the longest.
fn doubled(first: Duration, longest: Duration, times: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(times - 1).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_never_runs_twice_at_a_time() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(key("a"), now + Duration::from_secs(5));
        queue.add(key("a"), now);
        queue.add(key("a"), now + Duration::from_secs(9));
        assert_eq!((queue.len(), queue.next()), (1, Some(now)));
        assert_eq!(queue.take(now), Some(key("a")));
        queue.add(key("a"), now);
        assert_eq!(queue.take(now), None, "it is being worked on");
        queue.done(key("a"), Some(now + Duration::from_secs(60)));
        assert_eq!(queue.take(now), Some(key("a")), "what happened meanwhile counts");
        queue.done(key("a"), None);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_again_and_again_is_slowed_down_alone() {
        let began = Instant::now();
        let mut queue = Queue::default();
        let mut slowed = 0;
        for _ in 0..WRITES_BURST + 10 {
            queue.add(key("a"), Instant::now());
            tokio::time::sleep_until(queue.next().unwrap()).await;
            let now = Instant::now();
            assert_eq!(queue.take(now), Some(key("a")));
            slowed += u32::from(queue.wrote(&key("a"), now));
            queue.done(key("a"), None);
        }
        assert_eq!((slowed, began.elapsed()), (1, WRITES_PACE * 9), "told once");
        queue.add(key("b"), Instant::now());
        assert_eq!(queue.take(Instant::now()), Some(key("b")), "others do not wait for it");
        tokio::time::sleep(WRITES_PACE * (WRITES_BURST + 1)).await;
        for n in 0..100 {
            assert!(!queue.wrote(&key(&n.to_string()), Instant::now()));
        }
        assert!(!queue.paid.contains_key(&key("a")), "what is long over takes no room");
    }

    #[test]
    fn conflicts_wait_shortly_at_first_and_longer_while_they_go_on() {
        let mut queue = Queue::default();
        let waits: Vec<Duration> = (0..40).map(|_| queue.conflicted(&key("a"))).collect();
        assert_eq!((waits[0], waits[1], waits[39]), (CONFLICT_MIN, CONFLICT_MIN * 2, CONFLICT_MAX));
        queue.succeeded(&key("a"));
        assert_eq!(queue.conflicted(&key("a")), CONFLICT_MIN);
    }

    #[test]
    fn failures_double_the_wait_up_to_the_bound_and_a_success_forgets_them() {
        let mut queue = Queue::default();
        let waits: Vec<Duration> = (0..40).map(|_| queue.failed(&key("a"))).collect();
        assert!(waits[0] >= BACKOFF_MIN.mul_f64(0.8) && waits[0] <= BACKOFF_MIN.mul_f64(1.2));
        assert!(waits[39] >= BACKOFF_MAX.mul_f64(0.8) && waits[39] <= BACKOFF_MAX.mul_f64(1.2));
        queue.succeeded(&key("a"));
        assert!(queue.failed(&key("a")) <= BACKOFF_MIN.mul_f64(1.2));
    }
}
