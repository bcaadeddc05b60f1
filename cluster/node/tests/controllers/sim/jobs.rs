//! Jobs under simulation: what people do with one, what must hold after every write and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use dodai_apiserver::testing::{
    Call, Change, Instance, Scenario, Sim, Step, World, deletes_by_uid, describe, generation_goes_on,
};
use dodai_node::controllers::job::FINALIZER;
use dodai_node::controllers::planted::{self, Bug};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::collecting;
use super::kubelet::{
    self, JOBS, PODS, Wanted, controller_uid, expect, has_finalizer, is_bound, is_marked, is_over, name,
    text, uid,
};
use super::roll_outs::some_way;

/// Steps that a run may leave out.
const LESS_MAX: u32 = 7;
const UNWANTED: &str = "node.dodai.dev/job-unwanted";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The exit code that counts for nothing, where there is a policy.
const IGNORED: i64 = 9;

/// The scenario; one value is one run.
#[derive(Default)]
pub(crate) struct Jobs {
    bug: Option<Bug>,
    wanted: Wanted,
    seen: Mutex<Seen>,
}

/// What invariants remember.
#[derive(Default)]
struct Seen {
    /// By uid, those that have gone too.
    jobs: BTreeMap<String, Record>,
    /// How each Job that there is stands, by name.
    states: BTreeMap<String, State>,
    /// What an instance could know of a Job when it last listed Pods, by instance and name. The one before, too: it may
    /// have been for another reason since.
    looks: BTreeMap<(usize, String), [Look; 2]>,
}

/// A Job as it really went.
#[derive(Default)]
struct Record {
    /// Pods by uid that ended: how, and for which index.
    ended: BTreeMap<String, (Outcome, Option<i64>)>,
    /// Pods that were not wanted any more when the request for them arrived: its instance had looked when they were.
    late: BTreeSet<String>,
    /// `backoffLimitPerIndex`.
    index_limit: Option<i64>,
    /// Whether a policy says that one exit code counts for nothing.
    ignores: bool,
    /// Pods whose deletion was begun after they had been marked as not wanted.
    unwanted: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
    Ignored,
}

/// What an instance saw.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    /// The states of that moment: what is written in the same millisecond may have been seen or not.
    states: Vec<State>,
    /// Pods that were asked for since then, and whether that was right.
    asked: BTreeMap<String, bool>,
}

/// Whether a Job wants one more Pod.
#[derive(Clone, Debug, PartialEq)]
struct State {
    uid: String,
    /// Why it wants none.
    refuses: Option<String>,
    /// How many more there is room for: as many run as may, or as many have succeeded and run as are to succeed.
    room: i64,
    /// Indexes that have their Pod, or have succeeded.
    busy: BTreeSet<i64>,
}

impl State {
    /// Why it wants no Pod of this index beside those that were `asked` for already.
    fn refuses(&self, index: Option<i64>, asked: i64) -> Option<String> {
        if let Some(why) = &self.refuses {
            return Some(why.clone());
        }
        if let Some(index) = index.filter(|index| self.busy.contains(index)) {
            return Some(format!("index {index} has one or needs none"));
        }
        (self.room <= asked).then(|| format!("there is room for {}", self.room))
    }
}

impl Jobs {
    pub(crate) fn with(bug: Bug) -> Jobs {
        Jobs { bug: Some(bug), ..Jobs::default() }
    }
}

