//! The engines as ComponentStatus: what `kubectl get componentstatuses` and `dodai status` show of this process.

use std::collections::BTreeMap;

use dodai_apiserver::Component;
use dodai_kit::Health;
use dodai_kit::health::{ControllerHealth, SetAside};
use k8s_openapi::api::core::v1::ComponentStatus;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Objects named in the message of one engine; more are counted.
const OBJECTS_NAMED_MAX: usize = 5;
/// Before the name of each engine's component.
const PREFIX: &str = "dodai-";

/// One part for each engine. An engine is healthy while all its controllers run and none has set an object aside.
pub(crate) fn of(health: &Health) -> Vec<Component> {
    let mut engines: BTreeMap<&str, Vec<ControllerHealth>> = BTreeMap::new();
    for controller in health.controllers() {
        engines.entry(controller.engine).or_default().push(controller);
    }
    let set_aside = health.set_aside();
    let one = |(engine, controllers): (&str, Vec<ControllerHealth>)| {
        let troubles: Vec<String> =
            controllers.iter().filter_map(down).chain(aside(&controllers, &set_aside)).collect();
        let restarts: Vec<String> = controllers.iter().filter_map(restarted).collect();
        let message = match (troubles.is_empty(), restarts.is_empty()) {
            (true, true) => "ok".to_owned(),
            (true, false) => format!("ok; {}", restarts.join("; ")),
            (false, _) => troubles.join("; "),
        };
        Component { name: format!("{PREFIX}{engine}"), healthy: troubles.is_empty(), message }
    };
    engines.into_iter().map(one).collect()
}

fn down(controller: &ControllerHealth) -> Option<String> {
    if controller.running {
        return None;
    }
    let (_, why) = controller.last_end.as_ref()?;
    let again = controller.waits.map(|wait| format!(", starts again within {} s", wait.as_secs()));
    Some(format!("controller {} is down: {why}{}", controller.controller, again.unwrap_or_default()))
}

fn restarted(controller: &ControllerHealth) -> Option<String> {
    let (when, why) = controller.last_end.as_ref()?;
    let times = controller.restarts;
    let when = dodai_kit::execute::rfc3339(*when);
    Some(format!(
        "controller {} was started again {times} times, last at {when}: {why}",
        controller.controller
    ))
}

fn aside(controllers: &[ControllerHealth], all: &[SetAside]) -> Option<String> {
    let mine: Vec<&SetAside> = all
        .iter()
        .filter(|object| controllers.iter().any(|controller| controller.controller == object.controller))
        .collect();
    if mine.is_empty() {
        return None;
    }
    let named: Vec<String> = mine
        .iter()
        .take(OBJECTS_NAMED_MAX)
        .map(|object| format!("{} {} ({})", object.controller, object.key, object.message))
        .collect();
    let more = mine.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("set aside until changed: {}{more}", named.join(", ")))
}

/// Lines about engines that are not healthy; none where the API server does not list ours.
pub(crate) async fn troubles(client: &Client) -> Vec<String> {
    let api: Api<ComponentStatus> = Api::all(client.clone());
    // Who may not list them, or where nobody answers for them (another API server), is told nothing here.
    let Ok(list) = api.list(&ListParams::default()).await else { return Vec::new() };
    let ours = list.items.iter().filter(|one| one.name_any().starts_with(PREFIX));
    ours.filter_map(|one| {
        let condition = one.conditions.as_ref()?.first()?;
        let engine = one.name_any();
        let told = condition.message.clone().unwrap_or_default();
        (condition.status != "True")
            .then(|| format!("! engine {}: {told}", engine.trim_start_matches(PREFIX)))
    })
    .collect()
}
