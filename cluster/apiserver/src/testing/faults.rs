//! [`Faults`]: what goes wrong with the requests of one client, by chance from a seed or as a test orders it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;

use super::call::Call;
use super::fault::{Director, Fault, WatchFault};
use super::sim::lock;

type Matches = Box<dyn Fn(&Call) -> bool + Send + Sync>;

/// What goes wrong with the requests of a client; see [`TestEnv::client_with`](super::TestEnv::client_with). Nothing, until
/// told otherwise. Clones are one.
///
/// ```
/// # use dodai_apiserver::testing::{Fault, Faults, TestEnv};
/// # use k8s_openapi::api::core::v1::ConfigMap;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let env = TestEnv::start().await?;
/// let faults = Faults::seeded(7).errors(0.2).conflicts(0.1).broken_watches(0.1);
/// let client = env.client_with(&faults);
///
/// // The next list is lost for certain; after that, chance goes on, until it is stopped.
/// faults.next(Fault::Reset, |call| call.verb() == "list");
/// let maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(client);
/// assert!(maps.list(&Default::default()).await.is_err());
/// faults.stop();
/// assert!(maps.list(&Default::default()).await.is_ok());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Faults(Arc<Mutex<State>>);

struct State {
    rng: fastrand::Rng,
    errors: f64,
    lost_answers: f64,
    conflicts: f64,
    latency: Range<Duration>,
    broken_watches: f64,
    late_watches: (f64, Duration),
    only: Option<Matches>,
    ordered: VecDeque<(Fault, Matches)>,
    met: u64,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faults({} so far)", self.met())
    }
}

impl Faults {
    /// No faults yet; those by chance follow from the seed.
    pub fn seeded(seed: u64) -> Faults {
        Faults(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            errors: 0.0,
            lost_answers: 0.0,
            conflicts: 0.0,
            latency: Duration::ZERO..Duration::ZERO,
            broken_watches: 0.0,
            late_watches: (0.0, Duration::ZERO),
            only: None,
            ordered: VecDeque::new(),
            met: 0,
        })))
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Faults {
        change(&mut lock(&self.0));
        self
    }

    /// So many of all requests (0 to 1) are refused or their connection breaks; the server has done nothing.
    pub fn errors(self, part: f64) -> Faults {
        self.with(|state| state.errors = part)
    }

    /// So many of all writes (0 to 1) are done, and their answer is lost.
    pub fn lost_answers(self, part: f64) -> Faults {
        self.with(|state| state.lost_answers = part)
    }

    /// So many of all updates and patches (0 to 1) are answered with a conflict.
    pub fn conflicts(self, part: f64) -> Faults {
        self.with(|state| state.conflicts = part)
    }

    /// Each request waits so long before it goes out.
    pub fn latency(self, range: Range<Duration>) -> Faults {
        self.with(|state| state.latency = range)
    }

    /// So many events of watches (0 to 1) find the watch ended or broken; it begins again where it was, or with a new list.
    pub fn broken_watches(self, part: f64) -> Faults {
        self.with(|state| state.broken_watches = part)
    }

    /// So many events of watches (0 to 1) come up to so much later, with all that follow.
    pub fn late_watches(self, part: f64, most: Duration) -> Faults {
        self.with(|state| state.late_watches = (part, most))
    }

    /// Faults by chance meet only requests that `matches` names.
    pub fn only(self, matches: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Faults {
        self.with(|state| state.only = Some(Box::new(matches)))
    }

    /// The next request that `matches` names, and that fault fits, meets it for certain.
    pub fn next(&self, fault: Fault, matches: impl Fn(&Call) -> bool + Send + Sync + 'static) {
        lock(&self.0).ordered.push_back((fault, Box::new(matches)));
    }

    /// From now on nothing goes wrong.
    pub fn stop(&self) {
        let mut state = lock(&self.0);
        state.ordered.clear();
        (state.errors, state.lost_answers, state.conflicts, state.broken_watches) = (0.0, 0.0, 0.0, 0.0);
        state.late_watches = (0.0, Duration::ZERO);
        state.latency = Duration::ZERO..Duration::ZERO;
    }

    /// How many faults there were.
    pub fn met(&self) -> u64 {
        lock(&self.0).met
    }

    pub(super) fn director(&self) -> Arc<dyn Director> {
        Arc::new(self.clone())
    }
}

impl State {
    fn chance(&mut self, part: f64) -> bool {
        part > 0.0 && self.rng.f64() < part
    }

    fn fault(&mut self, call: &Call) -> Option<Fault> {
        let ordered = self.ordered.iter().position(|(fault, matches)| fault.fits(call) && matches(call));
        if let Some((fault, _)) = ordered.and_then(|at| self.ordered.remove(at)) {
            return Some(fault);
        }
        if self.only.as_ref().is_some_and(|only| !only(call)) {
            return None;
        }
        let (errors, lost, conflicts) = (self.errors, self.lost_answers, self.conflicts);
        if self.chance(errors) {
            let kinds = [Fault::Refused(503), Fault::Refused(429), Fault::Refused(500), Fault::Reset];
            return Some(kinds[self.rng.usize(..kinds.len())]);
        }
        if call.is_write() && self.chance(lost) {
            return Some(Fault::DoneThenLost);
        }
        (Fault::Conflict.fits(call) && self.chance(conflicts)).then_some(Fault::Conflict)
    }

    fn event(&mut self, watch: &Call) -> Option<WatchFault> {
        if self.only.as_ref().is_some_and(|only| !only(watch)) {
            return None;
        }
        let (broken, (late, most)) = (self.broken_watches, self.late_watches);
        if self.chance(broken) {
            return Some(if self.rng.bool() { WatchFault::Ends } else { WatchFault::Breaks });
        }
        self.chance(late).then(|| WatchFault::Late(most.mul_f64(self.rng.f64())))
    }
}

impl Director for Faults {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Option<Fault>> {
        Box::pin(async move {
            let (wait, fault) = {
                let mut state = lock(&self.0);
                let Range { start, end } = state.latency;
                let wait = start + end.saturating_sub(start).mul_f64(state.rng.f64());
                let fault = state.fault(call);
                state.met += u64::from(fault.is_some());
                (wait, fault)
            };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            fault
        })
    }

    fn event<'a>(&'a self, watch: &'a Call) -> BoxFuture<'a, Option<WatchFault>> {
        Box::pin(async move {
            let mut state = lock(&self.0);
            let fault = state.event(watch);
            state.met += u64::from(fault.is_some());
            fault
        })
    }
}
