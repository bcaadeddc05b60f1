//! One run of a simulation: one thread, one seed, a clock that jumps to the next thing that happens.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::choices::{Choices, Point};
use super::director::{Life, SimDirector};
use super::fault::layered_service;
use super::log::Log;
use super::random::seed_thread;
use super::scenario::{Change, Scenario, Step};
use super::world::{Pair, World};
use crate::changed;
use crate::store::{Event, Key};
use crate::{ApiServer, Clock, Config, User};

/// Requests of one run; a program that makes more goes round in circles.
const CALLS_MAX: u64 = 20_000;
/// How long a program may take to arrive when the faults have stopped.
const CONVERGE_MAX: Duration = Duration::from_secs(2 * 3600);
/// How long it must then leave everything as it is.
const QUIET: Duration = Duration::from_secs(3600);
/// Between two steps when nothing is picked.
const CALM: Duration = Duration::from_secs(20);
/// How long events are kept: longer than any run, so that looking for old ones is no work.
const EVENTS_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// Lines of a trace that are kept.
const TRACE_LINES_MAX: usize = 4000;
/// Stack of the thread of a run, bytes.
const STACK_BYTES: usize = 8 << 20;

/// The simulated cluster. Clones are one.
#[derive(Clone)]
pub struct Sim(pub(super) Arc<Inner>);

pub(super) struct Inner {
    server: ApiServer,
    clock: Clock,
    start: Instant,
    pub(super) scenario: Arc<dyn Scenario>,
    choices: Mutex<Choices>,
    steps: Mutex<VecDeque<Step>>,
    /// Held by the step that happens.
    stepping: tokio::sync::Mutex<()>,
    worlds: Mutex<Pair>,
    changed: changed::Sender,
    failed: watch::Sender<Option<String>>,
    healed: AtomicBool,
    lives: Mutex<Vec<Arc<Life>>>,
    trace: Mutex<Trace>,
    secrets: Vec<String>,
    calls: AtomicU64,
    faults: AtomicU64,
    /// When the program last wrote, and what.
    last_write: Mutex<(Instant, String)>,
}

/// Tells of writes, see [`Sim::changes`].
#[derive(Clone, Debug)]
pub struct Changes(changed::Receiver);

impl Changes {
    /// Waits until something has happened since the last call.
    pub async fn next(&mut self) {
        self.0.changed().await;
    }
}

struct Trace {
    hasher: DefaultHasher,
    lines: Option<Vec<String>>,
    states: HashSet<u64>,
}

/// What one run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// The choices that were made.
    pub tape: Vec<u32>,
    pub(crate) points: Vec<Point>,
    /// A hash of everything that happened: equal for equal runs.
    pub trace_hash: u64,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
    /// Requests of the program.
    pub calls: u64,
    /// Faults that were put in.
    pub faults: u64,
    /// Hashes of the states that were seen, without uids, revisions and times.
    pub states: HashSet<u64>,
}

/// Runs a scenario once, on a thread of its own.
pub fn run_once(scenario: Arc<dyn Scenario>, seed: u64, choices: Choices, with_trace: bool) -> Outcome {
    let started = std::thread::Builder::new()
        .name(format!("sim-{seed}"))
        .stack_size(STACK_BYTES)
        .spawn(move || on_this_thread(scenario, seed, choices, with_trace));
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("no thread for a run: {error}"),
    }
}

/// Runs a scenario without faults and forgets what came of it.
///
/// The first run of a process makes tables that all later ones share, and so draws more of its thread's randomness than
/// they do: hashes of runs are equal from the second on. [`Suite`](super::Suite) does this by itself.
pub fn warm_up(scenario: Arc<dyn Scenario>) {
    run_once(scenario, 0, Choices::of_tape(Vec::new()), false);
}

