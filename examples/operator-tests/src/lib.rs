//! An operator as many are written: a `Ticket` gets a number from a shared counter, once, and keeps it.
//!
//! The counter is a ConfigMap `tickets` with the last number that was given. The number of a Ticket stands in its status. No two
//! Tickets may have the same number. Plain kube-rs: `Controller`, `reconcile`, `error_policy`; nothing of dodai.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Client, CustomResource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Something that wants a number.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "example.dev", version = "v1", kind = "Ticket", namespaced, status = "TicketStatus")]
pub struct TicketSpec {
    /// Who wants it.
    pub holder: String,
}

/// What a Ticket was given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TicketStatus {
    /// Its number.
    pub number: Option<u32>,
}

/// Name of the ConfigMap with the last number.
pub const COUNTER: &str = "tickets";

/// Why a pass did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("the API server does not do what it was asked")]
    Api(#[from] kube::Error),
    /// Somebody has written no number into the counter.
    #[error("the counter holds no number")]
    Counter,
}

/// How the counter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// With the version that was read: of two that count at once, one tries again.
    Guarded,
    /// By a merge patch, whatever stands there. Looks right, and is, until two count at once.
    Blind,
}

/// What each pass needs.
pub struct Context {
    /// The API.
    pub client: Client,
    /// How to count.
    pub counting: Counting,
}

/// Runs the operator until it is dropped.
pub async fn run(client: Client, counting: Counting) {
    let tickets: Api<Ticket> = Api::default_namespaced(client.clone());
    let context = Arc::new(Context { client, counting });
    Controller::new(tickets, watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), context)
        .for_each(|_| async {})
        .await;
}

async fn reconcile(ticket: Arc<Ticket>, context: Arc<Context>) -> Result<Action, Error> {
    if ticket.status.as_ref().is_some_and(|status| status.number.is_some()) {
        return Ok(Action::await_change());
    }
    let number = next_number(&context).await?;
    let tickets: Api<Ticket> = Api::default_namespaced(context.client.clone());
    // With the version that was seen: a Ticket that got its number meanwhile keeps it.
    let patch = json!({
        "metadata": { "resourceVersion": ticket.resource_version() }, "status": { "number": number },
    });
    tickets.patch_status(&ticket.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(Action::await_change())
}

/// Takes the next number. One that is taken and then not used is lost, which does no harm.
async fn next_number(context: &Context) -> Result<u32, Error> {
    let maps: Api<ConfigMap> = Api::default_namespaced(context.client.clone());
    let Some(mut counter) = maps.get_opt(COUNTER).await? else {
        let first =
            serde_json::from_value(json!({ "metadata": { "name": COUNTER }, "data": { "last": "1" } }));
        let first: ConfigMap = first.map_err(|_| Error::Counter)?;
        maps.create(&PostParams::default(), &first).await?;
        return Ok(1);
    };
    let last = counter.data.as_ref().and_then(|data| data.get("last")?.parse::<u32>().ok());
    let next = last.ok_or(Error::Counter)? + 1;
    match context.counting {
        Counting::Guarded => {
            counter.data.get_or_insert_default().insert("last".to_owned(), next.to_string());
            maps.replace(COUNTER, &PostParams::default(), &counter).await?;
        }
        Counting::Blind => {
            let patch = Patch::Merge(json!({ "data": { "last": next.to_string() } }));
            maps.patch(COUNTER, &PatchParams::default(), &patch).await?;
        }
    }
    Ok(next)
}
