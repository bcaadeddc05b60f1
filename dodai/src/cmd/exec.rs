//! `dodai exec APP[/PROCESS] -- COMMAND`: a command in the Pod of a running process. Passes its exit code on.

use std::process::ExitCode;

use dodai_api::names::{LABEL_APP, LABEL_PROCESS, LABEL_ROLE};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::cli::{Exec, Global};
use crate::failure::{Context, Failure, OWN_TROUBLE, Result};
use crate::{target, terminal};

pub(crate) async fn run(global: &Global, args: &Exec) -> Result<ExitCode> {
    let trouble = |failure: Failure| Failure { code: OWN_TROUBLE, ..failure };
    let target = target::find(global, None).await.map_err(trouble)?;
    let (name, process) = super::thing(&args.thing);
    super::app(&target.client, &global.namespace, name).await.map_err(trouble)?;
    let api: Api<Pod> = Api::namespaced(target.client, &global.namespace);
    let of_process = process.map(|process| format!(",{LABEL_PROCESS}={process}")).unwrap_or_default();
    let labels = format!("{LABEL_APP}={name},{LABEL_ROLE}=process{of_process}");
    let pods = api
        .list(&ListParams::default().labels(&labels))
        .await
        .context("cannot list pods")
        .map_err(trouble)?;
    let pod = pods
        .items
        .iter()
        .filter(|pod| is_running(pod))
        .max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let Some(pod) = pod else {
        return Err(Failure::new(OWN_TROUBLE, format!("no process of `{}` is running", args.thing)).hint(
            format!("`dodai why {name}` tells why, `dodai run {name} -- ...` starts a Pod of its own"),
        ));
    };
    Ok(ExitCode::from(terminal::exec(&api, &pod.name_any(), &args.command).await?))
}

fn is_running(pod: &Pod) -> bool {
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    running && pod.metadata.deletion_timestamp.is_none()
}