fn on_this_thread(scenario: Arc<dyn Scenario>, seed: u64, choices: Choices, with_trace: bool) -> Outcome {
    seed_thread(seed);
    let log = Log::default();
    let secrets = scenario.secrets();
    let _guard = (with_trace || !secrets.is_empty()).then(|| tracing::subscriber::set_default(log.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing that can be missing");
    let sim = runtime.block_on(async {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("this is a time");
        let clock = Clock::following_tokio(start);
        let config = Config { clock: clock.clone(), events_ttl: EVENTS_TTL, ..Config::default() };
        let server = ApiServer::open(config).await.expect("a server in memory opens");
        let sim = Sim(Arc::new(Inner {
            server,
            clock,
            start: Instant::now(),
            scenario,
            choices: Mutex::new(choices),
            steps: Mutex::default(),
            stepping: tokio::sync::Mutex::default(),
            worlds: Mutex::default(),
            changed: Default::default(),
            failed: watch::Sender::new(None),
            healed: AtomicBool::new(false),
            lives: Mutex::default(),
            trace: Mutex::new(Trace {
                hasher: DefaultHasher::new(),
                lines: with_trace.then(Vec::new),
                states: HashSet::new(),
            }),
            secrets,
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            last_write: Mutex::new((Instant::now(), String::new())),
        }));
        let mut failed = sim.0.failed.subscribe();
        tokio::select! {
            biased;
            _ = failed.wait_for(Option::is_some) => {}
            result = sim.play(&log) => {
                if let Err(error) = result {
                    sim.fail(error);
                }
            }
        }
        sim.check_log(&log);
        sim
    });
    // Ends every task, so that nothing of the run is left.
    drop(runtime);
    sim.outcome()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    /// A client of an administrator, without faults.
    pub fn admin(&self) -> kube::Client {
        self.0.server.client(User::admin("admin"))
    }

    /// A client of this user, without faults.
    pub fn client_as(&self, user: User) -> kube::Client {
        self.0.server.client(user)
    }

    /// The clock of the cluster and of the machines that the program runs on.
    pub fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    /// What is stored.
    pub fn world(&self) -> World {
        lock(&self.0.worlds).after.clone()
    }

    /// Looks at what is stored.
    pub fn look<T>(&self, at: impl FnOnce(&World) -> T) -> T {
        at(&lock(&self.0.worlds).after)
    }

    /// Tells of writes, and that the faults have stopped, from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.0.changed.subscribe())
    }

    /// One of `0..n`; 0, the choice that means that nothing happens, once the faults have stopped.
    pub fn pick(&self, n: u32) -> u32 {
        if self.is_healed() { 0 } else { lock(&self.0.choices).pick(n) }
    }

    /// Takes up to `less` picked steps out of a script, so that a run is short and there are many; the `first` and the `last`
    /// ones stay.
    pub fn leave_out(&self, steps: &mut Vec<Step>, less: u32, first: usize, last: usize) {
        for _ in 0..less {
            let Some(free @ 1..) = steps.len().checked_sub(first + last) else { return };
            steps.remove(first + self.pick(free as u32) as usize);
        }
    }

    /// Waits, but not longer than until the faults stop.
    pub(super) async fn sleep_unless_healed(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut changes = self.changes();
        while !self.is_healed() && tokio::time::timeout_at(deadline, changes.next()).await.is_ok() {}
    }

    /// Whether the faults have stopped: what goes on around the program must go well from now on.
    pub fn is_healed(&self) -> bool {
        self.0.healed.load(Ordering::SeqCst)
    }

    /// Waits for a picked time below `most`, or not at all.
    pub async fn sleep_picked(&self, most: Duration) {
        let wait = self.pick(most.as_millis().min(u128::from(u32::MAX)) as u32);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait.into())).await;
        }
    }

    /// Ends the run as failed.
    pub fn fail(&self, why: String) {
        self.0.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(why);
            first
        });
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl std::fmt::Display) {
        let mut trace = lock(&self.0.trace);
        let Some(lines) = &mut trace.lines else { return };
        if lines.len() < TRACE_LINES_MAX {
            lines.push(format!("{:>10.3} {line}", self.0.start.elapsed().as_secs_f64()));
        }
    }

    pub(super) fn hash(&self, what: impl Hash) {
        let mut trace = lock(&self.0.trace);
        self.0.start.elapsed().hash(&mut trace.hasher);
        what.hash(&mut trace.hasher);
    }

    /// A fault for a point, 0 for none; counted.
    pub(super) fn fault(&self, fits: u32) -> u32 {
        if self.is_healed() {
            return 0;
        }
        let fault = lock(&self.0.choices).fault(fits);
        self.0.faults.fetch_add(u64::from(fault != 0), Ordering::SeqCst);
        fault
    }

    pub(super) fn revision(&self) -> u64 {
        self.0.server.revision()
    }

    /// Counts a request of the program and lets the scenario look at it.
    pub(super) fn count(&self, call: &super::Call) {
        let calls = self.0.calls.fetch_add(1, Ordering::SeqCst);
        if calls >= CALLS_MAX {
            self.fail(format!("the program made {CALLS_MAX} requests and goes on; the last was {call}"));
        }
        if call.is_write() {
            *lock(&self.0.last_write) = (Instant::now(), call.to_string());
        }
        if let Err(error) = self.0.scenario.call(call) {
            self.fail(error);
        }
    }

    /// The next step of the script happens now.
    pub(super) async fn step(&self) {
        // One at a time; and what the one before wrote is told by a watch of ours: `look` must know it.
        let _one = self.0.stepping.lock().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Some(step) = lock(&self.0.steps).pop_front() else { return };
        self.note(format_args!("step: {}", step.name));
        self.hash(&step.name);
        if let Err(error) = (step.act)(self.clone()).await {
            self.fail(format!("the step `{}`: {error}", step.name));
        }
    }

    async fn play(&self, log: &Log) -> Result<(), String> {
        let mut tasks = tokio::task::JoinSet::new();
        let events = self.0.server.events();
        tasks.spawn(self.clone().follow(events));
        let scenario = self.0.scenario.clone();
        scenario.set_up(self).await?;
        *lock(&self.0.steps) = scenario.script(self).into();
        tasks.spawn(scenario.surroundings(self));
        for instance in 0..scenario.instances() {
            tasks.spawn(self.clone().keep(instance));
        }
        loop {
            self.gap().await;
            self.check_log(log);
            if lock(&self.0.steps).is_empty() {
                break;
            }
            self.step().await;
        }
        self.heal();
        self.arrive().await?;
        self.be_quiet().await?;
        scenario.finally(&self.world()).map_err(|error| format!("after an hour of quiet: {error}"))
    }

    /// The time between two steps.
    async fn gap(&self) {
        match self.pick(4) {
            0 => tokio::time::sleep(CALM).await,
            1 => self.sleep_picked(Duration::from_millis(100)).await,
            2 => self.sleep_picked(Duration::from_secs(5)).await,
            _ => self.sleep_picked(Duration::from_secs(60)).await,
        }
    }

    /// Runs one instance, again and again.
    async fn keep(self, instance: usize) {
        loop {
            let life = Arc::new(Life::default());
            lock(&self.0.lives).push(life.clone());
            let director = SimDirector::new(self.clone(), life.clone());
            let user = User::admin("program").with_agent("program");
            let service = self.0.server.service(user);
            let client = layered_service(service, "default", instance, Arc::new(director));
            self.note(format_args!("instance {instance} starts"));
            let program = tokio::spawn(self.0.scenario.start(&self, client));
            let abort = program.abort_handle();
            tokio::select! {
                biased;
                () = life.ended() => {}
                ended = program => {
                    let how = ended.err().map(|error| error.to_string()).unwrap_or_default();
                    return self.fail(format!("instance {instance} ended by itself {how}"));
                }
            }
            abort.abort();
            lock(&self.0.lives).retain(|other| !Arc::ptr_eq(other, &life));
            self.note(format_args!("instance {instance} has crashed"));
            self.sleep_picked(Duration::from_secs(10)).await;
            tokio::task::yield_now().await;
        }
    }

    /// Looks at each write.
    async fn follow(self, mut events: broadcast::Receiver<(Key, Arc<Event>)>) {
        loop {
            let (key, event) = match events.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    return self.fail("more writes at once than can be looked at".to_owned());
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if let Err(error) = self.look_at(&key, &event) {
                self.fail(error);
            }
            self.tell();
        }
    }

    fn look_at(&self, key: &Key, event: &Event) -> Result<(), String> {
        self.hash((&*event.object.json, event.kind as u8));
        let mut worlds = lock(&self.0.worlds);
        let id = worlds.advance(key, event);
        lock(&self.0.trace).states.insert(worlds.after.hash());
        self.note(format_args!("  {:?} {id} @{}", event.kind, event.object.revision));
        if id.resource != "secrets" {
            let text = String::from_utf8_lossy(&event.object.json);
            if let Some(secret) = self.0.secrets.iter().find(|secret| text.contains(secret.as_str())) {
                return Err(format!("{id} tells the secret `{secret}`"));
            }
        }
        self.0.scenario.always(&Change { before: &worlds.before, after: &worlds.after, id: &id })
    }

    fn check_log(&self, log: &Log) {
        for line in log.take() {
            if let Some(secret) = self.0.secrets.iter().find(|secret| line.contains(secret.as_str())) {
                self.fail(format!("a line of the log tells the secret `{secret}`: {line}"));
            }
            self.note(format_args!("    log: {line}"));
        }
    }

    fn tell(&self) {
        self.0.changed.set(self.0.changed.get() + 1);
    }

    fn heal(&self) {
        self.note("the faults stop");
        self.0.healed.store(true, Ordering::SeqCst);
        lock(&self.0.lives).iter().for_each(|life| life.go_on());
        // Whoever waits for a change may have something to do now.
        self.tell();
    }

    async fn arrive(&self) -> Result<(), String> {
        let mut changes = self.changes();
        let deadline = Instant::now() + CONVERGE_MAX;
        loop {
            let Err(missing) = self.0.scenario.finally(&self.world()) else { return Ok(()) };
            if tokio::time::timeout_at(deadline, changes.next()).await.is_err() {
                return Err(format!("{CONVERGE_MAX:?} after the faults stopped: {missing}"));
            }
        }
    }

    /// An hour in which the program writes nothing, within some more hours.
    async fn be_quiet(&self) -> Result<(), String> {
        const TRIES: u32 = 3;
        let arrived = Instant::now();
        let deadline = arrived + QUIET * TRIES;
        loop {
            let (last, write) = lock(&self.0.last_write).clone();
            let quiet = last.max(arrived) + QUIET;
            if quiet <= Instant::now() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "the program does not come to rest: {TRIES} hours after it arrived it still writes, last {write}"
                ));
            }
            tokio::time::sleep_until(quiet).await;
        }
    }

    fn outcome(self) -> Outcome {
        let (tape, points) =
            std::mem::replace(&mut *lock(&self.0.choices), Choices::of_tape(Vec::new())).into_parts();
        let mut trace = lock(&self.0.trace);
        Outcome {
            failure: self.0.failed.borrow().clone(),
            tape,
            points,
            trace_hash: trace.hasher.finish(),
            trace: trace.lines.take().unwrap_or_default(),
            calls: self.0.calls.load(Ordering::SeqCst),
            faults: self.0.faults.load(Ordering::SeqCst),
            states: std::mem::take(&mut trace.states),
        }
    }
}

/// A world as text, for the message of a failure: one line per object.
pub fn describe(world: &World, resources: &[&str]) -> String {
    let mut text = String::new();
    let resources: BTreeSet<&str> = resources.iter().copied().collect();
    for (id, object) in world.iter().filter(|(id, _)| resources.contains(id.resource.as_str())) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {id}: {}", object["status"]);
    }
    text
}
