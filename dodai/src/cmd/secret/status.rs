//! `secret status`: how encrypted secrets stand in a running cluster, and which are due for a new value.

use dodai_api::{EncryptedSecret, SealedSecret, SopsSecret};
use dodai_secrets::report::{self, Line};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cli::Status;
use crate::cli::{Format, Global};
use crate::failure::{Context, Failure, NOT_READY, Result};
use crate::{screen, target};

/// Most secrets that `dodai status` hints at.
const HINTS_MAX: usize = 10;

pub(crate) async fn run(global: &Global, args: &Status) -> Result<()> {
    let client = target::find(global, None).await?.client;
    let namespace = (!args.all_namespaces).then_some(global.namespace.as_str());
    let mut lines = lines(&client, namespace).await?;
    if let Some(name) = &args.name {
        lines.retain(|line| line.name == *name);
        if lines.is_empty() {
            return Err(Failure::invalid(format!(
                "no encrypted secret `{name}` in namespace `{}`",
                namespace.unwrap_or("(all)")
            )));
        }
    }
    match args.output {
        _ if args.metrics => print!("{}", report::metrics(&lines)),
        Format::Json => {
            let list: Vec<_> = lines
                .iter()
                .map(|line| {
                    json!({
                        "kind": line.kind, "namespace": line.namespace, "name": line.name, "ready": line.ready,
                        "reason": line.reason, "message": line.message,
                        "rotationDue": line.rotation_due.map(|due| due.to_string()), "due": line.due.is_some(),
                    })
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&list).context("cannot print")?);
        }
        Format::Table if lines.is_empty() => println!("no encrypted secret"),
        Format::Table => print!("{}", table(&lines, args.all_namespaces)),
    }
    if lines.iter().all(|line| line.ready) { Ok(()) } else { Err(Failure::silent(NOT_READY)) }
}

fn table(lines: &[Line], all: bool) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let due = match (&line.rotation_due, &line.due) {
                (None, _) => "-".to_owned(),
                (Some(_), Some(_)) => "now".to_owned(),
                (Some(due), None) => due.strftime("%Y-%m-%d").to_string(),
            };
            let name = if all { format!("{}/{}", line.namespace, line.name) } else { line.name.clone() };
            let state = if line.ready { "Ready".to_owned() } else { line.reason.clone() };
            vec![name, line.kind.to_owned(), state, due]
        })
        .collect();
    let table = screen::table(&["SECRET", "KIND", "STATE", "NEW VALUE"], &rows);
    let mut text = String::new();
    let mut printed = table.lines();
    text.push_str(printed.next().unwrap_or_default());
    text.push('\n');
    for (line, row) in lines.iter().zip(printed) {
        text.push_str(row);
        text.push('\n');
        for told in told(line) {
            text.push_str(&format!("└ {told}\n"));
        }
    }
    text
}

/// What there is to say about one that is not as it should be.
fn told(line: &Line) -> impl Iterator<Item = &str> {
    let failure = (!line.ready).then_some(line.message.as_str()).filter(|message| !message.is_empty());
    failure.into_iter().chain(line.due.as_deref())
}

/// One line for each encrypted secret that is not in its Secret or due for a new value: for `dodai status`.
pub(crate) async fn hints(client: &Client, namespace: Option<&str>) -> Vec<String> {
    // A cluster without the kinds, or where they may not be listed, has nothing to hint at.
    let lines = lines(client, namespace).await.unwrap_or_default();
    let mut hints = Vec::new();
    let wrong = |line: &&Line| !line.ready || line.due.is_some();
    for line in lines.iter().filter(wrong).take(HINTS_MAX) {
        let name = format!("{}/{}", line.namespace, line.name);
        let waits =
            (!line.ready).then(|| format!("secret {name} is not ready ({}): {}", line.reason, line.message));
        hints.extend(waits);
        hints.extend(line.due.as_ref().map(|due| format!("secret {name}: {due}")));
    }
    match lines.iter().filter(wrong).count().saturating_sub(HINTS_MAX) {
        0 => {}
        more => hints.push(format!("{more} secrets more: `dodai secret status`")),
    }
    hints
}

async fn lines(client: &Client, namespace: Option<&str>) -> Result<Vec<Line>> {
    let now = Timestamp::now();
    let encrypted = list::<EncryptedSecret>(client, namespace).await?;
    let sops = list::<SopsSecret>(client, namespace).await?;
    let sealed = list::<SealedSecret>(client, namespace).await?;
    let mut lines: Vec<Line> = encrypted.iter().map(|object| Line::encrypted(object, now)).collect();
    lines.extend(sops.iter().map(Line::sops));
    lines.extend(sealed.iter().map(Line::sealed));
    lines.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(lines)
}

/// All objects of a kind; none where the cluster does not know it.
async fn list<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error).context(format!("cannot list {}", K::plural(&()))),
    }
}
