//! The store loses nothing that it told anybody: a crash at every call of a scripted history and of its recovery, every
//! fault at every call, long random histories; and each check is shown to find a mistake that is planted.
//!
//! The model is the list of changes that were asked for. After a crash the store must open, and be a prefix of that list
//! with everything that was answered or readable before. Longer runs: `DODAI_CRASH_RUNS`, `DODAI_CRASH_SEED`.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use dodai_apiserver::store::disk::Disk;
use dodai_apiserver::store::planted::{Bug, plant};
use dodai_apiserver::store::seal::{KeyPlace, SealKey};
use dodai_apiserver::store::{Change, EventKind, Key, Limits, Setup, Steps, Store, StoreError};
use futures::FutureExt;
use serde_json::{Value, json};

use super::damage::damage;
use super::sim_disk::{Fault, Image, SimDisk, digest};

/// In every Secret, and nowhere on the disk.
pub(crate) const MARKER: &str = "marker-7c1x";
const RESOURCES: [&str; 2] = ["core/configmaps", "core/secrets"];
/// Images of one moment, where there are too many for all; more with `DODAI_CRASH_SAMPLE`.
const SAMPLE: usize = 6;

/// A change that was asked for; `None` is a deletion.
type Asked = (u64, Key, Option<Arc<Value>>);

/// What must be there after a crash.
#[derive(Clone, Debug, Default)]
struct Wanted {
    /// Whatever the disk does, this revision was seen by somebody.
    seen: u64,
    asked: Arc<Vec<Asked>>,
}

impl Wanted {
    /// Tells one list of changes from another.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (revision, key, value) in self.asked.iter() {
            (revision, key, value.is_some()).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn state(&self, revision: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut state = BTreeMap::new();
        for (_, key, value) in self.asked.iter().take_while(|asked| asked.0 <= revision) {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    }
}

pub(crate) fn setup(keys: &[SealKey]) -> Setup {
    let limits =
        Limits { log_bytes_max: 5_000, log_bytes_open_max: 4_000, reserve_bytes: 600, ..Limits::default() };
    Setup { limits, ..Setup::new(KeyPlace::Given(keys.to_vec())) }
}

fn key(resource: usize, n: usize) -> Key {
    Key::new(&RESOURCES[resource].into(), "default", &format!("m{n}"))
}

fn value(key: &Key, len: usize, stamp: u64) -> Value {
    let fill = if key.resource.ends_with("secrets") { MARKER } else { "plain" };
    let text: String = fill.chars().cycle().take(len.max(MARKER.len())).collect();
    json!({ "metadata": { "name": *key.name }, "data": { "k": text, "stamp": stamp } })
}

/// What is done to the store.
#[derive(Clone, Debug)]
enum Act {
    /// These at once; `None` deletes, else the length of the text.
    Write(Vec<(Key, Option<usize>)>),
    Idle,
    /// Closed and opened.
    CleanReboot,
    /// Killed and opened: nothing that was written is lost.
    DirtyReboot,
    /// The power goes; the seed says what is left.
    PowerLoss(u64),
}

/// Covers: one and many records in a group, within a sector and over several, deletions, Secrets, snapshots in the run,
/// at a close and at an open, every kind of end.
fn script() -> Vec<Act> {
    let put = |resource, n, len| (key(resource, n), Some(len));
    vec![
        Act::Write(vec![put(0, 0, 20)]),
        Act::Write(vec![put(1, 0, 20), put(0, 1, 700), put(0, 0, 900)]),
        Act::Idle,
        Act::Write(vec![put(1, 1, 600)]),
        Act::DirtyReboot,
        Act::Write(vec![(key(0, 1), None), put(0, 2, 10)]),
        Act::Write(vec![put(1, 0, 400), put(0, 3, 1200), put(0, 0, 10)]),
        Act::Write(vec![put(0, 3, 60), (key(1, 1), None)]),
        Act::Idle,
        Act::CleanReboot,
        Act::Write(vec![put(1, 2, 30)]),
        Act::PowerLoss(11),
        Act::Write(vec![put(0, 4, 300)]),
        Act::Write(vec![put(0, 4, 3000), put(1, 2, 500)]),
        Act::Write(vec![put(0, 2, 2500)]),
        Act::Idle,
        Act::Write(vec![(key(0, 4), None)]),
        Act::CleanReboot,
    ]
}

/// A store on a simulated disk under a script.
struct Run {
    disk: SimDisk<Wanted>,
    keys: Vec<SealKey>,
    store: Store,
    steps: Option<Steps>,
    asked: Arc<Mutex<Arc<Vec<Asked>>>>,
    /// For the probe: the store of the moment.
    current: Arc<Mutex<Option<Store>>>,
    /// The newest revision that was answered or readable at an earlier moment.
    seen: Arc<Mutex<u64>>,
}

pub(crate) type Checked<T = ()> = Result<T, String>;

impl Run {
    fn start(disk: SimDisk<Wanted>, keys: &[SealKey], wanted: Wanted) -> Checked<Run> {
        let asked = Arc::new(Mutex::new(wanted.asked));
        let current: Arc<Mutex<Option<Store>>> = Arc::default();
        let seen = Arc::new(Mutex::new(wanted.seen));
        let probe = (asked.clone(), current.clone(), seen.clone());
        disk.record(move || {
            let (asked, current, seen) = &probe;
            let mut seen = seen.lock().unwrap();
            *seen = (*seen).max(current.lock().unwrap().as_ref().map_or(0, Store::revision));
            Wanted { seen: *seen, asked: asked.lock().unwrap().clone() }
        });
        let (store, steps) = open(&disk, keys)?;
        *current.lock().unwrap() = Some(store.clone());
        Ok(Run { disk, keys: keys.to_vec(), store, steps: Some(steps), asked, current, seen })
    }

