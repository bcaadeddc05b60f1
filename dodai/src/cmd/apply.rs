//! `dodai apply DIR`: applies what a folder holds to a running dodai, and waits for the releases that this starts.

use std::time::Duration;

use kube::Client;

use crate::applying::{self, AppliedApp, Request};
use crate::cli::{Apply, Global};
use crate::failure::{FAILED, Failure, NOT_READY, Result};
use crate::follow::End;
use crate::manifests::Manifest;
use crate::progress::Steps;
use crate::{check, manifests, secrets, target, view};

pub(crate) async fn run(global: &Global, args: &Apply) -> Result<()> {
    let timeout = super::duration("--timeout", &args.timeout)?;
    let manifests = manifests::read(&args.dir)?;
    check::check(&manifests.objects)?;
    let target = target::find(global, Some(&args.dir)).await?;
    let request = Request {
        client: &target.client,
        origin: &args.dir,
        namespace: &global.namespace,
        data: target.data.as_deref(),
        prune: args.prune,
        dry_run: args.dry_run,
    };
    let steps = Steps::new(global.quiet);
    let applied = applying::apply(&request, &manifests).await?;
    tell(&steps, &manifests, &applied, args.dry_run);
    let nothing_to_follow = applied.apps.is_empty() && !manifests.objects.iter().any(Manifest::is_secret);
    if args.dry_run || args.no_wait || nothing_to_follow {
        return Ok(());
    }
    let end = secrets::follow(
        &target.client,
        &manifests.objects,
        &global.namespace,
        &applied.apps,
        &steps,
        timeout,
    )
    .await;
    finish(&target.client, &applied.apps, &steps, timeout, end).await
}

/// What was left out, applied, and is gone.
pub(crate) fn tell(
    steps: &Steps,
    manifests: &manifests::Manifests,
    applied: &applying::Applied,
    dry_run: bool,
) {
    for file in &manifests.skipped {
        steps.note(&format!("{} holds no Kubernetes object: left out", file.display()));
    }
    for gone in &applied.gone {
        steps.note(gone);
    }
    let would = if dry_run { "would be " } else { "" };
    match applied.changed {
        0 => steps.line("  up to date"),
        changed => steps.line(&format!("  {changed} of {} objects {would}changed", applied.objects)),
    }
}

/// Prints how the releases ended: the URLs, or what to do.
pub(crate) async fn finish(
    client: &Client,
    apps: &[AppliedApp],
    steps: &Steps,
    timeout: Duration,
    end: End,
) -> Result<()> {
    for applied in apps {
        let seen = view::apps(client, Some(&applied.namespace), Some(&applied.name)).await?;
        if let Some(url) = seen.first().and_then(|app| app.url.clone()) {
            steps.line("");
            // The result goes to stdout, so that a script can take it.
            println!("  {:<7} {url}", applied.name);
        }
    }
    match end {
        End::Ready => Ok(()),
        End::Failed => {
            let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
            steps.line(&format!(
                "hint: `dodai why {}` tells more; fix it and apply again, or `dodai retry`",
                names.join(" ")
            ));
            Err(Failure::silent(FAILED))
        }
        End::TimedOut => {
            Err(Failure::new(NOT_READY, format!("not ready after {}", crate::units::took(timeout)))
                .hint("it goes on by itself: `dodai status` shows how far it is"))
        }
    }
}
