//! The state machine of a Release: one transition a pass, each a pure function of what is observed.
//!
//! ```text
//! Pending -> Building -> Migrating -> RollingOut -> Active -> Superseded
//!    |           |           |            |
//!    |           +---------> Failed <-- RollingBack
//!    +-> Superseded (a newer spec came before this one began)
//! ```

use std::sync::Arc;

use dodai_api::dodai::condition::Condition;
use dodai_api::dodai::release::{Failure, Migration, ReleaseStatus};
use dodai_api::names::{ANNOTATION_RETRY, LABEL_APP, LABEL_RELEASE};
use dodai_api::{App, Release, ReleasePhase};
use dodai_kit::plan::controller_of;
use dodai_kit::{Owned, Plan, covers};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::ResourceExt;
use kube::core::Selector;

use super::{objects, pods};
use crate::identity;
use crate::planted::{self, Bug};
use crate::reason::Reason;

/// Attempts of a Release up to which a build that was cut off begins again by itself.
const BUILD_ATTEMPTS_MAX: u32 = 5;

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The Release.
    pub release: Arc<Release>,
    /// The App that owns it, if it is still there.
    pub app: Option<Arc<App>>,
    /// The App's other Releases, ordered by number.
    pub siblings: Vec<Arc<Release>>,
    /// The App's Lease.
    pub lease: Option<Arc<Lease>>,
    /// The Jobs of this Release.
    pub jobs: Vec<Arc<Job>>,
    /// All Pods of the App.
    pub pods: Vec<Arc<Pod>>,
    /// The App's Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// The App's Services.
    pub services: Vec<Arc<Service>>,
    /// The App's claims.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// Where a pass leaves the Release: its phase and what to say of it.
struct Step {
    phase: ReleasePhase,
    reason: Reason,
    message: String,
    migration: Option<Migration>,
    failure: Option<Failure>,
    /// A new attempt begins.
    again: bool,
}

impl Step {
    fn new(phase: ReleasePhase, reason: Reason, message: impl Into<String>) -> Step {
        Step { phase, reason, message: message.into(), migration: None, failure: None, again: false }
    }

    fn failed(failure: Failure, reason: Reason) -> Step {
        let message = failure.message.clone();
        Step { failure: Some(failure), ..Step::new(ReleasePhase::Failed, reason, message) }
    }
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let Some(app) = world.app.as_ref().filter(|app| app.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    if world.release.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let (phase, attempt) = (world.release.phase(), attempt(&world.release));
    let asked = asked_attempt(&world.release);
    if phase == ReleasePhase::Failed && asked > attempt && world.is_newest() {
        let step = Step::new(
            ReleasePhase::Pending,
            Reason::WaitingForLease,
            format!("attempt {asked} was asked for"),
        );
        write(&mut plan, world, asked, step);
        return plan;
    }
    let step = match phase {
        ReleasePhase::Pending => pending(world, app, attempt, &mut plan),
        ReleasePhase::Building => building(world, attempt, &mut plan),
        ReleasePhase::Migrating => {
            if planted::is(Bug::RollsOutTooEarly) {
                let _ = ensure(world, &world.release, app, attempt, &mut plan);
            }
            migrating(world, attempt, &mut plan)
        }
        ReleasePhase::RollingOut => rolling_out(world, app, attempt, &mut plan),
        ReleasePhase::RollingBack => rolling_back(world, app, &mut plan),
        ReleasePhase::Active => active(world, app, attempt, &mut plan),
        ReleasePhase::Superseded | ReleasePhase::Failed => return plan,
    };
    let attempt = attempt + u32::from(step.again);
    write(&mut plan, world, attempt, step);
    plan
}

impl World {
    /// All Releases of the App, this one last.
    fn releases(&self) -> impl Iterator<Item = &Arc<Release>> {
        self.siblings.iter().chain(std::iter::once(&self.release))
    }

    fn is_newest(&self) -> bool {
        self.siblings.last().is_none_or(|newest| newest.spec.number < self.release.spec.number)
    }

    fn job(&self, name: &str) -> Option<&Arc<Job>> {
        self.jobs.iter().find(|job| job.name_any() == name)
    }

