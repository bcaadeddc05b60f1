//! 8 writers and 20 watchers while the server is torn down under them: in process on a disk that is full, fails and loses
//! power, and as a process that is killed. What they saw is checked against the log that is left.
//!
//! Longer runs: `DODAI_KILL_ROUNDS` (kills of a process), `DODAI_LINEAR_RUNS` and `DODAI_LINEAR_SEED` (in process).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dodai_apiserver::store::seal::SealKey;
use dodai_apiserver::store::{Limits, Store};
use dodai_apiserver::{ApiServer, Config, KeyPlace, Storage, User};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::crash::number;
use super::format;
use super::history::{Entry, History, Kind, Object, Op, Outcome, Seen, State, Watch, What, doctor};
use super::sim_disk::{Fault, SimDisk};

const WRITERS: usize = 8;
const WATCHERS: usize = 20;
const NAMES: usize = 6;
/// The last object that is written: watchers stop when they see it.
const END: &str = "m-end";
/// The first, which stays.
const BEGIN: &str = "m-begin";
/// For every wait.
const PATIENCE: Duration = Duration::from_secs(240);
/// Set for the child: the folder that it serves.
const CHILD: &str = "DODAI_TEST_SERVES_FOLDER";

/// What all clients share.
struct World {
    clock: AtomicU64,
    ops: Mutex<Vec<Op>>,
    n_writes: AtomicU64,
    begun: watch::Sender<bool>,
    stop: AtomicBool,
    client: watch::Sender<Option<kube::Client>>,
    seed: u64,
    /// Longest rest of a writer.
    rest: Duration,
}

impl World {
    fn new(seed: u64) -> Arc<World> {
        World::with_rest(seed, Duration::from_millis(8))
    }

    fn with_rest(seed: u64, rest: Duration) -> Arc<World> {
        Arc::new(World {
            clock: AtomicU64::new(10),
            ops: Mutex::default(),
            n_writes: AtomicU64::new(0),
            begun: watch::Sender::new(false),
            stop: AtomicBool::new(false),
            client: watch::Sender::new(None),
            seed,
            rest,
        })
    }

    /// Moments lie apart, so that a test can put something between two.
    fn now(&self) -> u64 {
        self.clock.fetch_add(10, Ordering::SeqCst)
    }

    async fn maps(&self) -> Api<ConfigMap> {
        let mut client = self.client.subscribe();
        let client = client.wait_for(Option::is_some).await.expect("the world lives").clone();
        Api::default_namespaced(client.expect("it was waited for"))
    }

    async fn wait_for_begin(&self) {
        self.begun.subscribe().wait_for(|begun| *begun).await.expect("the world lives");
    }

