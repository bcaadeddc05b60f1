//! The loop that all controllers share: caches wake objects up, each due object is observed, planned and executed.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::cache::{AnyObject, Caches, Key, Kind};
use crate::clock::Clock;
use crate::error::{Error, chain};
use crate::execute::{self, execute};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::outside::Outside;
use crate::plan::{Object, Plan, controller_of};
use crate::queue::Queue;
use crate::supervise::panic_text;
use crate::view::View;

/// Objects of one controller that are worked on at the same time.
pub const CONCURRENT_MAX: usize = 8;
/// Passes in a row that may panic before the object is set aside until it changes.
pub const PANICS_MAX: u32 = 3;
/// Wake-ups that may be queued between a cache and the loop; a cache that is faster waits.
const WAKEUPS_MAX: usize = 1024;

/// What controllers of a process share.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// One watch per kind.
    pub caches: Caches,
    /// The time.
    pub clock: Clock,
    /// The counters.
    pub metrics: Metrics,
    /// What `observe` may read besides objects.
    pub outside: Outside,
    /// Which controllers run, and which objects they have set aside.
    pub health: Health,
}

impl Context {
    /// A context with caches of its own.
    pub fn new(client: Client, clock: Clock) -> Context {
        let caches = Caches::new(client.clone());
        let (metrics, outside, health) = Default::default();
        Context { caches, client, clock, metrics, outside, health }
    }

    /// The reader that `observe` gets.
    pub fn view(&self) -> View {
        View::of_caches(self.caches.clone(), self.clock.clone()).with_outside(self.outside.clone())
    }
}

/// A controller of objects of one kind.
pub trait Controller: Send + Sync + 'static {
    /// The kind whose objects are brought to what their spec asks for.
    type Kind: Kind;
    /// Everything that `plan` may look at.
    type World: Send;

    /// Short name, a label of metrics and logs.
    const NAME: &'static str;
    /// Field manager of everything that is written, `dodai-<engine>`.
    const MANAGER: &'static str;

    /// Names the other kinds that are read, and which objects a change of them wakes up.
    fn watches(watches: &mut Watches<'_, Self::Kind>);

    /// Reads what `plan` needs.
    fn observe(view: &View, object: &Arc<Self::Kind>) -> Self::World;

    /// Decides. Looks at the whole world, never at what changed.
    fn plan(world: &Self::World) -> Plan;
}