    /// The Release that serves while this one is on its way.
    fn serving_sibling(&self) -> Option<&Arc<Release>> {
        self.siblings.iter().rev().find(|sibling| sibling.phase() == ReleasePhase::Active)
    }

    fn pods_of_job(&self, name: &str) -> Vec<&Pod> {
        let of_job = |pod: &&Arc<Pod>| {
            controller_of(pod.as_ref()).is_some_and(|owner| owner.kind == "Job" && owner.name == name)
        };
        self.pods.iter().filter(of_job).map(Arc::as_ref).collect()
    }
}

/// The attempt that the status is about.
fn attempt(release: &Release) -> u32 {
    release.status.as_ref().and_then(|status| status.attempt).unwrap_or(1)
}

/// The attempt that a person asked for: one more for each retry.
fn asked_attempt(release: &Release) -> u32 {
    let retries =
        release.annotations().get(ANNOTATION_RETRY).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    retries.saturating_add(1)
}

fn pending(world: &World, app: &App, attempt: u32, plan: &mut Plan) -> Step {
    let wait = |reason, message: String| Step::new(ReleasePhase::Pending, reason, message);
    if !world.is_newest() {
        return Step::new(
            ReleasePhase::Superseded,
            Reason::Superseded,
            "a newer release was asked for before this one began",
        );
    }
    let waits = !planted::is(Bug::ReleaseDoesNotWait);
    if let Some(other) = world.siblings.iter().find(|other| waits && is_on_its_way(other)) {
        if planted::is(Bug::NewerReleaseEndsCommand) {
            world
                .pods
                .iter()
                .filter(|pod| pods::has_role(pod, "release"))
                .for_each(|pod| plan.delete(pod.as_ref()));
        }
        return wait(Reason::WaitingForRelease, format!("release {} is {}", other.name_any(), other.phase()));
    }
    let runs = |pod: &&Arc<Pod>| waits && pods::has_role(pod, "release") && pods::is_live(pod);
    if let Some(pod) = world.pods.iter().find(runs) {
        let release = pod.labels().get(LABEL_RELEASE).cloned().unwrap_or_default();
        return wait(Reason::WaitingForCommand, format!("the release command of {release} still runs"));
    }
    if !holds_lease(world, attempt) {
        return wait(Reason::WaitingForLease, take_lease(world, app, attempt, plan));
    }
    if let Some(lease) = world.lease.as_ref().filter(|_| waits) {
        plan.confirm(lease.as_ref());
    }
    match world.release.spec.source {
        Some(_) => Step::new(ReleasePhase::Building, Reason::Building, "the build starts"),
        None => Step::new(ReleasePhase::Migrating, Reason::Migrating, "the release command starts"),
    }
}

/// Plans to take the App's Lease; or tells what it waits for.
///
/// A cache may not show yet that a sibling is on its way, so two things must hold when the Lease is taken: its holder has
/// ended (an end is never taken back without a new attempt, which needs the Lease anew), and the App's Releases are those that
/// were seen. Of two that try, the version of the Lease lets one through.
fn take_lease(world: &World, app: &App, attempt: u32, plan: &mut Plan) -> String {
    if !planted::is(Bug::ReleaseDoesNotWait) {
        if let Some(why) = lease_is_taken(world, app) {
            return why;
        }
        let selector = Selector::from_iter([(LABEL_APP.to_owned(), world.release.spec.app.clone())]);
        let releases = world.releases().map(Arc::as_ref);
        plan.confirm_owned(Owned::of::<Release>(app, Some(&selector)).unchanged(releases));
    }
    let lease = objects::lease(&world.release, app, attempt, world.lease.as_deref(), world.now);
    // A replace against the version that was seen, or a create: of two that try, one gets it.
    match &world.lease {
        Some(_) => plan.replace(&lease),
        None => plan.create(&lease),
    }
    String::new()
}

/// Why the Lease is nobody's to take yet.
fn lease_is_taken(world: &World, app: &App) -> Option<String> {
    if let Some(holder) = lease_holder(world).filter(|holder| !holder.phase().is_settled()) {
        return Some(format!("release {} holds it", holder.name_any()));
    }
    // It goes with its App; taken over, it would go while somebody relies on it.
    let owner = controller_of(world.lease.as_deref()?)?;
    (app.uid().as_ref() != Some(&owner.uid))
        .then(|| "the Lease of an App of this name that was deleted is still there".to_owned())
}

/// The sibling whose present attempt holds the Lease.
fn lease_holder(world: &World) -> Option<&Arc<Release>> {
    let holder = holder(world)?;
    world.siblings.iter().find(|other| holder == objects::lease_holder(other, self::attempt(other)))
}

/// Between `Pending` and its end. A pending sibling is older than this one, and gives way.
fn is_on_its_way(release: &Release) -> bool {
    let phase = release.phase();
    phase != ReleasePhase::Pending && !phase.is_settled()
}

fn holds_lease(world: &World, attempt: u32) -> bool {
    holder(world).is_some_and(|holder| holder == objects::lease_holder(&world.release, attempt))
}

fn holder(world: &World) -> Option<&str> {
    world.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref()
}

fn building(world: &World, attempt: u32, plan: &mut Plan) -> Step {
    let Some(wanted) = objects::build_job(&world.release, attempt) else {
        return Step::new(ReleasePhase::Migrating, Reason::Migrating, "nothing to build");
    };
    let name = wanted.name_any();
    match world.job(&name).map(|job| outcome(job)) {
        None => {
            plan.create(&wanted);
            Step::new(ReleasePhase::Building, Reason::Building, format!("job {name} is created"))
        }
        Some(Outcome::Running) => {
            let message =
                pods::waiting_for(&world.pods_of_job(&name)).unwrap_or_else(|| format!("job {name} runs"));
            Step::new(ReleasePhase::Building, Reason::Building, message)
        }
        Some(Outcome::Succeeded) => {
            Step::new(ReleasePhase::Migrating, Reason::Migrating, "the image is built")
        }
        Some(Outcome::Failed)
            if attempt < BUILD_ATTEMPTS_MAX && pods::was_interrupted(&world.pods_of_job(&name)) =>
        {
            // Building twice does no harm: what was cut off begins again by itself, as a new attempt with its own Lease.
            Step {
                again: true,
                ..Step::new(ReleasePhase::Pending, Reason::Building, "the build was cut off and begins again")
            }
        }
        Some(Outcome::Failed) => {
            let command = world.release.spec.source.as_ref().and_then(|source| source.build.as_ref());
            let command = command.map(|build| build.command.clone()).unwrap_or_default();
            let pods = world.pods_of_job(&name);
            Step::failed(
                pods::command_failure(Reason::BuildFailed, "build command", &command, &pods),
                Reason::BuildFailed,
            )
        }
    }
}

fn migrating(world: &World, attempt: u32, plan: &mut Plan) -> Step {
    for claim in objects::claims(&world.release) {
        if !world.claims.iter().any(|there| there.name_any() == claim.name_any()) {
            plan.create(&claim);
        }
    }
    let (Some(wanted), Some(identity)) =
        (objects::command_job(&world.release, attempt), world.release.spec.command_identity.clone())
    else {
        return Step::new(ReleasePhase::RollingOut, Reason::RollingOut, "no release command");
    };
    let record = |outcome: &str, by: String| {
        Some(Migration { identity: identity.clone(), outcome: outcome.to_owned(), by })
    };
    let before = succeeded_before(world, &identity);
    if let Some(by) = before.filter(|_| !planted::is(Bug::CommandForgetsEarlierSuccess)) {
        let message = format!("the release command already succeeded for {by}");
        let step = Step::new(ReleasePhase::RollingOut, Reason::RollingOut, message);
        return Step { migration: record("Skipped", by), ..step };
    }
    let name = wanted.name_any();
    match world.job(&name).map(|job| outcome(job)) {
        None => {
            plan.create(&wanted);
            Step::new(ReleasePhase::Migrating, Reason::Migrating, format!("job {name} is created"))
        }
        Some(Outcome::Running) => {
            let message =
                pods::waiting_for(&world.pods_of_job(&name)).unwrap_or_else(|| format!("job {name} runs"));
            Step::new(ReleasePhase::Migrating, Reason::Migrating, message)
        }
        Some(Outcome::Succeeded) => {
            if let Some(job) = world.job(&name).filter(|_| planted::is(Bug::JobGoesBeforeItsRecord)) {
                plan.delete(job.as_ref());
            }
            let step =
                Step::new(ReleasePhase::RollingOut, Reason::RollingOut, "the release command succeeded");
            Step { migration: record("Succeeded", name), ..step }
        }
        Some(Outcome::Failed) => {
            let command =
                world.release.spec.release.as_ref().map(|step| step.command.clone()).unwrap_or_default();
            let pods = world.pods_of_job(&name);
            let failure = pods::command_failure(Reason::MigrationFailed, "release command", &command, &pods);
            Step { migration: record("Failed", name), ..Step::failed(failure, Reason::MigrationFailed) }
        }
    }
}

/// The Release, or the earlier attempt of this one, for which the command of this identity succeeded.
fn succeeded_before(world: &World, identity: &str) -> Option<String> {
    let mut all = world.releases().filter(|release| {
        let migration = release.status.as_ref().and_then(|status| status.migration.as_ref());
        migration.is_some_and(|migration| migration.identity == identity && migration.outcome != "Failed")
    });
    all.next().map(|release| release.name_any())
}

enum Outcome {
    Running,
    Succeeded,
    Failed,
}

fn outcome(job: &Job) -> Outcome {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is = |type_: &str| {
        conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    match (is("Complete"), is("Failed")) {
        (true, _) => Outcome::Succeeded,
        (_, true) => Outcome::Failed,
        _ => Outcome::Running,
    }
}

fn rolling_out(world: &World, app: &App, attempt: u32, plan: &mut Plan) -> Step {
    let wanted = ensure(world, &world.release, app, attempt, plan);
    if let Some((failure, reason)) = roll_out_failure(world, attempt, &wanted) {
        let phase =
            if world.serving_sibling().is_some() { ReleasePhase::RollingBack } else { ReleasePhase::Failed };
        return Step { phase, ..Step::failed(failure, reason) };
    }
    let pending: Vec<String> = wanted.iter().filter_map(|wanted| not_available(world, wanted)).collect();
    if !plan.actions.is_empty() || !pending.is_empty() {
        if world
            .pods
            .iter()
            .any(|pod| pods::waiting_for(&[pod]).is_some_and(|text| text.contains("listens on")))
        {
            plan.again_in(std::time::Duration::from_secs(pods::ELSEWHERE_S as u64));
        }
        return Step::new(ReleasePhase::RollingOut, Reason::RollingOut, pending.join("; "));
    }
    Step::new(ReleasePhase::Active, Reason::Serving, serving_text(&wanted))
}

fn serving_text(deployments: &[Deployment]) -> String {
    let part = |deployment: &Deployment| {
        let process = deployment.labels().get(dodai_api::names::LABEL_PROCESS).cloned().unwrap_or_default();
        format!("{process} {}", replicas(deployment))
    };
    deployments.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Puts the Services and Deployments of `release` in place; returns the Deployments as they must be.
fn ensure(world: &World, release: &Release, app: &App, attempt: u32, plan: &mut Plan) -> Vec<Deployment> {
    let mut changes = Plan::none();
    for service in objects::services(release, app) {
        let current = world.services.iter().find(|current| current.name_any() == service.name_any());
        changes.ensure(current.map(Arc::as_ref), &service);
    }
    let wanted = objects::deployments(release, app, attempt);
    for deployment in &wanted {
        changes.ensure(current(world, deployment), deployment);
    }
    carry_out(world, changes, plan);
    wanted
}

/// Adds changes of what serves. They hold only while this Release is what it was seen to be and nobody else took the Lease:
/// with a cache that is late two Releases would undo each other's changes.
fn carry_out(world: &World, changes: Plan, plan: &mut Plan) {
    if changes.actions.is_empty() {
        return;
    }
    if plan.actions.is_empty() {
        plan.confirm(world.release.as_ref());
        if let Some(lease) = &world.lease {
            plan.confirm(lease.as_ref());
        }
    }
    plan.actions.extend(changes.actions);
}

fn current<'a>(world: &'a World, wanted: &Deployment) -> Option<&'a Deployment> {
    world.deployments.iter().find(|current| current.name_any() == wanted.name_any()).map(Arc::as_ref)
}

/// What is still missing until a Deployment serves in its new form alone.
fn not_available(world: &World, wanted: &Deployment) -> Option<String> {
    let process = wanted.labels().get(dodai_api::names::LABEL_PROCESS).cloned().unwrap_or_default();
    let total = replicas(wanted);
    let Some(current) = current(world, wanted) else { return Some(format!("{process} 0 of {total} new")) };
    let is_current = covers(&to_json(current), &to_json(wanted));
    let status = current.status.clone().unwrap_or_default();
    let is_observed = status.observed_generation >= current.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    if is_current && is_observed && updated >= total && available >= total && all == updated {
        return None;
    }
    let new = if is_current && is_observed { updated.min(available) } else { 0 };
    let config = wanted
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let config = config.get(dodai_api::names::LABEL_CONFIG).cloned().unwrap_or_default();
    let pods: Vec<&Pod> =
        world.pods.iter().map(Arc::as_ref).filter(|pod| pods::runs(pod, &process, &config)).collect();
    let why = pods::waiting_for(&pods).map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("{process} {new} of {total} new, {} old{why}", (all - updated).max(0)))
}

