//! The engine under simulation: an EncryptedSecret whose versions come and go, a KMS that fails, and people who meddle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_api::EncryptedSecret;
use dodai_apiserver::testing::{
    Call, Change, Instance, Scenario, Sim, Step, World, deletes_by_uid, describe, generation_goes_on,
};
use dodai_kit::{Clock, Context};
use dodai_secrets::error::{KmsError, KmsErrorKind};
use dodai_secrets::file::change;
use dodai_secrets::planted::{self, Bug};
use dodai_secrets::seal::{Keyring, Kms, Recipient};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::support::{Person, person, sealing};

const ENCRYPTED: &str = "encryptedsecrets.dodai.dev";
const ROLES: &str = "roles.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const NAME: &str = "payments";
const READERS: &str = "payments-secret-readers";
const ARN: &str = "arn:aws:kms:eu-central-1:123456789012:key/4b2c6a6e-0000-4000-8000-000000000000";
/// Begins every value, and stands nowhere but in Secrets.
const MARKER: &str = "marker-9k2";
/// A key that somebody puts into the Secret by hand.
const MEDDLED: &str = "MEDDLED";
/// Steps that a run may leave out.
const LESS_MAX: u32 = 8;

/// One version of the object: what its Secret must hold, unless a value does not open.
struct Version {
    data: BTreeMap<String, String>,
    type_: &'static str,
    has_reader: bool,
    opens: bool,
    object: Value,
}

/// What is sealed once for all runs.
struct Sealed {
    person: Person,
    versions: Vec<Version>,
}

/// The versions. The first call seals, with the randomness of its thread: make it before any run.
pub(crate) fn prepare() {
    sealed();
}

fn sealed() -> &'static Sealed {
    static SEALED: OnceLock<Sealed> = OnceLock::new();
    SEALED.get_or_init(|| {
        let person = person();
        let by_age = [person.recipient.clone()];
        let by_kms = [Recipient::parse(ARN).unwrap()];
        let keyring = Keyring { kms: Some(Arc::new(FakeKms(None))), ..person.keyring.clone() };
        let version = |values: &[(&str, &str)], recipients: &[Recipient], type_: &'static str| {
            let mut text = change::create("default", NAME);
            if type_ != "Opaque" {
                text.push_str(&format!("spec:\n  template: {{type: {type_}}}\n"));
            }
            let mut data = BTreeMap::new();
            for (key, value) in values {
                let value = format!("{MARKER}-{value}");
                let sealing = sealing(&keyring, recipients);
                text = change::set(&text, None, key, value.as_bytes(), false, &sealing).unwrap();
                data.insert((*key).to_owned(), value);
            }
            let object = dodai_yaml::from_str_json(&text).unwrap();
            Version { data, type_, has_reader: false, opens: true, object }
        };
        let mut read = version(&[("A", "a1"), ("B", "b0")], &by_age, "Opaque");
        read.has_reader = true;
        read.object["spec"]["readers"] = json!([{ "serviceAccount": "web" }]);
        // A value that stands under the key of another does not open.
        let mut bad = version(&[("A", "a5"), ("B", "b5")], &by_age, "Opaque");
        bad.opens = false;
        bad.object["spec"]["data"]["A"] = bad.object["spec"]["data"]["B"].clone();
        let versions = vec![
            version(&[("A", "a0"), ("B", "b0")], &by_age, "Opaque"),
            version(&[("A", "a1"), ("B", "b0")], &by_age, "Opaque"),
            version(&[("A", "a1"), ("C", "c2")], &by_age, "Opaque"),
            read,
            version(&[("username", "u4"), ("password", "p4")], &by_age, "kubernetes.io/basic-auth"),
            bad,
            version(&[("A", "a6"), ("B", "b6")], &by_kms, "Opaque"),
        ];
        Sealed { person, versions }
    })
}

/// KMS as far as it goes here: what it wraps names its context, and in a run it fails as is picked.
struct FakeKms(Option<Sim>);