/// One unit that can be switched off: a name and its controllers.
pub struct Engine {
    /// The engine's name, as `dodai.yaml` and the crate have it.
    pub name: &'static str,
    /// The loops to run, each named.
    pub controllers: Vec<(&'static str, RunFn)>,
}

/// Runs one controller until told to stop.
pub type RunFn = fn(Context, watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

impl Engine {
    /// An engine without controllers yet.
    pub fn new(name: &'static str) -> Engine {
        Engine { name, controllers: Vec::new() }
    }

    /// Adds a controller.
    pub fn with<C: Controller>(mut self) -> Engine {
        self.controllers.push((C::NAME, run::<C>));
        self
    }

    /// Runs the controllers side by side until what this gives is dropped. Nothing starts one anew that ends: for
    /// simulations, which do that themselves.
    pub fn run_until_dropped(self, context: &Context) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (stop, stopped) = watch::channel(false);
        let loops: Vec<_> =
            self.controllers.iter().map(|(_, run)| run(context.clone(), stopped.clone())).collect();
        Box::pin(async move {
            futures::future::join_all(loops).await;
            drop(stop);
        })
    }
}

/// Collects what wakes a controller up.
pub struct Watches<'a, K> {
    caches: &'a Caches,
    wake: mpsc::Sender<Key>,
    view: View,
    synced: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    tasks: &'a mut tokio::task::JoinSet<()>,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Watches<'_, K> {
    /// Objects of `C` that a `K` controls wake their owner.
    pub fn owned<C: Kind>(&mut self) {
        self.mapped::<C>(|object, _| {
            let owner = controller_of(object).filter(|owner| owner.kind == K::kind(&()));
            owner
                .map(|owner| Key::new(object.meta().namespace.clone().unwrap_or_default(), &owner.name))
                .into_iter()
                .collect()
        });
    }

    /// Objects of `C` wake the `K` of their namespace that this label names.
    pub fn labelled<C: Kind>(&mut self, label: &'static str) {
        self.mapped::<C>(move |object, _| {
            let name = object.meta().labels.as_ref().and_then(|labels| labels.get(label));
            let namespace = object.meta().namespace.clone().unwrap_or_default();
            name.map(|name| Key::new(namespace, name)).into_iter().collect()
        });
    }

    /// Objects of `C` are read, and wake nobody.
    pub fn read<C: Kind>(&mut self) {
        let cache = self.caches.of::<C>();
        self.synced.push(Box::pin(async move { cache.synced().await }));
    }

    /// Objects of `C` wake the keys that `map` gives.
    pub fn mapped<C: Kind>(&mut self, map: impl Fn(&C, &View) -> Vec<Key> + Send + Sync + 'static) {
        let cache = self.caches.of::<C>();
        let view = self.view.clone();
        let for_sync = cache.clone();
        self.synced.push(Box::pin(async move { for_sync.synced().await }));
        let changes = cache.subscribe();
        let keys = move |object: &AnyObject| {
            object.downcast_ref::<C>().map(|object| map(object, &view)).unwrap_or_default()
        };
        let all = move || cache.list(None).into_iter().map(|object| object as AnyObject).collect();
        self.tasks.spawn(wake(changes, Box::new(keys), Box::new(all), self.wake.clone()));
    }
}

/// The keys that an object wakes.
type KeysOf = Box<dyn Fn(&AnyObject) -> Vec<Key> + Send + Sync>;
/// All objects of a kind.
type AllObjects = Box<dyn Fn() -> Vec<AnyObject> + Send + Sync>;

/// Sends the keys that changed objects wake.
async fn wake(
    mut changes: broadcast::Receiver<AnyObject>,
    keys: KeysOf,
    all: AllObjects,
    wake: mpsc::Sender<Key>,
) {
    loop {
        let objects = match changes.recv().await {
            Ok(object) => vec![object],
            // Too far behind to know what changed: everything may have.
            Err(broadcast::error::RecvError::Lagged(_)) => all(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for key in objects.iter().flat_map(&keys) {
            if wake.send(key).await.is_err() {
                return;
            }
        }
    }
}

/// What the loop needs of a controller, without its types: the loop is the same code for all, and compiled once.
trait Erased: Send + Sync {
    fn name(&self) -> &'static str;
    fn manager(&self) -> &'static str;
    /// All objects of the controller's kind.
    fn keys(&self, caches: &Caches) -> Vec<Key>;
    /// Observes and plans for an object that is there.
    fn decide(&self, context: &Context, key: &Key) -> Option<(Object, Result<Plan, Error>)>;
}

struct Of<C>(std::marker::PhantomData<C>);

impl<C: Controller> Erased for Of<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn manager(&self) -> &'static str {
        C::MANAGER
    }

    fn keys(&self, caches: &Caches) -> Vec<Key> {
        caches.of::<C::Kind>().list(None).iter().map(|object| Key::of(object.as_ref())).collect()
    }

    fn decide(&self, context: &Context, key: &Key) -> Option<(Object, Result<Plan, Error>)> {
        let object = context.caches.of::<C::Kind>().get(key)?;
        let view = context.view();
        let decided = catch_unwind(AssertUnwindSafe(|| C::plan(&C::observe(&view, &object))));
        let plan = decided.map_err(|panic| Error::Panicked(panic_text(panic.as_ref())));
        Some((Object::new(object.as_ref()), plan))
    }
}

/// Runs a controller until `stop` says `true`. Passes that have begun are ended, not cut off.
pub fn run<C: Controller>(
    context: Context,
    stop: watch::Receiver<bool>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (wake, woken) = mpsc::channel(WAKEUPS_MAX);
    let mut tasks = tokio::task::JoinSet::new();
    let mut watches = Watches::<C::Kind> {
        caches: &context.caches,
        wake,
        view: context.view(),
        synced: Vec::new(),
        tasks: &mut tasks,
        kind: std::marker::PhantomData,
    };
    watches.mapped::<C::Kind>(|object, _| vec![Key::of(object)]);
    C::watches(&mut watches);
    let synced = std::mem::take(&mut watches.synced);
    drop(watches);
    let controller = Arc::new(Of::<C>(std::marker::PhantomData));
    Box::pin(drive(controller, context, tasks, synced, woken, stop))
}

async fn drive(
    controller: Arc<dyn Erased>,
    context: Context,
    // Dropped at the end, which ends the tasks.
    mut tasks: tokio::task::JoinSet<()>,
    synced: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    mut woken: mpsc::Receiver<Key>,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return,
        _ = futures::future::join_all(synced) => {}
    }
    let mut queue = Queue::default();
    for key in controller.keys(&context.caches) {
        queue.add(key, Instant::now());
    }
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < CONCURRENT_MAX
            && let Some(key) = queue.take(Instant::now())
        {
            running.push(pass(controller.clone(), context.clone(), key));
        }
        let due = queue.next().filter(|_| running.len() < CONCURRENT_MAX);
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some((key, outcome)) = running.next(), if !running.is_empty() => {
                settle(controller.name(), &context.health, &mut queue, key, outcome);
            }
            Some(key) = woken.recv() => queue.add(key, Instant::now()),
            // A mapping that panicked would leave the controller deaf: better to begin anew.
            Some(Err(ended)) = tasks.join_next() => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
            () = due => {}
        }
    }
    while running.next().await.is_some() {}
}