fn to_json(deployment: &Deployment) -> serde_json::Value {
    dodai_kit::Object::new(deployment).value
}

fn roll_out_failure(world: &World, attempt: u32, wanted: &[Deployment]) -> Option<(Failure, Reason)> {
    let since = entered(&world.release, ReleasePhase::RollingOut).unwrap_or(world.now);
    for (name, process) in &world.release.spec.processes {
        let config = identity::of_process(&world.release.spec, process, attempt);
        let pods: Vec<&Pod> =
            world.pods.iter().map(Arc::as_ref).filter(|pod| pods::runs(pod, name, &config)).collect();
        if let Some(failure) = pods::process_failure(name, &pods, since, world.now) {
            return Some((failure.clone(), reason_of(&failure)));
        }
    }
    let stuck = wanted.iter().find(|wanted| current(world, wanted).is_some_and(deadline_exceeded))?;
    let failure = Failure {
        reason: Reason::ProgressDeadlineExceeded.into(),
        message: format!(
            "no progress within the deadline: {}",
            not_available(world, stuck).unwrap_or_default()
        ),
        log: Vec::new(),
        pod: None,
    };
    Some((failure, Reason::ProgressDeadlineExceeded))
}

fn reason_of(failure: &Failure) -> Reason {
    let reasons = [Reason::ProcessExited, Reason::CannotStart, Reason::ListensElsewhere];
    reasons
        .into_iter()
        .find(|reason| String::from(*reason) == failure.reason)
        .unwrap_or(Reason::ProcessExited)
}

