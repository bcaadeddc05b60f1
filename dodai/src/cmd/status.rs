//! `dodai status`: a verdict and a tree of what is there, what it waits for, since when.

use crate::cli::{Format, Global, Status};
use crate::failure::{Context, Failure, NOT_READY, Result};
use crate::view::{AppView, PodView};
use crate::{components, screen, target, units, view};

pub(crate) async fn run(global: &Global, args: &Status) -> Result<()> {
    let target = target::find(global, None).await?;
    if let Some(name) = &args.app {
        super::app(&target.client, &global.namespace, name).await?;
    }
    let namespace = (!args.all_namespaces).then_some(global.namespace.as_str());
    let apps = view::apps(&target.client, namespace, args.app.as_deref()).await?;
    let hints = match args.app {
        None => super::secret::hints(&target.client, namespace).await,
        Some(_) => Vec::new(),
    };
    match args.output {
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&apps).context("cannot print the status")?)
        }
        Format::Table => {
            // To stderr, so that the table stays what a script expects.
            for line in components::troubles(&target.client).await {
                eprintln!("{line}");
            }
            if apps.is_empty() {
                println!("no App in namespace `{}`", global.namespace);
            } else {
                print!("{}", tree(&apps));
            }
        }
    }
    for hint in hints {
        eprintln!("hint: {hint}");
    }
    if apps.iter().all(|app| app.ready) { Ok(()) } else { Err(Failure::silent(NOT_READY)) }
}

fn tree(apps: &[AppView]) -> String {
    let rows: Vec<Vec<String>> = apps
        .iter()
        .map(|app| {
            let release = app.target.as_ref().map(|release| release.number.to_string());
            vec![
                app.name.clone(),
                release.unwrap_or_else(|| "-".to_owned()),
                state(app),
                since(app).map_or_else(|| "-".to_owned(), |since| units::age_since(&since)),
                app.url.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let table = screen::table(&["APP", "RELEASE", "STATE", "SINCE", "URL"], &rows);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (app, line) in apps.iter().zip(lines) {
        text.push_str(line);
        text.push('\n');
        text.push_str(&below(app));
    }
    text
}

/// What the App is doing: the state of the Release on its way, or the App's own.
fn state(app: &AppView) -> String {
    match (&app.target, app.phase) {
        (_, Some(dodai_api::AppPhase::Invalid)) => "Invalid".to_owned(),
        (Some(release), Some(dodai_api::AppPhase::Releasing | dodai_api::AppPhase::Failed)) => {
            release.state.clone()
        }
        (_, Some(phase)) if app.ready || phase != dodai_api::AppPhase::Running => format!("{phase:?}"),
        (_, Some(_)) => "Unavailable".to_owned(),
        (_, None) => "Pending".to_owned(),
    }
}

fn since(app: &AppView) -> Option<String> {
    match app.phase {
        Some(dodai_api::AppPhase::Releasing) => app.target.as_ref()?.since.clone(),
        _ => app.since.clone(),
    }
}

fn below(app: &AppView) -> String {
    let mut text = String::new();
    if let Some(release) = app.target.as_ref().filter(|_| !app.ready) {
        text.push_str(&format!("└ release {}    {}\n", release.number, release.message));
        if let Some(failure) = &release.failure {
            text.push_str(&failure.log.iter().map(|line| format!("    | {line}\n")).collect::<String>());
        }
    } else if !app.ready && !app.message.is_empty() {
        text.push_str(&format!("└ {}: {}\n", app.reason, app.message));
    }
    if let Some(current) = &app.current {
        text.push_str(&format!("└ release {}    serves\n", current.number));
    }
    for process in &app.processes {
        text.push_str(&format!(
            "└ {}    {} of {} available\n",
            process.name, process.available, process.wanted
        ));
        let pods = app.pods.iter().filter(|pod| pod.process.as_deref() == Some(&process.name));
        text.push_str(&pods.map(|pod| format!("  └ {}\n", pod_line(pod))).collect::<String>());
    }
    for pod in app.pods.iter().filter(|pod| pod.process.is_none() && pod.phase != "Succeeded") {
        text.push_str(&format!("└ {} {}\n", pod.role, pod_line(pod)));
    }
    text
}

fn pod_line(pod: &PodView) -> String {
    let ready = if pod.ready { "ready" } else { "not ready" };
    let state = match pod.phase.as_str() {
        "Running" => ready.to_owned(),
        other => other.to_owned(),
    };
    let restarts = if pod.restarts > 0 { format!(" · {} restarts", pod.restarts) } else { String::new() };
    let waiting = pod.waiting.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    format!("pod {}   {state}{waiting}{restarts}", pod.name)
}
