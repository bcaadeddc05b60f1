//! `dodai retry APP`: tries the newest Release again, if it failed.

use dodai_api::names::ANNOTATION_RETRY;
use dodai_api::{Release, ReleasePhase};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::applying::AppliedApp;
use crate::cli::{Global, Retry};
use crate::cmd::apply::finish;
use crate::failure::{Context, Failure, Result};
use crate::progress::Steps;
use crate::{follow, target};

pub(crate) async fn run(global: &Global, args: &Retry) -> Result<()> {
    let timeout = super::duration("--timeout", &args.timeout)?;
    let target = target::find(global, None).await?;
    let app = super::app(&target.client, &global.namespace, &args.app).await?;
    let releases = super::releases(&target.client, &app).await?;
    let Some(newest) = releases.last() else {
        return Err(Failure::failed(format!("`{}` has no release yet", args.app)));
    };
    if newest.phase() != ReleasePhase::Failed {
        return Err(Failure::invalid(format!(
            "release {} of `{}` is {}, not Failed",
            newest.spec.number,
            args.app,
            newest.phase()
        ))
        .hint("only a failed release is tried again; a change of the App makes a new one"));
    }
    let attempt = newest.status.as_ref().and_then(|status| status.attempt).unwrap_or(1);
    let api: Api<Release> = Api::namespaced(target.client.clone(), &global.namespace);
    // Against the version that was seen: two who retry at once make one retry.
    let patch = json!({"metadata": {
        "resourceVersion": newest.resource_version(),
        "annotations": {ANNOTATION_RETRY: attempt.to_string()},
    }});
    api.patch(&newest.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .context("cannot ask for another try")?;
    if args.no_wait {
        return Ok(());
    }
    let steps = Steps::new(global.quiet);
    let apps = [AppliedApp {
        namespace: global.namespace.clone(),
        name: args.app.clone(),
        generation: app.metadata.generation.unwrap_or_default(),
        attempt: attempt + 1,
    }];
    finish(
        &target.client,
        &apps,
        &steps,
        timeout,
        follow::follow(&target.client, &apps, &steps, timeout).await,
    )
    .await
}