fn deadline_exceeded(deployment: &Deployment) -> bool {
    let is_observed = deployment.status.as_ref().and_then(|status| status.observed_generation)
        >= deployment.metadata.generation;
    let conditions =
        deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    is_observed
        && conditions.iter().any(|condition| {
            condition.type_ == "Progressing"
                && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        })
}

/// Puts the Release that serves back in place, then fails with what went wrong.
fn rolling_back(world: &World, app: &App, plan: &mut Plan) -> Step {
    let failure = world.release.status.as_ref().and_then(|status| status.failure.clone()).unwrap_or_default();
    let reason = failed_reason(&failure);
    let Some(serving) = world.serving_sibling() else { return Step::failed(failure, reason) };
    let wanted = ensure(world, serving, app, attempt(serving), plan);
    remove_surplus(world, serving, plan);
    if plan.actions.is_empty() && wanted.iter().all(|wanted| current(world, wanted).is_some()) {
        return Step::failed(failure, reason);
    }
    let message = format!("{}; {} is put back", failure.message, serving.name_any());
    Step { failure: Some(failure), ..Step::new(ReleasePhase::RollingBack, Reason::RollingBack, message) }
}

fn failed_reason(failure: &Failure) -> Reason {
    if failure.reason == String::from(Reason::ProgressDeadlineExceeded) {
        return Reason::ProgressDeadlineExceeded;
    }
    reason_of(failure)
}