impl Kms for FakeKms {
    fn decrypt(
        &self,
        arn: &str,
        wrapped: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let fails = |kind: KmsErrorKind| Err(KmsError { kind, message: format!("{kind:?}") });
        match self.0.as_ref().map_or(0, |sim| sim.pick(8)) {
            1 => return fails(KmsErrorKind::Pending),
            2 => return fails(KmsErrorKind::Throttled),
            3 => return fails(KmsErrorKind::Unreachable),
            4 => return fails(KmsErrorKind::Denied),
            5 => return fails(KmsErrorKind::Unusable),
            _ => {}
        }
        let (said, key): (String, Vec<u8>) = serde_json::from_slice(wrapped).unwrap();
        if said != format!("{arn} {context:?}") {
            return fails(KmsErrorKind::WrongContext);
        }
        Ok(Zeroizing::new(key))
    }

    fn encrypt(
        &self,
        arn: &str,
        plain: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, KmsError> {
        Ok(serde_json::to_vec(&(format!("{arn} {context:?}"), plain)).unwrap())
    }
}

/// The scenario; one value is one run.
#[derive(Default)]
pub(crate) struct Secrets {
    bug: Option<Bug>,
    seen: Arc<Mutex<Seen>>,
}

/// What invariants remember.
#[derive(Default)]
struct Seen {
    /// The versions of each object (uid), in the order in which it had them.
    versions: BTreeMap<String, Vec<usize>>,
    /// How far in that order its Secret is.
    reached: BTreeMap<String, usize>,
    /// Versions whose values the Secret of an object has held.
    written: BTreeSet<(String, usize)>,
    /// Somebody deletes the Secret by hand.
    by_hand: bool,
}

impl Secrets {
    pub(crate) fn with(bug: Bug) -> Secrets {
        Secrets { bug: Some(bug), ..Secrets::default() }
    }
}

impl Scenario for Secrets {
    fn set_up(&self, sim: &Sim) -> BoxFuture<'static, Result<(), String>> {
        planted::plant(self.bug);
        let definitions: Api<CustomResourceDefinition> = Api::all(sim.admin());
        async move {
            for definition in dodai_api::crds::all() {
                let made = definitions.create(&PostParams::default(), &definition).await;
                made.map_err(|error| error.to_string())?;
            }
            Ok(())
        }
        .boxed()
    }

    fn start(&self, sim: &Sim, client: kube::Client) -> Instance {
        let clock = sim.clock();
        let mut context = Context::new(client, Clock::told(move || clock.now()));
        let kms = Some(Arc::new(FakeKms(Some(sim.clone()))) as Arc<dyn Kms>);
        context.outside = context.outside.with(Arc::new(Keyring { kms, ..sealed().person.keyring.clone() }));
        dodai_secrets::engine().run_until_dropped(&context)
    }

    fn script(&self, sim: &Sim) -> Vec<Step> {
        let (by_hand, in_the_way) = (self.seen.clone(), self.seen.clone());
        let mut steps = vec![
            Step::new("create the object", |sim| apply(sim, 0)),
            Step::new("change a value", |sim| apply(sim, 1)),
            Step::new("give it a reader", |sim| apply(sim, 3)),
            Step::new("take a value out", |sim| apply(sim, 2)),
            Step::new("change the Secret by hand", meddle),
            Step::new("seal it for KMS", |sim| apply(sim, 6)),
            Step::new("spoil a value", |sim| apply(sim, 5)),
            Step::new("delete the Secret by hand", move |sim| delete_secret(sim, by_hand.clone())),
            Step::new("change its type", |sim| apply(sim, 4)),
            Step::new("delete the object", delete),
            Step::new("put another Secret in its way", block),
            Step::new("create it under the same name", |sim| apply(sim, 0)),
            Step::new("take the other Secret away", move |sim| unblock(sim, in_the_way.clone())),
            Step::new("change it back", |sim| apply(sim, 0)),
        ];
        // The first stays, and the last: in the end there is an object.
        sim.leave_out(&mut steps, sim.pick(LESS_MAX), 1, 1);
        steps
    }

