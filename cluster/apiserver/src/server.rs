//! The server as a whole: store, registry, tasks, and the doors to it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::allocate::Reserved;
use crate::clock::Clock;
use crate::crd;
use crate::error::Error;
use crate::kinds::{Kind, Registry};
use crate::reply::Body;
use crate::store::disk::{Disk, FileDisk};
use crate::store::seal::{self, KeyPlace};
use crate::store::{Change, Key, Limits, Setup, Store};
use crate::user::User;
use crate::write::{Failure, now};

/// The kubelet of the node: answers `/containerLogs/...`, `/exec/...` and such.
pub type KubeletService =
    tower::util::BoxCloneSyncService<http::Request<Body>, http::Response<Body>, std::convert::Infallible>;

/// Where state is kept.
#[derive(Clone, Debug, Default)]
pub enum Storage {
    /// Nowhere: for tests and dry runs.
    #[default]
    Memory,
    /// In a folder, durable. Values of Secrets are sealed in it, see `Config::keys`.
    Disk(PathBuf),
    /// On a disk of the caller's own: how tests simulate one. The key that signs tokens is kept in memory.
    On(Arc<dyn Disk>),
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub storage: Storage,
    /// Where the keys are that seal Secrets on the disk: without it `dodai/store-keys` in the user's configuration folder
    /// (`XDG_CONFIG_HOME` or `~/.config`). A server in memory needs none.
    pub keys: Option<KeyPlace>,
    /// Sizes and times of the store's log.
    pub limits: Limits,
    /// Run garbage collection, namespace deletion and the other tasks that an API server needs to be usable.
    pub controllers: bool,
    /// Of these, garbage collection: dependents go with their owners.
    pub garbage_collection: bool,
    /// Of these, the deletion of what is in a namespace that is deleted. Off: it stays `Terminating`.
    pub namespace_deletion: bool,
    /// Give Pods a volume with a token of their service account, and refuse Pods whose account does not exist. Off
    /// until the node can fill such volumes.
    pub service_account_tokens: bool,
    /// How long events are kept.
    pub events_ttl: Duration,
    /// Static bearer tokens.
    pub tokens: HashMap<String, User>,
    /// Whether requests without credentials are let in as `system:anonymous`.
    pub anonymous: bool,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            storage: Storage::Memory,
            keys: None,
            limits: Limits::default(),
            controllers: true,
            garbage_collection: true,
            namespace_deletion: true,
            service_account_tokens: false,
            events_ttl: Duration::from_secs(3600),
            tokens: HashMap::new(),
            anonymous: true,
            clock: Clock::system(),
        }
    }
}

/// Namespaces of every server.
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Priority classes of every server: name, value, description.
const PRIORITY_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// How long a folder may look used before it counts as used.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// What all requests share.
pub(crate) struct Server {
    pub store: Store,
    pub config: Config,
    registry: RwLock<Arc<Registry>>,
    /// By name; held while the registry is made anew.
    definitions: Mutex<HashMap<String, Definition>>,
    /// Only one CRD is worked on at a time.
    crd_lock: tokio::sync::Mutex<()>,
    pub reserved: Arc<Reserved>,
    pub kubelet: RwLock<Option<KubeletService>>,
    pub components: RwLock<Option<Arc<crate::components::Source>>>,
    pub metrics: crate::metrics::Metrics,
    pub further_metrics: RwLock<Option<Arc<crate::metrics::Source>>>,
    pub closing: tokio::sync::watch::Sender<bool>,
    pub namespaces: Arc<str>,
    pub services: Arc<str>,
    api_versions: Mutex<HashMap<String, &'static str>>,
    pub open_api: crate::openapi::Cache,
    pub rbac: crate::rbac::Rbac,
    pub policies: crate::admission::policy::Policies,
    pub mutating_policies: crate::admission::policy::mutate::MutatingPolicies,
    pub webhooks: crate::admission::webhook::Webhooks,
    pub meter: crate::meter::Meter,
    pub issuer: crate::token::Issuer,
    /// The CA of the HTTPS listener, PEM.
    pub ca: tokio::sync::watch::Sender<Option<Arc<str>>>,
    /// Held until the store is closed.
    lock: Mutex<Option<std::fs::File>>,
}

/// What is served of a stored definition.
struct Definition {
    revision: u64,
    kinds: Vec<Arc<Kind>>,
    /// The parts that tell whether a name is taken.
    names: Value,
}