fn active(world: &World, app: &App, attempt: u32, plan: &mut Plan) -> Step {
    let newer = world
        .siblings
        .iter()
        .find(|other| other.phase() == ReleasePhase::Active && other.spec.number > world.release.spec.number);
    if let Some(newer) = newer {
        if planted::is(Bug::ClaimsAreDeleted) {
            world.claims.iter().for_each(|claim| plan.delete(claim.as_ref()));
        }
        return Step::new(
            ReleasePhase::Superseded,
            Reason::Superseded,
            format!("{} serves", newer.name_any()),
        );
    }
    let wanted = objects::deployments(&world.release, app, attempt);
    // Only while no other Release is on its way: it owns the Deployments then.
    if !world.siblings.iter().any(|other| is_on_its_way(other)) && holder_is_done(world, attempt) {
        let _ = ensure(world, &world.release, app, attempt, plan);
        remove_surplus(world, &world.release, plan);
    }
    if planted::is(Bug::StatusIsNeverTheSame) {
        plan.again_in(std::time::Duration::from_secs(600));
        let tens_of_minutes = (world.now.as_second() / 600).to_string();
        return Step::new(ReleasePhase::Active, Reason::Serving, tens_of_minutes);
    }
    Step::new(ReleasePhase::Active, Reason::Serving, serving_text(&wanted))
}

