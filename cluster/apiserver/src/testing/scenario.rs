//! What a simulation is about: the program under test, what people do, what must hold.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::call::Call;
use super::sim::Sim;
use super::world::{Id, World};

/// A running program; it ends when it is dropped.
pub type Instance = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One write, as invariants see it.
pub struct Change<'a> {
    /// What was stored before.
    pub before: &'a World,
    /// What is stored now.
    pub after: &'a World,
    /// What was written.
    pub id: &'a Id,
}

/// A program under test and its surroundings. One value serves one run, so that it may keep what it saw.
pub trait Scenario: Send + Sync + 'static {
    /// Before anything starts: definitions, namespaces, objects that are there.
    fn set_up(&self, sim: &Sim) -> BoxFuture<'static, Result<(), String>> {
        let _ = sim;
        Box::pin(async { Ok(()) })
    }

    /// Starts the program with this client and nothing in its memory. Called for each instance, and after each crash.
    fn start(&self, sim: &Sim, client: kube::Client) -> Instance;

    /// What else goes on in the cluster, without faults of its own: kubelets, other controllers.
    fn surroundings(&self, sim: &Sim) -> Instance {
        let _ = sim;
        Box::pin(std::future::pending())
    }

    /// What people do, in this order, at picked times.
    fn script(&self, sim: &Sim) -> Vec<Step>;

    /// Looks at each request of the program.
    ///
    /// # Errors
    /// What the program must not ask for.
    fn call(&self, call: &Call) -> Result<(), String> {
        let _ = call;
        Ok(())
    }

    /// Looks at each write, whoever made it.
    ///
    /// # Errors
    /// What is broken.
    fn always(&self, change: &Change<'_>) -> Result<(), String>;

    /// Holds some time after the faults have stopped, and from then on.
    ///
    /// # Errors
    /// What is not there yet.
    fn finally(&self, world: &World) -> Result<(), String>;

    /// Texts that must stand in no object but a Secret, and in no line of a log.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// How many instances run at once, each believing that it is alone.
    fn instances(&self) -> usize {
        2
    }
}

/// What a step does.
pub(crate) type Act = Arc<dyn Fn(Sim) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Something that people do.
#[derive(Clone)]
pub struct Step {
    pub(crate) name: String,
    pub(crate) act: Act,
}

impl Step {
    /// A step of this name. It gets the simulation, whose `admin` client has no faults; an error fails the run.
    pub fn new<F>(name: &str, act: impl Fn(Sim) -> F + Send + Sync + 'static) -> Step
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Step { name: name.to_owned(), act: Arc::new(move |sim| Box::pin(act(sim))) }
    }
}

/// The rule that a program deletes nothing by its name alone.
///
/// # Errors
/// For a deletion of one object without the precondition `uid`.
pub fn deletes_by_uid(call: &Call) -> Result<(), String> {
    if call.verb() == "delete" && !call.json()["preconditions"]["uid"].is_string() {
        return Err(format!("{call}: a delete without the uid that was seen"));
    }
    Ok(())
}

/// The rule that `status.observedGeneration` of one object never goes back.
///
/// # Errors
/// For a write that puts it back.
pub fn generation_goes_on(change: &Change<'_>) -> Result<(), String> {
    let (Some(before), Some(after)) = (change.before.at(change.id), change.after.at(change.id)) else {
        return Ok(());
    };
    let of = |object: &serde_json::Value| object["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if before["metadata"]["uid"] == after["metadata"]["uid"] && of(after) < of(before) {
        return Err(format!("{}: observedGeneration went from {} to {}", change.id, of(before), of(after)));
    }
    Ok(())
}