/// What came of a pass.
#[derive(Default)]
struct Passed {
    /// Nothing: there is no more to do until something changes.
    next: Option<Duration>,
    /// Actions that write, and the status if it was written.
    writes: u64,
}

/// One pass over one object.
async fn pass(controller: Arc<dyn Erased>, context: Context, key: Key) -> (Key, Result<Passed, Error>) {
    let started = Instant::now();
    let Some((object, plan)) = controller.decide(&context, &key) else { return (key, Ok(Passed::default())) };
    let result = match plan {
        Err(error) => {
            execute::tell_panic(&context, controller.manager(), &object, &error).await;
            Err(error)
        }
        Ok(plan) => {
            let writes = execute(&context, controller.manager(), &object, &plan).await;
            writes.map(|writes| Passed { next: plan.next, writes })
        }
    };
    context.metrics.update(controller.name(), started.elapsed(), |counts| match &result {
        Ok(Passed { next, writes }) => {
            counts.actions += writes;
            if next.is_some() { counts.requeued_after += 1 } else { counts.succeeded += 1 }
        }
        Err(error) => {
            counts.errors += 1;
            counts.panics += u64::from(matches!(error, Error::Panicked(_)));
        }
    });
    (key, result)
}

fn settle(
    controller: &'static str,
    health: &Health,
    queue: &mut Queue,
    key: Key,
    outcome: Result<Passed, Error>,
) {
    let now = Instant::now();
    if !matches!(outcome, Err(Error::Panicked(_))) {
        health.taken_up(controller, &key);
    }
    match outcome {
        Ok(Passed { next, writes }) => {
            queue.succeeded(&key);
            if writes > 0 && queue.wrote(&key, now) {
                tracing::warn!(controller, object = %key, "slowed down: it is written again and again, perhaps against somebody else");
            }
            queue.done(key, next.map(|next| now + next));
        }
        Err(error) if error.is_conflict() => {
            let wait = queue.conflicted(&key);
            queue.done(key, Some(now + wait));
        }
        Err(error) => {
            let wait = queue.failed(&key);
            let panics = matches!(error, Error::Panicked(_));
            if panics && queue.failures(&key) >= PANICS_MAX {
                tracing::error!(controller, object = %key, error = %chain(&error), "object set aside until it changes");
                health.put_aside(controller, &key, &chain(&error));
                queue.done(key, None);
            } else {
                tracing::warn!(controller, object = %key, error = %chain(&error), ?wait, "pass failed");
                queue.done(key, Some(now + wait));
            }
        }
    }
}