/// Whether whoever took the Lease last is this Release, or one that is known to have ended.
fn holder_is_done(world: &World, attempt: u32) -> bool {
    let Some(holder) = holder(world) else { return true };
    if holder == objects::lease_holder(&world.release, attempt) {
        return true;
    }
    lease_holder(world).is_some_and(|holder| holder.phase().is_settled())
}

/// Deletes Deployments and Services of processes that the Release does not have.
fn remove_surplus(world: &World, release: &Release, plan: &mut Plan) {
    if planted::is(Bug::SurplusStays) {
        return;
    }
    let keep: Vec<String> =
        release.spec.processes.keys().map(|process| format!("{}-{process}", release.spec.app)).collect();
    let mut changes = Plan::none();
    for deployment in &world.deployments {
        if !keep.contains(&deployment.name_any()) && deployment.metadata.deletion_timestamp.is_none() {
            changes.delete(deployment.as_ref());
        }
    }
    for service in &world.services {
        let process = service.labels().get(dodai_api::names::LABEL_PROCESS);
        let has_ports = process.and_then(|process| Some((process, release.spec.processes.get(process)?)));
        let is_wanted = has_ports.is_some_and(|(name, process)| !objects::ports(name, process).is_empty());
        if !is_wanted && service.metadata.deletion_timestamp.is_none() {
            changes.delete(service.as_ref());
        }
    }
    carry_out(world, changes, plan);
}

/// When the phase was entered in this attempt.
fn entered(release: &Release, phase: ReleasePhase) -> Option<Timestamp> {
    release.status.as_ref()?.entered.get(&phase.to_string())?.parse().ok()
}

/// Writes the status that a step leads to.
fn write(plan: &mut Plan, world: &World, attempt: u32, step: Step) {
    let before = world.release.status.clone().unwrap_or_default();
    let fresh = before.attempt.unwrap_or(1) != attempt;
    let mut status = ReleaseStatus {
        observed_generation: world.release.metadata.generation,
        phase: Some(step.phase),
        attempt: Some(attempt),
        entered: if fresh { Default::default() } else { before.entered },
        migration: step.migration.or(before.migration.filter(|_| !planted::is(Bug::StatusForgetsSuccess))),
        failure: step.failure,
        conditions: Vec::new(),
    };
    // A failed command of an earlier attempt is no longer news; a success stays for ever.
    if fresh && status.migration.as_ref().is_some_and(|migration| migration.outcome == "Failed") {
        status.migration = None;
    }
    status.entered.entry(step.phase.to_string()).or_insert_with(|| world.now.to_string());
    plan.set_status(&status);
    let ready = step.phase == ReleasePhase::Active;
    let stalled = step.phase == ReleasePhase::Failed;
    let condition = |type_: &str, status: bool, message: &str| Condition {
        observed_generation: world.release.metadata.generation,
        ..Condition::new(type_, status, step.reason, message)
    };
    plan.conditions = vec![
        condition("Ready", ready, &step.message),
        condition(
            "Reconciling",
            !step.phase.is_settled(),
            if step.phase.is_settled() { "" } else { &step.message },
        ),
        condition("Stalled", stalled, if stalled { &step.message } else { "" }),
    ];
}