impl Scenario for Jobs {
    fn set_up(&self, _: &Sim) -> BoxFuture<'static, Result<(), String>> {
        planted::plant(self.bug);
        collecting::begin();
        async { Ok(()) }.boxed()
    }

    fn start(&self, sim: &Sim, client: kube::Client) -> Instance {
        kubelet::run(sim, client, &["job", "job-orphan-pod"])
    }

    fn surroundings(&self, sim: &Sim) -> Instance {
        Box::pin(kubelet::play(sim.clone(), self.wanted.clone()))
    }

    /// Without faults the whole script; else a few of its steps, so that a run is short and there are many.
    fn script(&self, sim: &Sim) -> Vec<Step> {
        let job = || {
            let wanted = self.wanted.clone();
            move |sim: Sim| create(sim, wanted.clone())
        };
        let mut steps = vec![
            Step::new("create the Job", job()),
            Step::new("delete a Pod", delete_pod),
            Step::new("suspend it", |sim| patch(sim, json!({ "suspend": true }))),
            Step::new("resume it", |sim| patch(sim, json!({ "suspend": false }))),
            Step::new("change its parallelism", |sim| {
                let parallelism = sim.pick(5);
                patch(sim, json!({ "parallelism": parallelism }))
            }),
            Step::new("force a Pod away", force_pod),
            Step::new("delete the Job", delete),
            Step::new("create it under the same name", job()),
            Step::new("delete a Pod of it", delete_pod),
            Step::new("see that it runs", {
                let wanted = self.wanted.clone();
                move |sim| see_that_it_runs(sim, wanted.clone())
            }),
        ];
        sim.leave_out(&mut steps, sim.pick(LESS_MAX), 1, 1);
        steps
    }

    fn call(&self, call: &Call) -> Result<(), String> {
        deletes_by_uid(call)?;
        collecting::call(call);
        self.seen.lock().unwrap().call(call);
        Ok(())
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        generation_goes_on(change)?;
        collecting::always(change)?;
        let (before, after) = (change.before.at(change.id), change.after.at(change.id));
        let mut seen = self.seen.lock().unwrap();
        let result = match change.id.resource.as_str() {
            PODS => seen.pod(change.after, before, after),
            JOBS => seen.job(before, after),
            _ => Ok(()),
        };
        seen.look(change.after);
        result.map_err(|what| format!("{what}{}", describe(change.after, &[JOBS])))
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        let seen = self.seen.lock().unwrap();
        let missing = seen.finally(world);
        missing.map_err(|what| format!("{what}{}", describe(world, &[JOBS, PODS])))
    }
}

async fn create(sim: Sim, wanted: Wanted) -> Result<(), String> {
    let kind = sim.pick(6);
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "work" },
        "spec": {
            "completions": 3, "parallelism": 2, "backoffLimit": 2 + sim.pick(3),
            "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }] } },
        },
    });
    let spec = &mut job["spec"];
    if kind % 2 == 1 {
        spec["completionMode"] = "Indexed".into();
    }
    match kind {
        2 => spec["parallelism"] = 1.into(),
        3 => spec["backoffLimitPerIndex"] = sim.pick(3).into(),
        4 => spec["backoffLimit"] = 0.into(),
        5 => {
            let ignore =
                json!({ "action": "Ignore", "onExitCodes": { "operator": "In", "values": [IGNORED] } });
            spec["podFailurePolicy"] = json!({ "rules": [ignore] });
        }
        _ => {}
    }
    kubelet::make(&sim, &wanted, job).await;
    Ok(())
}

async fn see_that_it_runs(sim: Sim, wanted: Wanted) -> Result<(), String> {
    patch(sim.clone(), json!({ "suspend": false, "parallelism": 2 })).await?;
    if sim.look(|world| world.get(JOBS, "default", "work").is_none_or(is_marked)) {
        create(sim, wanted).await?;
    }
    Ok(())
}

async fn patch(sim: Sim, spec: Value) -> Result<(), String> {
    let jobs: Api<Job> = Api::default_namespaced(sim.admin());
    let patch = Patch::Merge(json!({ "spec": spec }));
    expect(&sim, jobs.patch("work", &PatchParams::default(), &patch).await);
    Ok(())
}

fn any_pod(sim: &Sim) -> Option<Value> {
    let pods: Vec<Value> = sim.look(|world| world.all(PODS).cloned().collect());
    (!pods.is_empty()).then(|| pods[sim.pick(pods.len() as u32) as usize].clone())
}

async fn delete_pod(sim: Sim) -> Result<(), String> {
    let Some(pod) = any_pod(&sim) else { return Ok(()) };
    collecting::delete(&sim, PODS, &pod, DeleteParams::default()).await;
    Ok(())
}

/// Somebody does not wait for the Node: nobody will tell how it ended.
async fn force_pod(sim: Sim) -> Result<(), String> {
    let Some(pod) = any_pod(&sim) else { return Ok(()) };
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    collecting::delete(&sim, PODS, &pod, now).await;
    Ok(())
}