    fn call(&self, call: &Call) -> Result<(), String> {
        deletes_by_uid(call)
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        generation_goes_on(change)?;
        let (before, after) = (change.before.at(change.id), change.after.at(change.id));
        match (change.id.resource.as_str(), after) {
            (ENCRYPTED, Some(object)) => self.object(object),
            ("secrets", after) if change.id.name == NAME => self.secret(change.after, before, after),
            _ => Ok(()),
        }
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        let missing = serves(world);
        missing.map_err(|what| format!("{what}{}", describe(world, &[ENCRYPTED, ROLES, BINDINGS])))
    }

    fn secrets(&self) -> Vec<String> {
        vec![MARKER.to_owned()]
    }
}

impl Secrets {
    /// Which versions it has had, and that it is ready only after its Secret was written.
    fn object(&self, object: &Value) -> Result<(), String> {
        let (uid, version) = (text(&object["metadata"]["uid"]), version_of(object));
        let mut seen = self.seen.lock().unwrap();
        let had = seen.versions.entry(uid.clone()).or_default();
        if had.last() != Some(&version) {
            had.push(version);
        }
        let is_of_now = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        if is_of_now && is_ready(object) && !seen.written.iter().any(|(of, _)| *of == uid) {
            return Err(format!("{NAME} is ready, and there was no Secret yet"));
        }
        Ok(())
    }

    fn secret(&self, world: &World, before: Option<&Value>, after: Option<&Value>) -> Result<(), String> {
        let mut seen = self.seen.lock().unwrap();
        if let Some(before) = before
            && !goes_well(world, &mut seen, before, after)
        {
            let whose = if owner(before).is_some() { "the Secret" } else { "somebody's Secret" };
            let how = if after.is_some() { "was taken over" } else { "went" };
            return Err(format!("{whose} {NAME} {how}"));
        }
        let Some(secret) = after else { return Ok(()) };
        let Some(uid) = owner(secret) else { return Ok(()) };
        let data = data_of(secret);
        if data.contains_key(MEDDLED) {
            return Ok(());
        }
        let had = seen.versions.get(&uid).cloned().unwrap_or_default();
        let holds = |version: &usize| {
            let version = &sealed().versions[*version];
            version.opens && version.data == data
        };
        let Some(newest) = had.iter().rposition(holds) else {
            let keys: Vec<&String> = data.keys().collect();
            return Err(format!("the Secret holds {keys:?}, which is no version that its object has had"));
        };
        let reached = seen.reached.entry(uid.clone()).or_insert(0);
        if newest < *reached {
            return Err(format!("the Secret went back from version {} to {}", had[*reached], had[newest]));
        }
        *reached = newest;
        seen.written.insert((uid, had[newest]));
        Ok(())
    }
}

/// Whether this may happen to a Secret that is there.
fn goes_well(world: &World, seen: &mut Seen, before: &Value, after: Option<&Value>) -> bool {
    let uid = owner(before);
    match (uid, after) {
        // Nobody but people touches what is not ours.
        (None, Some(after)) => data_of(before) == data_of(after) && owner(after).is_none(),
        (None, None) => std::mem::take(&mut seen.by_hand),
        (Some(uid), Some(after)) => owner(after) == Some(uid),
        // It goes with its object, for another type that this has had (a request may be on its way when that changes
        // back), or because somebody deletes it.
        (Some(uid), None) => {
            seen.reached.remove(&uid);
            let object = world.get(ENCRYPTED, "default", NAME);
            let object = object.filter(|object| object["metadata"]["uid"] == *uid);
            let had = seen.versions.get(&uid).into_iter().flatten();
            let has_other_type =
                had.copied().any(|version| before["type"] != sealed().versions[version].type_);
            object.is_none() || has_other_type || std::mem::take(&mut seen.by_hand)
        }
    }
}