    /// Makes an object, however often that takes.
    async fn make(&self, name: &str) {
        for n in 0.. {
            let token = format!("{name}-{n}");
            let map = json!({ "metadata": { "name": name, "labels": { "pick": "yes" } }, "data": { "token": token } });
            let maps = self.maps().await;
            let begin = self.now();
            let made = maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await;
            let outcome = match &made {
                Ok(map) => Outcome::Acknowledged(object(map).revision),
                Err(error) => outcome(error),
            };
            self.note(begin, name, What::Write { token, outcome });
            match made {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 409 => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn note(&self, begin: u64, name: &str, what: What) {
        if matches!(what, What::Write { .. }) {
            self.n_writes.fetch_add(1, Ordering::SeqCst);
        }
        let op = Op { begin, end: self.now(), name: name.into(), what };
        self.ops.lock().unwrap().push(op);
    }

    async fn wait_for_writes(&self, n: u64) {
        let enough = async {
            while self.n_writes.load(Ordering::SeqCst) < n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("the writers stand still");
    }
}

fn object(map: &ConfigMap) -> Object {
    Object {
        token: map.data.as_ref().and_then(|data| data.get("token")).cloned().unwrap_or_default(),
        picked: map.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("pick")),
        revision: map.metadata.resource_version.as_deref().unwrap_or_default().parse().unwrap(),
    }
}

/// Whether an error says for certain that nothing was written.
fn outcome(error: &kube::Error) -> Outcome {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Outcome::Refused,
        kube::Error::Api(status) if status.message.contains("the disk is full") => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

async fn write_until_stopped(world: Arc<World>, writer: usize) {
    let mut random = fastrand::Rng::with_seed(world.seed * 1000 + writer as u64);
    world.wait_for_begin().await;
    for n in 0.. {
        if world.stop.load(Ordering::SeqCst) {
            return;
        }
        let maps = world.maps().await;
        let name = format!("m{}", random.usize(..NAMES));
        let token = format!("w{writer}-{n}");
        let labels = if random.bool() { json!({ "pick": "yes" }) } else { json!({ "pick": null }) };
        let action = random.u8(..12);
        let begin = world.now();
        let result = match action {
            0 | 1 => {
                if let Ok(found) = maps.get_opt(&name).await {
                    world.note(begin, &name, What::Get(found.as_ref().map(object)));
                }
                continue;
            }
            2 => {
                if let Ok(list) = maps.list(&ListParams::default()).await {
                    let revision = list.metadata.resource_version.unwrap().parse().unwrap();
                    world.note(begin, "", What::List { revision, state: state(list.items) });
                }
                continue;
            }
            3..6 => {
                let mut map = json!({ "metadata": { "name": name }, "data": { "token": token } });
                if labels["pick"] == "yes" {
                    map["metadata"]["labels"] = labels;
                }
                maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.map(Some)
            }
            6..8 => match maps.delete(&name, &DeleteParams::default()).await {
                Ok(gone) => {
                    let uid = gone.right().and_then(|status| status.details).map(|details| details.uid);
                    let outcome = Outcome::Deleted(uid.expect("the answer says what is gone"));
                    world.note(begin, &name, What::Write { token, outcome });
                    continue;
                }
                Err(error) => Err(error),
            },
            _ => {
                let patch = json!({ "metadata": { "labels": labels }, "data": { "token": token } });
                let params = PatchParams::default();
                let patch = Patch::Merge(patch);
                let patched = maps.patch(&name, &params, &patch);
                // Some clients do not wait for the answer.
                match random.u8(..10) {
                    0 => tokio::select! {
                        biased;
                        patched = patched => patched.map(Some),
                        () = tokio::task::yield_now() => Ok(None),
                    },
                    _ => patched.await.map(Some),
                }
            }
        };
        let outcome = match result {
            Ok(Some(map)) => Outcome::Acknowledged(object(&map).revision),
            Ok(None) => Outcome::Unknown,
            Err(error) => outcome(&error),
        };
        if outcome == Outcome::Unknown {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.note(begin, &name, What::Write { token, outcome });
        tokio::time::sleep(world.rest.mul_f64(random.f64())).await;
    }
}

fn state(maps: Vec<ConfigMap>) -> State {
    let ours = |map: &ConfigMap| map.metadata.name.as_deref().is_some_and(|name| name.starts_with('m'));
    maps.into_iter().filter(ours).map(|map| (map.metadata.name.clone().unwrap(), object(&map))).collect()
}

/// Watches until the end is seen. Connections end when the server does, and now and then without a reason.
async fn watch_to_the_end(world: Arc<World>, watcher: usize) -> Watch {
    let mut random = fastrand::Rng::with_seed(world.seed * 1000 + 500 + watcher as u64);
    world.wait_for_begin().await;
    let picky = watcher % 2 == 1;
    let streamed = watcher % 4 >= 2;
    let mut seen: Vec<Seen> = Vec::new();
    let mut cursor = None;
    let plain = WatchParams { label_selector: picky.then(|| "pick=yes".into()), ..WatchParams::default() };
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(..10))).await;
        let maps = world.maps().await;
        let (params, from) = match cursor {
            Some(revision) => (plain.clone(), revision),
            None if streamed => (plain.clone().initial_events(), 0),
            None => {
                let params =
                    ListParams { label_selector: plain.label_selector.clone(), ..ListParams::default() };
                let Ok(list) = maps.list(&params).await else { continue };
                let revision = list.metadata.resource_version.unwrap().parse().unwrap();
                seen.push(Seen::Start { revision, state: state(list.items), streamed: false });
                cursor = Some(revision);
                (plain.clone(), revision)
            }
        };
        let Ok(events) = maps.watch(&params, &from.to_string()).await else { continue };
        let mut events = events.boxed();
        let mut initial = State::new();
        let mut patience = random.usize(5..60);
        while let Some(Ok(event)) = events.next().await {
            let (kind, map) = match event {
                WatchEvent::Added(map) => (Kind::Added, map),
                WatchEvent::Modified(map) => (Kind::Modified, map),
                WatchEvent::Deleted(map) => (Kind::Deleted, map),
                WatchEvent::Bookmark(mark) => {
                    let revision = mark.metadata.resource_version.parse().unwrap();
                    match cursor {
                        Some(_) => seen.push(Seen::Bookmark(revision)),
                        None => {
                            let state = std::mem::take(&mut initial);
                            seen.push(Seen::Start { revision, state, streamed: true });
                        }
                    }
                    cursor = Some(revision);
                    continue;
                }
                WatchEvent::Error(error) => panic!("watcher {watcher} at {cursor:?}: {error:?}"),
            };
            let (name, object) = (map.metadata.name.clone().unwrap(), object(&map));
            if !name.starts_with('m') {
                continue;
            }
            if cursor.is_none() {
                initial.insert(name, object);
                continue;
            }
            cursor = Some(object.revision);
            let is_end = name == END;
            seen.push(Seen::Event { kind, name, object });
            if is_end {
                return Watch { picky, seen };
            }
            patience -= 1;
            if patience == 0 {
                break;
            }
        }
        if cursor.is_some() {
            seen.push(Seen::Resumed);
        }
    }
}

/// Runs the clients while `destroy` does what it wants with the server; gives what they saw.
async fn run<F: Future<Output = ()>>(world: &Arc<World>, destroy: F) -> History {
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write_until_stopped(world.clone(), writer))).collect();
    let watchers: Vec<_> =
        (0..WATCHERS).map(|watcher| tokio::spawn(watch_to_the_end(world.clone(), watcher))).collect();
    let begin = async {
        world.make(BEGIN).await;
        world.begun.send_replace(true);
    };
    tokio::join!(begin, destroy);
    world.stop.store(true, Ordering::SeqCst);
    for writer in writers {
        tokio::time::timeout(PATIENCE, writer).await.expect("a writer ends").unwrap();
    }
    world.make(END).await;
    let mut watches = Vec::new();
    for watcher in watchers {
        watches.push(tokio::time::timeout(PATIENCE, watcher).await.expect("a watcher sees the end").unwrap());
    }
    History { log: Vec::new(), ops: std::mem::take(&mut *world.ops.lock().unwrap()), watches }
}

