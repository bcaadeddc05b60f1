//! One file a verb.

pub(crate) mod apiserver;
pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod exec;
pub(crate) mod kubeconfig;
pub(crate) mod lint;
pub(crate) mod logs;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod why;

use dodai_api::{App, Release};
use kube::{Api, Client, ResourceExt};

use crate::failure::{Context, Failure, Result};

/// Splits `APP`, `APP/PROCESS`.
pub(crate) fn thing(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((app, process)) => (app, Some(process)),
        None => (text, None),
    }
}

/// The App, or an error that lists what there is.
pub(crate) async fn app(client: &Client, namespace: &str, name: &str) -> Result<App> {
    let api: Api<App> = Api::namespaced(client.clone(), namespace);
    if let Some(app) = api.get_opt(name).await.context(format!("cannot read App `{name}`"))? {
        return Ok(app);
    }
    let all = api.list(&Default::default()).await.context("cannot list apps")?;
    let names: Vec<String> = all.items.iter().map(|app| app.name_any()).collect();
    let failure = Failure::invalid(format!("no App `{name}` in namespace `{namespace}`"));
    Err(match dodai_yaml::suggest(name, names.iter().map(String::as_str)) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None if names.is_empty() => failure.hint("there is no App in this namespace; `-n` names another"),
        None => failure.hint(format!("there are: {}", names.join(", "))),
    })
}

/// The Releases of an App, ordered by number.
pub(crate) async fn releases(client: &Client, app: &App) -> Result<Vec<Release>> {
    let api: Api<Release> = Api::namespaced(client.clone(), &app.namespace().unwrap_or_default());
    let mut releases = api.list(&Default::default()).await.context("cannot list releases")?.items;
    let uid = app.uid().unwrap_or_default();
    releases.retain(|release| dodai_kit::view::is_controlled_by(release, &uid));
    releases.sort_by_key(|release| release.spec.number);
    Ok(releases)
}

/// A duration that was given as a flag.
pub(crate) fn duration(flag: &str, text: &str) -> Result<std::time::Duration> {
    dodai_api::duration::parse(text)
        .ok_or_else(|| Failure::invalid(format!("`{flag} {text}` is not a duration such as `90s` or `5m`")))
}
