//! Follows Apps until their releases have ended, showing each step as it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dodai_api::dodai::condition;
use dodai_api::{App, AppPhase, Release, ReleasePhase};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use crate::applying::AppliedApp;
use crate::progress::Steps;
use crate::view;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// Every App serves what its spec asks for.
    Ready,
    /// At least one release failed, or an App cannot be carried out.
    Failed,
    /// Time was up.
    TimedOut,
}

enum Event {
    App(Box<App>),
    Release(Box<Release>),
}

/// Follows the Apps for at most `timeout`.
pub(crate) async fn follow(client: &Client, apps: &[AppliedApp], steps: &Steps, timeout: Duration) -> End {
    let mut follower = Follower {
        wanted: apps,
        steps,
        apps: BTreeMap::new(),
        releases: BTreeMap::new(),
        shown: BTreeSet::new(),
    };
    let events = stream::select(
        watcher(Api::<App>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .filter_map(async |event| event.ok().map(|app| Event::App(Box::new(app)))),
        watcher(Api::<Release>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .filter_map(async |event| event.ok().map(|release| Event::Release(Box::new(release)))),
    );
    futures::pin_mut!(events);
    let deadline = tokio::time::sleep(timeout);
    futures::pin_mut!(deadline);
    let end = loop {
        let end = follower.end();
        match end {
            Some(End::Ready) if !pods_are_ready(client, apps).await => {}
            Some(end) => break end,
            None => {}
        }
        // Pods are not followed: while only they are missing, they are looked at again soon.
        let again = async {
            match end {
                Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = events.next() => follower.see(event),
            () = again => {}
            () = &mut deadline => break End::TimedOut,
        }
    };
    steps.clear();
    end
}

/// How soon to look at Pods again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether each process of the Apps has as many ready Pods as it should. What an App says of itself may be from before a
/// restart; what the node says of its Pods is not.
async fn pods_are_ready(client: &Client, apps: &[AppliedApp]) -> bool {
    for applied in apps {
        let Ok(seen) = view::apps(client, Some(&applied.namespace), Some(&applied.name)).await else {
            return false;
        };
        let ready = seen.iter().all(|app| {
            app.processes.iter().all(|process| {
                let pods =
                    app.pods.iter().filter(|pod| pod.process.as_ref() == Some(&process.name) && pod.ready);
                i32::try_from(pods.count()).unwrap_or(i32::MAX) >= process.wanted
            })
        });
        if !ready {
            return false;
        }
    }
    true
}

struct Follower<'a> {
    wanted: &'a [AppliedApp],
    steps: &'a Steps,
    apps: BTreeMap<(String, String), App>,
    releases: BTreeMap<(String, String), Release>,
    /// Steps that were shown: Release, phase, attempt.
    shown: BTreeSet<(String, ReleasePhase, u32)>,
}

impl Follower<'_> {
    fn see(&mut self, event: Event) {
        match event {
            Event::App(app) => {
                self.apps.insert((app.namespace().unwrap_or_default(), app.name_any()), *app);
            }
            Event::Release(release) => {
                self.releases.insert((release.namespace().unwrap_or_default(), release.name_any()), *release);
            }
        }
        for wanted in self.wanted {
            if let Some(release) = self.target(wanted).cloned() {
                self.show(&wanted.name, &release);
            }
        }
    }

    /// The Release that the applied spec asks for, once the App's status is about that spec.
    fn target(&self, wanted: &AppliedApp) -> Option<&Release> {
        let app = self.app(wanted)?;
        let target = app.status.as_ref()?.target_release.clone()?;
        self.releases.get(&(wanted.namespace.clone(), target))
    }

    fn app(&self, wanted: &AppliedApp) -> Option<&App> {
        let app = self.apps.get(&(wanted.namespace.clone(), wanted.name.clone()))?;
        let observed = app.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
        (observed >= wanted.generation).then_some(app)
    }

    fn show(&mut self, app: &str, release: &Release) {
        let status = release.status.clone().unwrap_or_default();
        let attempt = status.attempt.unwrap_or(1);
        let phase = release.phase();
        let number = format!("release {}", release.spec.number);
        let steps = [
            (ReleasePhase::Building, "built", ReleasePhase::Migrating),
            (ReleasePhase::Migrating, "migrated", ReleasePhase::RollingOut),
            (ReleasePhase::RollingOut, "serving", ReleasePhase::Active),
        ];
        for (from, word, to) in steps {
            let (Some(began), Some(ended)) = (time(&status.entered, from), time(&status.entered, to)) else {
                continue;
            };
            let id = (release.uid().unwrap_or_default(), from, attempt);
            if !is_recent(ended) || !self.shown.insert(id) {
                continue;
            }
            let detail = match from {
                ReleasePhase::Building => command(
                    release.spec.source.as_ref().and_then(|source| Some(&source.build.as_ref()?.command)),
                ),
                ReleasePhase::Migrating => {
                    match status.migration.as_ref().map(|migration| migration.outcome.as_str()) {
                        None => continue,
                        Some("Skipped") => "already done by an earlier release".to_owned(),
                        Some(_) => command(release.spec.release.as_ref().map(|step| &step.command)),
                    }
                }
                _ => condition::find(&status.conditions, "Ready")
                    .map(|ready| ready.message.clone())
                    .unwrap_or_default(),
            };
            let took = Duration::try_from(ended.duration_since(began)).ok();
            self.steps.done(app, &format!("{number} {word:<9} {detail}"), took);
        }
        match phase {
            ReleasePhase::Failed => {
                let id = (release.uid().unwrap_or_default(), phase, attempt);
                if let Some(failure) = status.failure.filter(|_| self.shown.insert(id)) {
                    self.steps.failed(app, &format!("{number} failed: {}", failure.message), &failure.log);
                }
            }
            phase if !phase.is_settled() => {
                let message = condition::find(&status.conditions, "Ready").map(|ready| ready.message.clone());
                self.steps.now(app, &format!("{number} {phase} {}", message.unwrap_or_default()));
            }
            _ => {}
        }
    }

    /// The end, once every App has come to one.
    fn end(&self) -> Option<End> {
        let mut failed = false;
        for wanted in self.wanted {
            let app = self.app(wanted)?;
            let status = app.status.as_ref()?;
            match status.phase? {
                // What the App says may be about the attempt before this one.
                AppPhase::Failed
                    if self.target(wanted).is_some_and(|release| has_failed(release, wanted.attempt)) =>
                {
                    failed = true;
                }
                AppPhase::Invalid => {
                    let ready = condition::find(&status.conditions, "Ready");
                    let message = ready.map(|ready| ready.message.clone()).unwrap_or_default();
                    self.steps.failed(&wanted.name, &message, &[]);
                    failed = true;
                }
                AppPhase::Running
                    if condition::find(&status.conditions, "Ready").is_some_and(|ready| ready.is_true()) => {}
                // It waits for the port, but a person has to free it.
                AppPhase::Running if is_port_in_use(status) => {
                    let ready = condition::find(&status.conditions, "Ready");
                    self.steps.failed(
                        &wanted.name,
                        &ready.map(|ready| ready.message.clone()).unwrap_or_default(),
                        &[],
                    );
                    failed = true;
                }
                _ => return None,
            }
        }
        Some(if failed { End::Failed } else { End::Ready })
    }
}

fn is_port_in_use(status: &dodai_api::AppStatus) -> bool {
    condition::find(&status.conditions, "Ready").is_some_and(|ready| ready.reason == "PortInUse")
}

fn has_failed(release: &Release, attempt: u32) -> bool {
    let current = release.status.as_ref().and_then(|status| status.attempt).unwrap_or(1);
    release.phase() == ReleasePhase::Failed && current >= attempt
}

fn time(entered: &BTreeMap<String, String>, phase: ReleasePhase) -> Option<Timestamp> {
    entered.get(&phase.to_string())?.parse().ok()
}

/// Steps that ended before this process began are history, not progress.
fn is_recent(ended: Timestamp) -> bool {
    static BEGAN: std::sync::OnceLock<Timestamp> = std::sync::OnceLock::new();
    ended >= *BEGAN.get_or_init(Timestamp::now)
}

/// Must be called when the process begins, so that [`is_recent`] knows when that was.
pub(crate) fn begin() {
    let _ = is_recent(Timestamp::UNIX_EPOCH);
}

fn command(command: Option<&Vec<String>>) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 48;
    let text = command.map(|command| command.join(" ")).unwrap_or_default().replace('\n', " ");
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