impl Definition {
    fn read(revision: u64, crd: &Value) -> Definition {
        let established = crd::condition(crd, "Established").is_some_and(|found| found["status"] == "True");
        let kinds = if established { crd::kinds(crd) } else { Vec::new() };
        let names = json!({
            "metadata": { "name": crd["metadata"]["name"] },
            "spec": { "group": crd["spec"]["group"] },
            "status": { "acceptedNames": crd["status"]["acceptedNames"] },
        });
        Definition { revision, kinds: kinds.into_iter().map(Arc::new).collect(), names }
    }
}

/// Keeps a definition until its objects are gone.
pub(crate) const CRD_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

static CRDS: OnceLock<Arc<str>> = OnceLock::new();

/// Storage name of the definitions.
pub(crate) fn crds() -> &'static Arc<str> {
    CRDS.get_or_init(|| "apiextensions.k8s.io/customresourcedefinitions".into())
}

impl Server {
    /// Opens the store and makes what every server has.
    pub(crate) async fn open(config: Config) -> Result<Arc<Server>, Error> {
        let (store, lock) = match &config.storage {
            Storage::Memory => (Store::memory(), None),
            Storage::Disk(path) => open_disk(path.clone(), setup(&config)?).await?,
            Storage::On(disk) => {
                let path = PathBuf::from("(a disk of the caller's own)");
                let store = Store::open(disk.clone(), &setup(&config)?);
                (store.map_err(|source| Error::Store { path, source })?, None)
            }
        };
        let folder = match &config.storage {
            Storage::Memory | Storage::On(_) => None,
            Storage::Disk(path) => Some(path.as_path()),
        };
        let issuer = crate::token::Issuer::open(folder)?;
        let server = Arc::new(Server {
            store,
            config,
            registry: RwLock::new(Arc::new(Registry::builtin())),
            definitions: Mutex::default(),
            crd_lock: tokio::sync::Mutex::new(()),
            reserved: Arc::default(),
            kubelet: RwLock::new(None),
            components: RwLock::new(None),
            metrics: Default::default(),
            further_metrics: RwLock::new(None),
            closing: tokio::sync::watch::Sender::new(false),
            namespaces: "core/namespaces".into(),
            services: "core/services".into(),
            api_versions: Mutex::default(),
            open_api: Default::default(),
            rbac: Default::default(),
            policies: Default::default(),
            mutating_policies: Default::default(),
            webhooks: Default::default(),
            meter: Default::default(),
            issuer,
            ca: tokio::sync::watch::Sender::new(None),
            lock: Mutex::new(lock),
        });
        let clock = server.config.clock.clone();
        clock.show(server.bootstrap()).await.map_err(Error::Bootstrap)?;
        server.rebuild_registry();
        Ok(server)
    }

    /// Writes what every server has and this one lacks, all in one group.
    async fn bootstrap(&self) -> Result<(), crate::status::ApiError> {
        let new = self.store.revision() == 0;
        let mut wanted = Vec::new();
        let meta = |name: &str| json!({ "name": name, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now() });
        for name in NAMESPACES {
            let mut object = json!({
                "metadata": meta(name), "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            });
            object["metadata"]["labels"] = json!({ "kubernetes.io/metadata.name": name });
            wanted.push((Key::new(&self.namespaces, "", name), object));
        }
        for (name, value, description) in PRIORITY_CLASSES {
            let mut object = json!({
                "metadata": meta(name), "value": value, "description": description,
                "preemptionPolicy": "PreemptLowerPriority",
            });
            object["metadata"]["generation"] = 1.into();
            wanted.push((Key::new(&"scheduling.k8s.io/priorityclasses".into(), "", name), object));
        }
        wanted.retain(|(key, _)| self.store.get_head(key).is_none());
        wanted.extend(crate::rbac::bootstrap::wanted(self));
        let writes = wanted.into_iter().map(|(key, object)| async move {
            let decide = |_: Option<&_>, _: &crate::store::View<'_>| {
                Ok::<_, crate::status::ApiError>(Change::Put(object))
            };
            self.store.write(&key, decide).await
        });
        futures::future::try_join_all(writes).await?;
        if new {
            self.store.forget();
        }
        Ok(())
    }

    /// Closes the store and gives the folder free.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        self.store.close().await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of a kind's apiVersion, which lives as long as the server.
    pub(crate) fn api_version_of(&self, kind: &Kind) -> &'static str {
        let mut known = self.api_versions.lock().unwrap_or_else(PoisonError::into_inner);
        let text = kind.api_version();
        if let Some(found) = known.get(&text) {
            return found;
        }
        let leaked: &'static str = Box::leak(text.clone().into_boxed_str());
        known.insert(text, leaked);
        leaked
    }