async fn delete(sim: Sim) -> Result<(), String> {
    if let Some(job) = sim.look(|world| world.get(JOBS, "default", "work").cloned()) {
        collecting::delete(&sim, JOBS, &job, some_way(&sim)).await;
    }
    Ok(())
}

fn index(pod: &Value) -> Option<i64> {
    text(&pod["metadata"]["labels"][INDEX]).parse().ok()
}

/// It has not ended, nor was it deleted where nobody looks after it.
fn may_run(pod: &Value) -> bool {
    let is_let_go = !is_bound(pod) || pod["metadata"]["deletionGracePeriodSeconds"] == 0;
    !(is_over(pod) || is_marked(pod) && is_let_go)
}

fn has(job: &Value, type_: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|found| found["type"] == type_ && found["status"] == "True")
}

fn is_indexed(job: &Value) -> bool {
    job["spec"]["completionMode"] == "Indexed"
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn uncounted<'a>(job: &'a Value, how: &str) -> Vec<&'a str> {
    let list = job["status"]["uncountedTerminatedPods"][how].as_array();
    list.into_iter().flatten().map(text).collect()
}

/// The indexes of a text such as `0-2,4`.
fn indexes(list: &Value) -> BTreeSet<i64> {
    let mut indexes = BTreeSet::new();
    for part in text(list).split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        indexes.extend(first.parse::<i64>().unwrap()..=last.parse().unwrap());
    }
    indexes
}

/// Successes that the status tells of.
fn counted(job: &Value) -> i64 {
    match is_indexed(job) {
        true => indexes(&job["status"]["completedIndexes"]).len() as i64,
        false => number(&job["status"]["succeeded"]) + uncounted(job, "succeeded").len() as i64,
    }
}

impl Record {
    fn count(&self, how: Outcome) -> i64 {
        let of =
            |(uid, (outcome, _)): &(&String, &(Outcome, _))| *outcome == how && !self.unwanted.contains(*uid);
        self.ended.iter().filter(of).count() as i64
    }

    fn succeeded(&self) -> Vec<(&String, Option<i64>)> {
        let all = self.ended.iter().filter(|(_, (outcome, _))| *outcome == Outcome::Succeeded);
        all.map(|(uid, (_, index))| (uid, *index)).collect()
    }
}

impl Seen {
    /// How every Job stands now.
    fn look(&mut self, world: &World) {
        self.states = world.all(JOBS).map(|job| (name(job).to_owned(), self.state(world, job))).collect();
        let now = Some(Instant::now());
        for ((_, name), looks) in &mut self.looks {
            for look in looks.iter_mut().filter(|look| look.at == now) {
                look.states.extend(self.states.get(name).cloned());
            }
        }
    }

    fn state(&self, world: &World, job: &Value) -> State {
        let nothing = Record::default();
        let record = self.jobs.get(uid(job)).unwrap_or(&nothing);
        let spec = &job["spec"];
        let live: Vec<&Value> =
            world.all(PODS).filter(|pod| controller_uid(pod) == uid(job) && may_run(pod)).collect();
        let succeeded = record.succeeded();
        let over = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"]
            .into_iter()
            .find(|end| has(job, end));
        let failed = record.count(Outcome::Failed);
        // Those that run beside a new one may have failed without being seen yet.
        let unseen = number(&spec["parallelism"]) - 1;
        let too_many = failed > number(&spec["backoffLimit"]).saturating_add(unseen.max(0));
        let refuses = if is_marked(job) {
            Some("it is being deleted".to_owned())
        } else if let Some(over) = over {
            Some(format!("it is over: {over}"))
        } else if spec["suspend"] == true {
            Some("it is suspended".to_owned())
        } else if too_many {
            Some(format!("{failed} have failed"))
        } else {
            None
        };
        // Of two Pods that were made late for the same index both may succeed.
        let done = match is_indexed(job) {
            true => succeeded.iter().filter_map(|(_, index)| *index).collect::<BTreeSet<i64>>().len(),
            false => succeeded.len(),
        };
        let missing = number(&spec["completions"]) - done as i64;
        let room = missing.min(number(&spec["parallelism"])) - live.len() as i64;
        let busy =
            live.iter().filter_map(|pod| index(pod)).chain(succeeded.iter().filter_map(|(_, index)| *index));
        State { uid: uid(job).to_owned(), refuses, room, busy: busy.collect() }
    }

