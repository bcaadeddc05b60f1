//! [`TestEnv`]: a server for the tests of an operator, in the test's own process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{CustomResourceExt, ResourceExt};
use serde_json::{Value, json};

use super::fault::layered_service;
use super::faults::Faults;
use super::manifests;
use super::watching::{Unmet, Writes};
use crate::https::Serving;
use crate::{ApiServer, Clock, Config, Pki, User};

/// How long [`TestEnv::await_that`] waits.
pub const AWAIT_MAX: Duration = Duration::from_secs(60);

/// Why an environment, or something in it, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The server did not open.
    #[error("the server does not start")]
    Server(#[from] crate::Error),
    /// The server refused something.
    #[error("cannot {what}")]
    Refused {
        /// What was tried.
        what: String,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A file that should hold manifests.
    #[error("`{}`: {what}", path.display())]
    Manifest {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A folder or socket of this machine.
    #[error("cannot {what}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// How an environment is set up; see [`TestEnv::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    config: Config,
    clock: Time,
    definitions: Vec<CustomResourceDefinition>,
    paths: Vec<PathBuf>,
    namespaces: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Time {
    Machine,
    FollowsTokio(Timestamp),
    Stands(Timestamp),
}

impl Builder {
    /// The definition of a type that derives `CustomResource`.
    pub fn crd<K: CustomResourceExt>(mut self) -> Builder {
        self.definitions.push(K::crd());
        self
    }

    /// Definitions from a file, or from all `.yaml`, `.yml` and `.json` files below a folder. What is no
    /// CustomResourceDefinition is left out.
    pub fn crds_from(mut self, path: impl AsRef<Path>) -> Builder {
        self.paths.push(path.as_ref().to_owned());
        self
    }

    /// A namespace that is there from the start, besides `default`.
    pub fn namespace(mut self, name: &str) -> Builder {
        self.namespaces.push(name.to_owned());
        self
    }

    /// Whether dependents go with their owners. On if nothing is said.
    pub fn garbage_collection(mut self, on: bool) -> Builder {
        self.config.garbage_collection = on;
        self
    }

    /// Whether a deleted namespace goes with all that is in it. On if nothing is said; off, it stays `Terminating`, as under
    /// a bare kube-apiserver.
    pub fn namespace_lifecycle(mut self, on: bool) -> Builder {
        self.config.namespace_deletion = on;
        self
    }

    /// The server's clock starts at `start` and follows tokio's, which the test has paused
    /// (`#[tokio::test(start_paused = true)]`): waiting takes no time, and [`TestEnv::advance`] moves both.
    ///
    /// # Panics
    /// If `start` is no time such as `2026-01-01T00:00:00Z`.
    pub fn paused_clock(mut self, start: &str) -> Builder {
        self.clock = Time::FollowsTokio(time(start));
        self
    }

    /// The server's clock stands at `start` until [`TestEnv::advance`] moves it; tokio's goes on as it is.
    ///
    /// # Panics
    /// If `start` is no time such as `2026-01-01T00:00:00Z`.
    pub fn moved_clock(mut self, start: &str) -> Builder {
        self.clock = Time::Stands(time(start));
        self
    }

    /// Any other setting of the server.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Builder {
        change(&mut self.config);
        self
    }

    /// Starts the server and makes the definitions and namespaces.
    ///
    /// # Errors
    /// When a file cannot be read or the server refuses a definition.
    pub async fn start(mut self) -> Result<TestEnv, EnvError> {
        self.config.clock = match self.clock {
            Time::Machine => Clock::system(),
            Time::FollowsTokio(start) => Clock::following_tokio(start),
            Time::Stands(start) => Clock::standing(start),
        };
        let clock = self.config.clock.clone();
        let server = ApiServer::open(self.config).await?;
        let env = TestEnv { server, clock, time: self.clock, https: tokio::sync::Mutex::new(None) };
        let mut definitions = self.definitions;
        for path in &self.paths {
            definitions.extend(manifests::definitions(path)?);
        }
        let api: Api<CustomResourceDefinition> = Api::all(env.client());
        for definition in definitions {
            let made = api.create(&PostParams::default(), &definition).await;
            made.map_err(|source| refused(format!("define `{}`", definition.name_any()), source))?;
        }
        for namespace in &self.namespaces {
            env.create_namespace(namespace).await?;
        }
        Ok(env)
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("`{text}` is no time such as 2026-01-01T00:00:00Z: {error}"))
}

fn refused(what: String, source: kube::Error) -> EnvError {
    EnvError::Refused { what, source: Box::new(source) }
}

/// A Kubernetes API server in this process, for the tests of an operator.
///
/// ```
/// use dodai_apiserver::testing::TestEnv;
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::api::{Api, PostParams};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let env = TestEnv::builder().paused_clock("2026-01-01T00:00:00Z").start().await?;
/// let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
/// let map = serde_json::from_value(serde_json::json!({ "metadata": { "name": "a" } }))?;
/// let made = maps.create(&PostParams::default(), &map).await?;
/// assert_eq!(made.metadata.creation_timestamp.unwrap().0.to_string(), "2026-01-01T00:00:00Z");
///
/// // Bob may do nothing until somebody lets him.
/// let bob = env.client_as("bob", &[]);
/// let maps: Api<ConfigMap> = Api::default_namespaced(bob);
/// assert!(maps.get("a").await.is_err());
/// env.allow("bob", &["get"], &["configmaps"], "default").await?;
/// assert!(maps.get("a").await.is_ok());
/// # Ok(()) }
/// ```
pub struct TestEnv {
    server: ApiServer,
    clock: Clock,
    time: Time,
    https: tokio::sync::Mutex<Option<Https>>,
}

struct Https {
    serving: Serving,
    pki: Pki,
    folder: PathBuf,
}

impl std::fmt::Debug for TestEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestEnv at revision {}", self.server.revision())
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        // What is left in the machine's folder for such things does no harm.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl TestEnv {
    /// An environment to be set up.
    pub fn builder() -> Builder {
        Builder {
            config: Config::default(),
            clock: Time::Machine,
            definitions: Vec::new(),
            paths: Vec::new(),
            namespaces: Vec::new(),
        }
    }

    /// An environment with nothing special.
    ///
    /// # Errors
    /// When the server does not start.
    pub async fn start() -> Result<TestEnv, EnvError> {
        TestEnv::builder().start().await
    }

    /// The server.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// The server's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A client that may do everything.
    pub fn client(&self) -> kube::Client {
        self.server.client(User::admin("admin"))
    }

    /// A client of a user who may do what RBAC gives to the name and the groups.
    pub fn client_as(&self, name: &str, groups: &[&str]) -> kube::Client {
        self.server.client(user(name, groups))
    }

    /// A client of a service account.
    pub fn client_as_service_account(&self, namespace: &str, name: &str) -> kube::Client {
        self.server.client(User::service_account(namespace, name))
    }

    /// A client that may do everything, and whose requests fail as `faults` say.
    pub fn client_with(&self, faults: &Faults) -> kube::Client {
        let user = User::admin("admin").with_agent("dodai");
        layered_service(self.server.service(user), "default", 0, faults.director())
    }

    /// Lets a user do these verbs with these resources (`configmaps`, `deployments.apps`, `deployments.apps/status`) in a
    /// namespace.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn allow(
        &self,
        user: &str,
        verbs: &[&str],
        resources: &[&str],
        namespace: &str,
    ) -> Result<(), EnvError> {
        let rules: Vec<Value> = resources
            .iter()
            .map(|resource| {
                let (whole, part) = resource.split_once('/').unwrap_or((resource, ""));
                let (plural, group) = whole.split_once('.').unwrap_or((whole, ""));
                let plural = if part.is_empty() { plural.to_owned() } else { format!("{plural}/{part}") };
                json!({ "apiGroups": [group], "resources": [plural], "verbs": verbs })
            })
            .collect();
        static ROLES: AtomicU64 = AtomicU64::new(0);
        let meta = json!({ "name": format!("test-{}", ROLES.fetch_add(1, Ordering::Relaxed)), "namespace": namespace });
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": meta["name"] },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        });
        for object in [role, binding] {
            self.apply_object(object).await?;
        }
        Ok(())
    }

    /// Makes a namespace and gives a client for it that may do everything.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_namespace(&self, name: &str) -> Result<kube::Client, EnvError> {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client());
        let object = serde_json::from_value(json!({ "metadata": { "name": name } }))
            .expect("a name is enough for a namespace");
        let made = namespaces.create(&PostParams::default(), &object).await;
        made.map_err(|source| refused(format!("create namespace `{name}`"), source))?;
        let service = self.server.service(User::admin("admin").with_agent("dodai"));
        Ok(kube::Client::new(service, name))
    }

    /// Applies every document of a YAML text, as `kubectl apply --server-side` does. Objects without a namespace go to
    /// `default`.
    ///
    /// # Errors
    /// When the text cannot be read or the server refuses an object.
    pub async fn apply(&self, yaml: &str) -> Result<(), EnvError> {
        for object in manifests::documents(Path::new("the text"), yaml)? {
            self.apply_object(object).await?;
        }
        Ok(())
    }

    async fn apply_object(&self, object: Value) -> Result<(), EnvError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let api_version = text(&object["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let what = || format!("apply {kind} `{name}`");
        let pinned = GroupVersionKind::gvk(group, version, &kind);
        let found = kube::discovery::oneshot::pinned_kind(&self.client(), &pinned).await;
        let (resource, capabilities) = found.map_err(|source| refused(what(), source))?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let api: Api<DynamicObject> = match capabilities.scope {
            kube::discovery::Scope::Namespaced => Api::namespaced_with(self.client(), namespace, &resource),
            kube::discovery::Scope::Cluster => Api::all_with(self.client(), &resource),
        };
        let params = PatchParams::apply("test").force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|source| refused(what(), source))
    }

    /// Waits until `holds` says so, looking after every write.
    ///
    /// # Errors
    /// After [`AWAIT_MAX`]; the text says what was waited for and what was written last.
    ///
    /// ```
    /// # use dodai_apiserver::testing::TestEnv;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let env = TestEnv::start().await?;
    /// use k8s_openapi::api::core::v1::Namespace;
    /// let namespaces = kube::Api::<Namespace>::all(env.client());
    /// env.create_namespace("shop").await?;
    /// namespaces.delete("shop", &Default::default()).await?;
    /// env.await_that("the namespace has gone", || async {
    ///     namespaces.get_opt("shop").await.is_ok_and(|found| found.is_none())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    pub async fn await_that<F: Future<Output = bool>>(
        &self,
        what: &str,
        holds: impl FnMut() -> F,
    ) -> Result<(), Unmet> {
        super::watching::await_that(&self.server, what, AWAIT_MAX, holds).await
    }

    /// Records writes from now on, whoever makes them.
    pub fn record(&self) -> Writes {
        Writes::of(&self.server)
    }

    /// Waits, and wants that nothing is written in this time.
    ///
    /// # Errors
    /// When something is; the text says what, and by whom.
    pub async fn nothing_is_written_for(&self, time: Duration) -> Result<(), Unmet> {
        let mut writes = self.record();
        tokio::time::sleep(time).await;
        match writes.take() {
            written if written.is_empty() => Ok(()),
            written => Err(Unmet::written(time, &written)),
        }
    }

    /// Moves the clock. A paused one takes tokio's along.
    ///
    /// # Panics
    /// If the environment has the machine's clock, or one that should follow tokio's while that is not paused.
    pub async fn advance(&self, by: Duration) {
        match self.time {
            Time::FollowsTokio(_) => tokio::time::advance(by).await,
            Time::Stands(_) => {
                self.clock.jump(SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX));
            }
            Time::Machine => {
                panic!("the machine's clock cannot be moved: ask for `paused_clock` or `moved_clock`")
            }
        }
    }

    /// The kubeconfig of an administrator, for programs outside of this process. The first call begins to serve over
    /// HTTPS on a free port of loopback. Not under a paused clock, as sockets do not wait for it.
    ///
    /// # Errors
    /// When certificates or the socket cannot be had.
    pub async fn kubeconfig(&self) -> Result<String, EnvError> {
        let mut https = self.https.lock().await;
        let https = match &mut *https {
            Some(https) => https,
            none => none.insert(self.serve().await?),
        };
        Ok(https.pki.kubeconfig(&https.serving.url()))
    }

    async fn serve(&self) -> Result<Https, EnvError> {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dodai-testenv-{}-{number}", std::process::id()));
        let pki = Pki::open(&folder)?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(|source| EnvError::Machine { what: "listen on loopback", source })?;
        let serving = self.server.serve(listener, &pki).await?;
        Ok(Https { serving, pki, folder })
    }
}

fn user(name: &str, groups: &[&str]) -> User {
    let mut all = groups.to_vec();
    all.push("system:authenticated");
    User::new(name, &all)
}