    /// Serves what the stored definitions say. What has not changed is kept as it is.
    pub(crate) fn rebuild_registry(&self) {
        let mut known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut registry = Registry::builtin();
        let mut now = HashMap::new();
        for object in self.store.list(crds(), "").objects {
            let kept = known.remove(&*object.name).filter(|kept| kept.revision == object.revision);
            let definition = kept.unwrap_or_else(|| Definition::read(object.revision, &object.value()));
            definition.kinds.iter().for_each(|kind| registry.add(kind.clone()));
            now.insert(object.name.to_string(), definition);
        }
        *known = now;
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.open_api.clear();
    }

    /// The groups and names of all definitions, as far as the names of one depend on them.
    fn names_of_definitions(&self) -> Vec<Value> {
        let known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|definition| definition.names.clone()).collect()
    }

    /// Brings the status of a definition up to date and serves it. Called before the answer to its write, so that a
    /// definition is servable when the client reads the answer.
    pub(crate) async fn sync_crd(&self, name: &str) {
        let _guard = self.crd_lock.lock().await;
        let key = Key::new(crds(), "", name);
        let registry = Registry::builtin();
        self.rebuild_registry();
        loop {
            let Some(seen) = self.store.get_head(&key) else { break };
            let others = self.names_of_definitions();
            let mut object = seen.value();
            let before = object.clone();
            update_crd_status(&mut object, &others, &registry);
            if object == before {
                break;
            }
            let decide =
                |current: Option<&Arc<crate::store::Object>>, _: &crate::store::View<'_>| match current {
                    Some(current) if current.revision == seen.revision => Ok(Change::Put(object)),
                    _ => Err(Failure::Retry),
                };
            match self.store.write(&key, decide).await {
                Err(Failure::Retry) => continue,
                Err(Failure::Api(error)) => {
                    tracing::warn!(crd = name, %error, "the status of a definition cannot be written");
                    break;
                }
                Ok(_) => break,
            }
        }
        self.rebuild_registry();
    }

    /// What follows a deletion at once.
    pub(crate) fn after_delete(&self, kind: &Kind) {
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.rebuild_registry();
        }
    }
}

impl Drop for Server {
    /// A server that is dropped without `shutdown` leaves no thread behind.
    fn drop(&mut self) {
        self.store.begin_close();
    }
}

fn update_crd_status(object: &mut Value, others: &[Value], registry: &Registry) {
    let names = crd::accept_names(object, others, registry);
    let time = now();
    object["status"]["acceptedNames"] = names.accepted;
    let (status, reason, message) = match &names.conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    crd::set_condition(object, "NamesAccepted", status, reason, &message, &time);
    let established = crd::condition(object, "Established").is_some_and(|found| found["status"] == "True");
    if names.conflict.is_none() {
        crd::set_condition(
            object,
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
            &time,
        );
    } else if !established {
        crd::set_condition(
            object,
            "Established",
            "False",
            "NotAccepted",
            "not all names are accepted",
            &time,
        );
    }
}

/// How the store is opened.
fn setup(config: &Config) -> Result<Setup, Error> {
    let keys = match &config.keys {
        Some(place) => place.clone(),
        None => seal::user_folder().map(KeyPlace::Folder).map_err(Error::Key)?,
    };
    Ok(Setup { limits: config.limits.clone(), ..Setup::new(keys) })
}

async fn open_disk(path: PathBuf, setup: Setup) -> Result<(Store, Option<std::fs::File>), Error> {
    let opened = tokio::task::spawn_blocking(move || {
        let folder = |source| Error::Folder { path: path.clone(), source };
        let disk = FileDisk::new(path.clone()).map_err(folder)?;
        let lock = std::fs::File::create(path.join("lock")).map_err(folder)?;
        let deadline = std::time::Instant::now() + LOCK_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if std::time::Instant::now() < deadline => {
                    // A process that was just started holds copies of our files until it runs its own program.
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(Error::InUse { path }),
                Err(std::fs::TryLockError::Error(source)) => return Err(Error::Folder { path, source }),
            }
        }
        let setup = Setup { folder: path.clone(), ..setup };
        let store = Store::open(Arc::new(disk), &setup).map_err(|source| Error::Store { path, source })?;
        Ok((store, Some(lock)))
    });
    match opened.await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