    fn call(&mut self, call: &Call) {
        let named = call.named();
        if call.verb() == "list" && named.resource == PODS {
            for (name, state) in &self.states {
                let look =
                    Look { at: Some(Instant::now()), states: vec![state.clone()], asked: BTreeMap::new() };
                let looks = self.looks.entry((call.instance, name.clone())).or_default();
                looks.swap(0, 1);
                looks[0] = look;
            }
        } else if call.verb() == "create" && named.resource == PODS {
            let pod = call.json();
            let owner = kubelet::controller(&pod).cloned().unwrap_or_default();
            let looks = self.looks.entry((call.instance, text(&owner["name"]).to_owned())).or_default();
            for look in looks {
                let asked = look.asked.len() as i64;
                let fits =
                    |state: &State| state.uid == owner["uid"] && state.refuses(index(&pod), asked).is_none();
                look.asked.insert(name(&pod).to_owned(), look.states.iter().any(fits));
            }
        }
    }

    fn pod(&mut self, world: &World, before: Option<&Value>, after: Option<&Value>) -> Result<(), String> {
        if let (None, Some(pod)) = (before, after) {
            self.pod_is_made(pod)?;
        }
        if let Some(pod) = after.filter(|pod| !controller_uid(pod).is_empty()) {
            self.pod_ends(world, pod)?;
        }
        let Some(before) = before.filter(|pod| has_finalizer(pod, FINALIZER)) else { return Ok(()) };
        match after {
            Some(after) if has_finalizer(after, FINALIZER) => Ok(()),
            _ => self.pod_is_counted(world, before),
        }
    }

    /// No Pod is made that its Job does not want, but by a request that was right when its instance looked.
    fn pod_is_made(&mut self, pod: &Value) -> Result<(), String> {
        let owner = kubelet::controller(pod).cloned().unwrap_or_default();
        let state = self.states.get(text(&owner["name"])).filter(|state| state.uid == owner["uid"]);
        let refused = match state {
            None => Some("its Job is gone".to_owned()),
            Some(state) => state.refuses(index(pod), 0),
        };
        let Some(why) = refused else { return Ok(()) };
        let mut looks = self.looks.values().flatten();
        if !looks.any(|look| look.asked.get(name(pod)) == Some(&true)) {
            return Err(format!("{} was made although {why}", name(pod)));
        }
        self.jobs.entry(text(&owner["uid"]).to_owned()).or_default().late.insert(uid(pod).to_owned());
        Ok(())
    }

    fn pod_ends(&mut self, world: &World, pod: &Value) -> Result<(), String> {
        let record = self.jobs.entry(controller_uid(pod).to_owned()).or_default();
        if pod["metadata"]["annotations"][UNWANTED].is_string() && is_marked(pod) {
            record.unwanted.insert(uid(pod).to_owned());
        }
        if may_run(pod) || record.ended.contains_key(uid(pod)) {
            return Ok(());
        }
        let code = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        let outcome = match text(&pod["status"]["phase"]) {
            "Succeeded" => Outcome::Succeeded,
            "Failed" if *code == IGNORED && record.ignores => Outcome::Ignored,
            _ => Outcome::Failed,
        };
        record.ended.insert(uid(pod).to_owned(), (outcome, index(pod)));
        let of_index = record.ended.iter().filter(|(uid, (outcome, of))| {
            *outcome == Outcome::Failed
                && *of == index(pod)
                && !record.unwanted.contains(*uid)
                && !record.late.contains(*uid)
        });
        if let Some(limit) = record.index_limit.filter(|limit| of_index.count() as i64 > limit + 1) {
            return Err(format!("index {:?} failed more than {} times", index(pod), limit + 1));
        }
        let in_time = record.succeeded().into_iter().filter(|(uid, _)| !record.late.contains(*uid));
        let in_time: Vec<Option<i64>> = in_time.map(|(_, index)| index).collect();
        let Some(job) = kubelet::by_uid(world, JOBS, controller_uid(pod)) else { return Ok(()) };
        if in_time.len() as i64 > number(&job["spec"]["completions"]) {
            return Err(format!("{} Pods succeeded, more than were asked for", in_time.len()));
        }
        if is_indexed(job) && in_time.iter().collect::<BTreeSet<_>>().len() < in_time.len() {
            return Err(format!("index {:?} succeeded twice", index(pod)));
        }
        Ok(())
    }