/// Whether all is as the object says.
fn serves(world: &World) -> Result<(), String> {
    let object = world.get(ENCRYPTED, "default", NAME).ok_or("there is no object")?;
    if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
        return Err("the status is of an earlier spec".to_owned());
    }
    let version = &sealed().versions[version_of(object)];
    let has_readers =
        [ROLES, BINDINGS].iter().filter(|kind| world.get(kind, "default", READERS).is_some()).count();
    if has_readers != if version.has_reader { 2 } else { 0 } {
        return Err(format!("{has_readers} objects for its readers"));
    }
    let secret = world.get("secrets", "default", NAME);
    let is_foreign = secret.is_some_and(|secret| owner(secret).is_none());
    let reason = ready(object).map_or("", |ready| ready["reason"].as_str().unwrap_or_default());
    let wanted = match (version.opens, is_foreign) {
        (false, _) => "ValueRefused",
        (true, true) => "SecretNotOurs",
        (true, false) => "Written",
    };
    if reason != wanted {
        return Err(format!("it says {reason}, not {wanted}"));
    }
    if wanted == "Written" {
        let secret = secret.ok_or("there is no Secret")?;
        if data_of(secret) != version.data || secret["type"] != version.type_ {
            return Err("the Secret is another".to_owned());
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn version_of(object: &Value) -> usize {
    text(&object["metadata"]["labels"]["version"]).parse().unwrap()
}

fn ready(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

fn is_ready(object: &Value) -> bool {
    ready(object).is_some_and(|ready| ready["status"] == "True")
}

/// The uid of the object that controls it.
fn owner(secret: &Value) -> Option<String> {
    secret["metadata"]["ownerReferences"][0]["uid"].as_str().map(str::to_owned)
}

fn data_of(secret: &Value) -> BTreeMap<String, String> {
    let entries = secret["data"].as_object().into_iter().flatten();
    let decode = |value: &Value| String::from_utf8(STANDARD.decode(text(value)).unwrap()).unwrap();
    entries.map(|(key, value)| (key.clone(), decode(value))).collect()
}

async fn apply(sim: Sim, version: u32) -> Result<(), String> {
    let versions = &sealed().versions;
    let version = (version + sim.pick(versions.len() as u32)) as usize % versions.len();
    let mut object = versions[version].object.clone();
    object["metadata"]["labels"] = json!({ "version": version.to_string() });
    let objects: Api<EncryptedSecret> = Api::default_namespaced(sim.admin());
    let params = PatchParams::apply("person").force();
    objects.patch(NAME, &params, &Patch::Apply(object)).await.map(drop).map_err(|error| error.to_string())
}

/// Somebody puts a value of their own into the Secret.
async fn meddle(sim: Sim) -> Result<(), String> {
    let patch = Patch::Merge(json!({ "stringData": { MEDDLED: "by hand" } }));
    gone_is_fine(secrets(&sim).patch(NAME, &PatchParams::default(), &patch).await.map(drop))
}

async fn delete_secret(sim: Sim, seen: Arc<Mutex<Seen>>) -> Result<(), String> {
    let Some(found) = secrets(&sim).get_opt(NAME).await.map_err(|error| error.to_string())? else {
        return Ok(());
    };
    seen.lock().unwrap().by_hand = true;
    let params = DeleteParams::default()
        .preconditions(kube::api::Preconditions { uid: found.metadata.uid, resource_version: None });
    gone_is_fine(secrets(&sim).delete(NAME, &params).await.map(drop))
}

/// Somebody takes the name.
async fn block(sim: Sim) -> Result<(), String> {
    let secret = json!({ "metadata": { "name": NAME }, "stringData": { "foreign": "somebody's" } });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    match secrets(&sim).create(&PostParams::default(), &secret).await {
        // Ours is still there.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        result => result.map(drop).map_err(|error| error.to_string()),
    }
}

async fn unblock(sim: Sim, seen: Arc<Mutex<Seen>>) -> Result<(), String> {
    let is_foreign =
        sim.look(|world| world.get("secrets", "default", NAME).is_some_and(|secret| owner(secret).is_none()));
    if is_foreign { delete_secret(sim, seen).await } else { Ok(()) }
}

async fn delete(sim: Sim) -> Result<(), String> {
    let objects: Api<EncryptedSecret> = Api::default_namespaced(sim.admin());
    gone_is_fine(objects.delete(NAME, &DeleteParams::background()).await.map(drop))
}

fn secrets(sim: &Sim) -> Api<Secret> {
    Api::default_namespaced(sim.admin())
}

fn gone_is_fine(result: kube::Result<()>) -> Result<(), String> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}