    fn wanted(&self) -> Wanted {
        Wanted { seen: *self.seen.lock().unwrap(), asked: self.asked.lock().unwrap().clone() }
    }

    fn act(&mut self, act: &Act) -> Checked {
        match act {
            Act::Write(writes) => self.write(writes)?,
            Act::Idle => self.step(),
            Act::CleanReboot => {
                self.steps.take().expect("it runs").close();
                self.reopen()?;
            }
            Act::DirtyReboot => self.reopen()?,
            Act::PowerLoss(seed) => {
                self.note();
                let image = self.disk.power_off(*seed);
                self.power_on(&image)?;
            }
        }
        Ok(())
    }

    fn step(&mut self) {
        self.steps.as_mut().expect("it runs").step();
    }

    /// Notes what readers may have seen.
    fn note(&self) {
        let mut seen = self.seen.lock().unwrap();
        *seen = (*seen).max(self.store.revision());
    }

    fn write(&mut self, writes: &[(Key, Option<usize>)]) -> Checked {
        let store = self.store.clone();
        let mut running = Vec::new();
        for (at, (key, len)) in writes.iter().enumerate() {
            let revision = store.revision() + 1 + at as u64;
            let value = value(key, len.unwrap_or(5), revision);
            let mut stored = value.clone();
            stored["metadata"]["resourceVersion"] = revision.to_string().into();
            let change = if len.is_some() { Change::Put(value) } else { Change::Delete(value) };
            let mut write = Box::pin({
                let (store, key) = (store.clone(), key.clone());
                async move { store.write(&key, |_, _| Ok::<_, StoreError>(change)).await }
            });
            let asked = (revision, key.clone(), len.is_some().then(|| Arc::new(stored)));
            match write.as_mut().now_or_never() {
                None => {
                    Arc::make_mut(&mut *self.asked.lock().unwrap()).push(asked);
                    running.push((revision, write));
                }
                Some(Ok(_)) => return Err("a write was answered before its group was written".into()),
                // Refused at once, since an earlier call failed.
                Some(Err(_)) => {}
            }
        }
        self.step();
        for (revision, mut write) in running {
            match write.as_mut().now_or_never() {
                Some(Ok(written)) => {
                    let made = written.object.map_or(0, |object| object.revision);
                    if made != revision || store.revision() < revision {
                        return Err(format!("revision {made} was answered for {revision}"));
                    }
                    self.note();
                }
                // A definite refusal: it must never turn up.
                Some(Err(StoreError::NoSpace)) => {
                    Arc::make_mut(&mut *self.asked.lock().unwrap()).retain(|asked| asked.0 != revision);
                }
                Some(Err(_)) => {}
                None => return Err("a write was not answered".into()),
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Checked {
        self.note();
        self.steps = None;
        *self.current.lock().unwrap() = None;
        let mut opened = open(&self.disk, &self.keys);
        if opened.is_err() && self.disk.struck().is_some() {
            // The fault struck here: the next start must do.
            opened = open(&self.disk, &self.keys);
        }
        self.go_on(opened?)
    }

    fn power_on(&mut self, image: &Image) -> Checked {
        let moments = self.disk.take_moments();
        let disk = SimDisk::of(image);
        disk.put_moments(moments);
        *self = Run::start(disk, &self.keys, self.wanted())?;
        let steps = self.steps.take().expect("it runs");
        self.go_on((self.store.clone(), steps))
    }

    /// The new store is a prefix; what was asked for and is not in it is gone for good.
    fn go_on(&mut self, (store, steps): (Store, Steps)) -> Checked {
        check(&store, &self.wanted())?;
        let revision = store.revision();
        Arc::make_mut(&mut *self.asked.lock().unwrap()).retain(|asked| asked.0 <= revision);
        *self.current.lock().unwrap() = Some(store.clone());
        self.store = store;
        self.steps = Some(steps);
        Ok(())
    }
}

fn open<T: Send + 'static>(disk: &SimDisk<T>, keys: &[SealKey]) -> Checked<(Store, Steps)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open_in_steps(disk, &setup(keys)).map_err(|error| format!("it does not open: {}", chain(&error)))
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// A store that was opened is a prefix of what was asked for, with everything that was seen, and so is its history.
fn check(store: &Store, wanted: &Wanted) -> Checked {
    let revision = store.revision();
    if revision < wanted.seen {
        return Err(format!("revision {} was seen, and {revision} is there", wanted.seen));
    }
    let asked_for = wanted.asked.last().map_or(0, |asked| asked.0);
    if revision > asked_for {
        return Err(format!("revision {revision} is there, and {asked_for} was the last that was asked for"));
    }
    let all = store.all();
    if let Some((key, _)) = all.iter().find(|(_, object)| object.locked.is_some()) {
        return Err(format!("{key:?} does not open"));
    }
    let found: BTreeMap<Key, Value> = all.iter().map(|(key, object)| (key.clone(), object.value())).collect();
    let state: BTreeMap<Key, Value> =
        wanted.state(revision).into_iter().map(|(key, value)| (key, (*value).clone())).collect();
    if found != state {
        return Err(format!("at revision {revision} the state is {found:?}, not {state:?}"));
    }
    for resource in RESOURCES {
        check_history(store, wanted, resource, revision)?;
    }
    Ok(())
}

fn check_history(store: &Store, wanted: &Wanted, resource: &str, revision: u64) -> Checked {
    let name = resource.into();
    let mut watcher = match store.watch(&name, 0) {
        Ok(watcher) => watcher,
        Err(expired) => store.watch(&name, expired.oldest).map_err(|error| format!("{error:?}"))?,
    };
    let floor = watcher.revision();
    let events = watcher.take().map_err(|error| format!("{error:?}"))?;
    let is = |asked: &&Asked| *asked.1.resource == *resource && asked.0 > floor && asked.0 <= revision;
    let asked: Vec<&Asked> = wanted.asked.iter().filter(is).collect();
    let same = events.len() == asked.len()
        && events.iter().zip(&asked).all(|(event, asked)| {
            event.object.revision == asked.0
                && (event.kind == EventKind::Deleted) == asked.2.is_none()
                && asked.2.as_ref().is_none_or(|value| event.object.value() == **value)
        });
    if same { Ok(()) } else { Err(format!("the history of {resource} after {floor} is {events:?}")) }
}

/// Whether the beginning of the marker is there.
fn has_marker(content: &[u8]) -> bool {
    let first = MARKER.as_bytes()[0];
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(MARKER.as_bytes()) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Opens what a crash left, also with crashes in the recovery, and goes on from there.
#[derive(Default)]
struct Checker {
    known: HashSet<(u64, u64, u64)>,
    /// Checksums of contents in which no Secret was found.
    searched: HashSet<u32>,
    n_images: usize,
    n_recoveries: usize,
    /// Whether recoveries are crashed too.
    deep: bool,
}

impl Checker {
    fn crash(&mut self, image: &Image, wanted: &Wanted, keys: &[SealKey], deep: bool) -> Checked {
        if !self.known.insert((digest(image), wanted.seen, wanted.digest())) {
            return Ok(());
        }
        self.n_images += 1;
        for (name, content) in image {
            if self.searched.insert(crc32c::crc32c(content)) && has_marker(content) {
                return Err(format!("the value of a Secret is in `{name}`"));
            }
        }
        let disk: SimDisk<()> = SimDisk::of(image);
        if deep {
            disk.record(|| ());
        }
        let (store, mut steps) = open(&disk, keys)?;
        check(&store, wanted)?;
        let moments = disk.take_moments();
        for moment in moments {
            self.n_recoveries += 1;
            for image in moment.images(7, sample()) {
                self.crash(&image, wanted, keys, false)
                    .map_err(|error| format!("in the recovery after {}: {error}", moment.call))?;
            }
        }
        if !self.n_images.is_multiple_of(GOES_ON_EVERY) {
            return Ok(());
        }
        // It goes on: what is written now is there after the next start.
        let revision = store.revision();
        let key = key(0, 9);
        let written =
            Box::pin(store.write(&key, |_, _| {
                Ok::<_, StoreError>(Change::Put(json!({ "metadata": { "name": "m9" } })))
            }));
        let mut written = written;
        let early = written.as_mut().now_or_never();
        steps.step();
        match early.or_else(|| written.as_mut().now_or_never()) {
            Some(Ok(_)) => {}
            other => return Err(format!("no write after the recovery: {other:?}")),
        }
        drop(written);
        let (again, _) = open(&SimDisk::<()>::of(&disk.live()), keys)?;
        if again.get(&key).is_none() || again.revision() != revision + 1 {
            return Err("what was written after the recovery is lost".into());
        }
        Ok(())
    }
}

/// A crash after every call of a script: each thing that may be lost, lost or kept.
fn sweep(acts: &[Act], checker: &mut Checker) -> Checked<usize> {
    let keys = [SealKey::generate()];
    let mut run = Run::start(SimDisk::default(), &keys, Wanted::default())?;
    let mut n_calls = 0;
    let mut moments = Vec::new();
    for act in acts {
        run.act(act).map_err(|error| format!("{act:?}: {error}"))?;
        moments.append(&mut run.disk.take_moments());
    }
    for moment in moments {
        n_calls += 1;
        for image in moment.images(n_calls as u64, sample()) {
            let deep = checker.deep;
            checker
                .crash(&image, &moment.seen, &keys, deep)
                .map_err(|error| format!("after {}: {error}", moment.call))?;
        }
    }
    Ok(n_calls)
}

/// One fault at one call of a script, then: crashes at every later moment; the next start, writes, and crashes again.
fn one_fault(acts: &[Act], call: usize, fault: Fault, checker: &mut Checker) -> Checked<bool> {
    let keys = [SealKey::generate()];
    let disk: SimDisk<Wanted> = SimDisk::default();
    disk.fail_at(call, fault);
    let started = Run::start(disk.clone(), &keys, Wanted::default());
    let mut run = match started {
        Ok(run) => run,
        Err(_) if disk.struck().is_some() => Run::start(disk, &keys, Wanted::default())?,
        Err(error) => return Err(error),
    };
    let mut struck = None;
    let after = |checker: &mut Checker, run: &Run, at: &str| {
        for image in run.disk.images(call as u64, sample()) {
            checker.crash(&image, &run.wanted(), &keys, false).map_err(|error| format!("{at}: {error}"))?;
        }
        Checked::Ok(())
    };
    for (at, act) in acts.iter().enumerate() {
        let told = |error| format!("{struck:?}, {act:?}: {error}");
        run.act(act).map_err(told)?;
        struck = struck.or(run.disk.struck().map(|call| (call, at)));
        if struck.as_ref().is_some_and(|(_, begun)| at == *begun) {
            after(checker, &run, &format!("{struck:?}, then {act:?}"))?;
        }
    }
    let Some(struck) = struck else { return Ok(false) };
    run.act(&Act::DirtyReboot).map_err(|error| format!("{struck:?}, restarted: {error}"))?;
    after(checker, &run, &format!("{struck:?}, restarted"))?;
    run.act(&Act::Write(vec![(key(0, 0), Some(40)), (key(1, 0), Some(40))]))?;
    after(checker, &run, &format!("{struck:?}, restarted and written"))?;
    Ok(true)
}

const FAULTS: [Fault; 8] = [
    Fault::Full(0),
    Fault::Full(2),
    Fault::Full(3),
    Fault::Full(4),
    Fault::Error,
    Fault::Half(1),
    Fault::Half(3),
    Fault::Half(4),
];

/// The script without power losses: calls of one disk are counted.
fn fault_script() -> Vec<Act> {
    script().into_iter().filter(|act| !matches!(act, Act::PowerLoss(_))).collect()
}

fn fault_sweep(checker: &mut Checker) -> Checked<usize> {
    let acts = fault_script();
    let mut n_runs = 0;
    for call in 0.. {
        let mut any = false;
        for fault in FAULTS {
            any |= one_fault(&acts, call, fault, checker)?;
            n_runs += 1;
        }
        if !any {
            return Ok(n_runs);
        }
    }
    unreachable!("the script ends")
}

/// A long random history with random faults.
fn random_run(seed: u64, checker: &mut Checker) -> Checked<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let keys = [SealKey::generate()];
    let mut run = Run::start(SimDisk::default(), &keys, Wanted::default())?;
    let n_acts = random.usize(10..60);
    let mut trace = Vec::new();
    for at in 0..n_acts {
        if random.u8(..6) == 0 {
            let call = run.disk.n_calls() + random.usize(..6);
            let fault = FAULTS[random.usize(..FAULTS.len())];
            trace.push(format!("{fault:?} at {call}"));
            run.disk.fail_at(call, fault);
        }
        let write = |random: &mut fastrand::Rng| {
            let key = key(random.usize(..2), random.usize(..5));
            let len_max = [30, 600, 3000][random.usize(..3)];
            (key, (random.u8(..4) > 0).then(|| random.usize(..len_max)))
        };
        let act = match random.u8(..20) {
            0 => Act::CleanReboot,
            1 => Act::DirtyReboot,
            2 | 3 => Act::PowerLoss(random.u64(..)),
            4 | 5 => Act::Idle,
            _ => {
                // A deletion is of something that is there.
                let mut there: HashSet<Key> = run.store.all().into_iter().map(|(key, _)| key).collect();
                let mut writes = Vec::new();
                for _ in 0..random.usize(1..5) {
                    let (key, len) = write(&mut random);
                    let len = len.or_else(|| (!there.contains(&key)).then_some(9));
                    if len.is_some() {
                        there.insert(key.clone())
                    } else {
                        there.remove(&key)
                    };
                    writes.push((key, len));
                }
                Act::Write(writes)
            }
        };
        trace.push(format!("{act:?}"));
        run.act(&act).map_err(|error| format!("seed {seed}, act {at}: {error}\n{}", trace.join("\n")))?;
        trace.extend(run.disk.take_moments().into_iter().map(|moment| format!("    {}", moment.call)));
        if random.u8(..4) == 0 {
            let images = run.disk.images(random.u64(..), 3);
            let image = &images[random.usize(..images.len())];
            checker
                .crash(image, &run.wanted(), &keys, false)
                .map_err(|error| format!("seed {seed}, act {at}: {error}\n{}", trace.join("\n")))?;
        }
    }
    Ok(n_acts)
}

/// Of so many images one is written to.
const GOES_ON_EVERY: usize = 4;

fn sample() -> usize {
    number("DODAI_CRASH_SAMPLE", SAMPLE as u64) as usize
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_crash_at_any_call_and_in_any_recovery_loses_nothing_that_was_seen() {
    let started = std::time::Instant::now();
    let mut checker = Checker { deep: true, ..Checker::default() };
    let n_calls = sweep(&script(), &mut checker).unwrap();
    println!(
        "crashes at {n_calls} calls and {} calls of recoveries: {} images, {:?}",
        checker.n_recoveries,
        checker.n_images,
        started.elapsed()
    );
    assert!(n_calls > 60 && checker.n_images > 1000 && checker.n_recoveries > 1000);
}

#[test]
fn a_fault_at_any_call_loses_nothing_that_was_seen() {
    let started = std::time::Instant::now();
    let mut checker = Checker::default();
    let n_runs = fault_sweep(&mut checker).unwrap();
    println!("faults: {n_runs} runs, {} images, {:?}", checker.n_images, started.elapsed());
    assert!(n_runs > 400 && checker.n_images > 1000);
}

#[test]
fn random_histories_with_faults_lose_nothing_that_was_seen() {
    let started = std::time::Instant::now();
    let (first, runs) = (number("DODAI_CRASH_SEED", 1), number("DODAI_CRASH_RUNS", 100));
    let mut checker = Checker::default();
    let mut n_acts = 0;
    for seed in first..first + runs {
        n_acts += random_run(seed, &mut checker).unwrap();
        checker.known.clear();
    }
    println!("random: {runs} runs, {n_acts} acts, {} images, {:?}", checker.n_images, started.elapsed());
}

#[test]
fn every_planted_mistake_is_found() {
    let sweeps = |bug| {
        let mut checker = Checker { deep: true, ..Checker::default() };
        plant(Some(bug));
        let found = sweep(&script(), &mut checker).map(drop);
        plant(None);
        found
    };
    let faults = |bug| {
        let mut checker = Checker::default();
        plant(Some(bug));
        let found = fault_sweep(&mut checker).map(drop);
        plant(None);
        found
    };
    let damages = |bug| {
        plant(Some(bug));
        let found = damage(7);
        plant(None);
        found.map(drop)
    };
    let plain = |bug| {
        plant(Some(bug));
        // Without a start, which refuses a Secret that lies open.
        let found = sweep(&script()[..2], &mut Checker::default()).map(drop);
        plant(None);
        found
    };
    type Finder<'a> = &'a dyn Fn(Bug) -> Checked;
    let table: [(Bug, Finder<'_>, &str); 13] = [
        (Bug::GroupIsNotSynced, &sweeps, "was seen, and"),
        (Bug::PublishesBeforeSync, &sweeps, "was seen, and"),
        (Bug::SnapshotIsNotSynced, &sweeps, "damaged"),
        (Bug::SnapshotNameIsNotSynced, &sweeps, "`log` goes on from revision"),
        (Bug::LogNameIsNotSynced, &sweeps, ""),
        (Bug::RecoveryKeepsTornGroup, &sweeps, ""),
        (Bug::SecretsStayPlain, &plain, "the value of a Secret is in"),
        (Bug::RetriesFailedSync, &faults, "was seen, and"),
        (Bug::KeepsFailedAppend, &faults, "was seen, and"),
        (Bug::RecoveryTrustsTail, &faults, ""),
        (Bug::NoSeal, &damages, "smeared"),
        (Bug::FlippedBitIsTorn, &damages, "flipped"),
        (Bug::BaseIsIgnored, &damages, "without its snapshot"),
    ];
    for (bug, find, says) in table {
        match find(bug) {
            Ok(()) => panic!("{bug:?} was not found"),
            Err(found) => {
                println!("{bug:?}: {}", found.chars().take(140).collect::<String>());
                assert!(found.contains(says), "{bug:?} was found by something else: {found}");
            }
        }
    }
}