    /// What a Pod did is written down before it is let go of.
    fn pod_is_counted(&self, world: &World, pod: &Value) -> Result<(), String> {
        let Some(job) = kubelet::by_uid(world, JOBS, controller_uid(pod)) else { return Ok(()) };
        let record = &self.jobs[uid(job)];
        let is_over = has(job, "Complete") || has(job, "Failed");
        let is_written = match record.ended.get(uid(pod)) {
            Some((Outcome::Succeeded, Some(index))) => {
                indexes(&job["status"]["completedIndexes"]).contains(index)
            }
            Some((Outcome::Succeeded, None)) => uncounted(job, "succeeded").contains(&uid(pod)),
            Some((Outcome::Failed, _)) if !record.unwanted.contains(uid(pod)) => {
                uncounted(job, "failed").contains(&uid(pod))
            }
            Some(_) => true,
            None => false,
        };
        match is_written || is_over {
            true => Ok(()),
            false => Err(format!("{} was let go of, and what it did is not counted", name(pod))),
        }
    }

    fn job(&mut self, before: Option<&Value>, after: Option<&Value>) -> Result<(), String> {
        let Some(job) = after else { return Ok(()) };
        let record = self.jobs.entry(uid(job).to_owned()).or_default();
        record.ignores = job["spec"]["podFailurePolicy"].is_object();
        record.index_limit = job["spec"]["backoffLimitPerIndex"].as_i64();
        let (successes, failures) = (record.succeeded().len() as i64, record.count(Outcome::Failed));
        if counted(job) > successes {
            return Err(format!("{} successes are counted of {successes}", counted(job)));
        }
        let failed = number(&job["status"]["failed"]) + uncounted(job, "failed").len() as i64;
        if failed > failures {
            return Err(format!("{failed} failures are counted of {failures}"));
        }
        let Some(before) = before.filter(|before| uid(before) == uid(job)) else { return Ok(()) };
        if counted(job) < counted(before) {
            return Err(format!(
                "{} of {} successes are lost",
                counted(before) - counted(job),
                counted(before)
            ));
        }
        Ok(())
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        let Some(job) = world.get(JOBS, "default", "work").filter(|job| !is_marked(job)) else {
            return Err("there is no Job".to_owned());
        };
        let nothing = Record::default();
        let record = self.jobs.get(uid(job)).unwrap_or(&nothing);
        let (successes, failures) = (record.succeeded().len() as i64, record.count(Outcome::Failed));
        let (complete, failed) = (has(job, "Complete"), has(job, "Failed"));
        if complete == failed {
            return Err("it has no end".to_owned());
        }
        // What a late Pod did may have come after the end.
        let late = |how| {
            record.ended.iter().filter(|(uid, end)| end.0 == how && record.late.contains(*uid)).count() as i64
        };
        let fits = |told: &Value, of: i64, how| (of - late(how)..=of).contains(&number(told));
        if !fits(&job["status"]["succeeded"], successes, Outcome::Succeeded)
            || !fits(&job["status"]["failed"], failures, Outcome::Failed)
        {
            return Err(format!("{successes} succeeded and {failures} failed"));
        }
        let wanted = number(&job["spec"]["completions"]);
        let too_many = failures > number(&job["spec"]["backoffLimit"]);
        let failed_indexes = indexes(&job["status"]["failedIndexes"]);
        if complete && successes < wanted || failed && !too_many && failed_indexes.is_empty() {
            return Err("it has the wrong end".to_owned());
        }
        if number(&job["status"]["active"]) + number(&job["status"]["terminating"]) > 0 {
            return Err("it tells of Pods that run".to_owned());
        }
        for pod in world.all(PODS) {
            if controller_uid(pod) == uid(job) && (has_finalizer(pod, FINALIZER) || may_run(pod)) {
                return Err(format!("{} runs or is held", name(pod)));
            }
            if is_marked(pod) {
                return Err(format!("{} does not go", name(pod)));
            }
        }
        collecting::finally(world)
    }
}