/// The changes of our objects in a log, read by the second reader.
fn witness(bytes: &[u8]) -> Vec<Entry> {
    let (header, groups) = format::read_log(bytes);
    assert_eq!(header.base, 0, "the log has everything");
    let ours = |record: &format::Record| record.resource == "core/configmaps" && record.name.starts_with('m');
    let entry = |record: format::Record| {
        let value: Value = serde_json::from_slice(&record.value).unwrap();
        let state = (record.flags & 1 == 0).then(|| Object {
            token: value["data"]["token"].as_str().unwrap_or_default().into(),
            picked: !value["metadata"]["labels"]["pick"].is_null(),
            revision: record.revision,
        });
        let uid = value["metadata"]["uid"].as_str().unwrap_or_default().into();
        Entry { revision: record.revision, name: record.name, uid, state }
    };
    groups.into_iter().flatten().filter(ours).map(entry).collect()
}

fn summary(history: &History) -> String {
    let count = |is: &dyn Fn(&Op) -> bool| history.ops.iter().filter(|op| is(op)).count();
    let of = |wanted: &dyn Fn(&Outcome) -> bool| {
        count(&|op| matches!(&op.what, What::Write { outcome, .. } if wanted(outcome)))
    };
    let seen = |is: &dyn Fn(&Seen) -> bool| {
        history.watches.iter().flat_map(|watch| &watch.seen).filter(|seen| is(seen)).count()
    };
    format!(
        "{} acknowledged, {} refused, {} unknown, {} reads, {} events, {} watches resumed, {} in the log",
        of(&|outcome| matches!(outcome, Outcome::Acknowledged(_) | Outcome::Deleted(_))),
        of(&|outcome| *outcome == Outcome::Refused),
        of(&|outcome| *outcome == Outcome::Unknown),
        count(&|op| !matches!(op.what, What::Write { .. })),
        seen(&|seen| matches!(seen, Seen::Event { .. })),
        seen(&|seen| matches!(seen, Seen::Resumed)),
        history.log.len(),
    )
}

/// No snapshot: the log is the witness.
fn limits() -> Limits {
    Limits { log_bytes_open_max: u64::MAX, log_bytes_max: u64::MAX, reserve_bytes: 4096, ..Limits::default() }
}

async fn on(disk: &SimDisk, key: &SealKey) -> ApiServer {
    let config = Config {
        storage: Storage::On(Arc::new(disk.clone())),
        keys: Some(KeyPlace::Given(vec![key.clone()])),
        limits: limits(),
        controllers: false,
        ..Config::default()
    };
    let mut tried = 0;
    loop {
        match ApiServer::open(config.clone()).await {
            Ok(server) => return server,
            // A fault that was meant for a call of the last server.
            Err(_) if disk.struck().is_some() && tried < 3 => tried += 1,
            Err(error) => panic!("{}", super::crash::chain(&error)),
        }
    }
}

/// In process: faults of the disk and power losses between writes, from a seed.
async fn in_process(seed: u64, ends: usize, n_last: u64) -> History {
    let key = SealKey::generate();
    let disk: Arc<Mutex<SimDisk>> = Arc::default();
    let world = World::new(seed);
    let current = || disk.lock().unwrap().clone();
    let mut server = Some(on(&current(), &key).await);
    let connect = |server: &ApiServer| {
        world.client.send_replace(Some(server.client(User::admin("test"))));
    };
    connect(server.as_ref().unwrap());
    let destroy = async {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..ends {
            let goal = world.n_writes.load(Ordering::SeqCst) + random.u64(10..60);
            let now = current();
            match random.u8(..4) {
                0 => now.set_space(now.used() + random.usize(..20_000)),
                1 => now.fail_at(now.n_calls() + random.usize(1..30), Fault::Error),
                2 => now.fail_at(now.n_calls() + random.usize(1..30), Fault::Half(random.usize(..5))),
                _ => {}
            }
            world.wait_for_writes(goal).await;
            world.client.send_replace(None);
            let old = server.take().expect("it runs");
            if random.u8(..3) > 0 {
                *disk.lock().unwrap() = SimDisk::of(&now.power_off(random.u64(..)));
                // Its watches end, its last calls fail.
                old.shutdown().await.unwrap();
            } else {
                now.set_space(usize::MAX);
                // What has not failed by now does not: nobody would start the server again after the last end.
                now.fail_at(usize::MAX, Fault::Error);
                old.shutdown().await.unwrap();
            }
            server = Some(on(&current(), &key).await);
            connect(server.as_ref().unwrap());
        }
        world.wait_for_writes(world.n_writes.load(Ordering::SeqCst) + n_last).await;
    };
    let mut history = run(&world, destroy).await;
    world.client.send_replace(None);
    server.take().expect("it runs").shutdown().await.unwrap();
    history.log = witness(&current().live()["log"]);
    history
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

#[test]
fn clients_of_a_server_whose_disk_fails_see_one_history() {
    let (first, runs) = (number("DODAI_LINEAR_SEED", 1), number("DODAI_LINEAR_RUNS", 2));
    for seed in first..first + runs {
        let history = runtime().block_on(in_process(seed, 12, 50));
        println!("seed {seed}: {}", summary(&history));
        if let Err((rule, what)) = history.check() {
            panic!("seed {seed}: {rule:?}: {what}");
        }
    }
}

#[test]
fn bookmarks_of_long_watches_are_true() {
    // Hours of a clock that goes on when nobody has anything to do.
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (key, disk) = (SealKey::generate(), SimDisk::default());
    let world = World::with_rest(5, Duration::from_secs(60));
    let mut history = clock.block_on(async {
        let server = on(&disk, &key).await;
        world.client.send_replace(Some(server.client(User::admin("test"))));
        let destroy = async {
            while world.n_writes.load(Ordering::SeqCst) < 200 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let history = run(&world, destroy).await;
        server.shutdown().await.unwrap();
        history
    });
    history.log = witness(&disk.live()["log"]);
    let seen = history.watches.iter().flat_map(|watch| &watch.seen);
    let n_bookmarks = seen.filter(|seen| matches!(seen, Seen::Bookmark(_))).count();
    println!("{n_bookmarks} bookmarks: {}", summary(&history));
    assert!(n_bookmarks > 50, "{n_bookmarks}");
    if let Err((rule, what)) = history.check() {
        panic!("{rule:?}: {what}");
    }
}

#[test]
fn the_checkers_reject_doctored_histories() {
    let history = runtime().block_on(in_process(7, 1, 600));
    doctor(&history);
}

/// The server as a process of its own.
struct Server {
    child: Child,
}

impl Server {
    fn start(folder: &Path) -> (Server, kube::Client) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "it::linearizable::child_serves_until_it_is_killed", "--nocapture"])
            .env(CHILD, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut server = Server { child: child.unwrap() };
        let mut lines = BufReader::new(server.child.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended early");
            if let ["listening", address] = line.split_whitespace().collect::<Vec<_>>()[..] {
                return (server, client(address));
            }
        }
    }
}

impl Drop for Server {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client over plain HTTP.
fn client(address: &str) -> kube::Client {
    let address = address.to_owned();
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<kube::client::Body>();
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("http://{address}{path}").parse().expect("a path is part of a URI");
        http.request(request)
    });
    kube::Client::new(service, "default")
}

/// Not a test by itself: the process that the test below kills.
#[test]
fn child_serves_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    runtime().block_on(async {
        let folder = Path::new(&folder);
        let config = Config {
            storage: Storage::Disk(folder.join("state")),
            keys: Some(KeyPlace::Folder(folder.join("keys"))),
            limits: limits(),
            controllers: false,
            ..Config::default()
        };
        let server = ApiServer::open(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\nlistening {}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = hyper_util::service::TowerToHyperService::new(server.service(User::admin("test")));
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
        }
    });
}

#[test]
fn clients_of_a_server_that_is_killed_see_one_history() {
    let rounds = number("DODAI_KILL_ROUNDS", 20);
    let started = std::time::Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(3);
    let last = Mutex::new(None);
    let destroy = async {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..=rounds {
            let (server, client) = Server::start(folder.path());
            let writes = world.n_writes.load(Ordering::SeqCst);
            world.client.send_replace(Some(client));
            world.wait_for_writes(writes + 1).await;
            if round == rounds {
                // This one stays for the end.
                *last.lock().unwrap() = Some(server);
                return;
            }
            tokio::time::sleep(Duration::from_millis(random.u64(1..=200))).await;
            drop(server);
            world.client.send_replace(None);
        }
    };
    let mut history = runtime().block_on(run(&world, destroy));
    drop(last.lock().unwrap().take());
    // The next start cuts what was not finished; then the log is whole.
    let keys = KeyPlace::Folder(folder.path().join("keys"));
    let disk = dodai_apiserver::store::disk::FileDisk::new(folder.path().join("state")).unwrap();
    let setup =
        dodai_apiserver::store::Setup { limits: limits(), ..dodai_apiserver::store::Setup::new(keys) };
    drop(Store::open_in_steps(Arc::new(disk), &setup).unwrap());
    history.log = witness(&std::fs::read(folder.path().join("state/log")).unwrap());
    println!("{rounds} kills: {}, {:?}", summary(&history), started.elapsed());
    if let Err((rule, what)) = history.check() {
        panic!("{rule:?}: {what}");
    }
}
