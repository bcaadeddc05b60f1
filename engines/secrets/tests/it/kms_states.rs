//! What KMS does beyond encrypting: grants, disabled keys, too many calls. The state is moto's (keys, grants); that it is
//! kept to, which moto leaves out, is done by a small server before it, as AWS documents it. Calls are counted there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dodai_api::EncryptedSecret;
use dodai_secrets::error::KmsErrorKind;
use dodai_secrets::file::{change, keys};
use dodai_secrets::kms::Blocking;
use dodai_secrets::kms::aws::AwsKms;
use dodai_secrets::kms::cached::Cached;
use dodai_secrets::seal::{Keyring, Recipient};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::kms::credentials;
use super::live::{Cluster, PATIENCE};
use super::moto::Moto;
use super::support::{sealing, value};

/// Who has no policy, only what grants give.
const GRANTEE: &str = "grantee";
const GRANTEE_ARN: &str = "arn:aws:iam::123456789012:role/dodai";

/// The server before moto.
struct Guard {
    endpoint: String,
    /// `action name-of-the-object`, in the order of the calls.
    calls: Arc<Mutex<Vec<String>>>,
    /// How many calls more are answered with `ThrottlingException`.
    throttled: Arc<AtomicUsize>,
}

impl Guard {
    async fn start(moto: &Arc<Moto>) -> Guard {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let guard = Guard {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            calls: Arc::default(),
            throttled: Arc::default(),
        };
        let (moto, calls, throttled) = (moto.clone(), guard.calls.clone(), guard.throttled.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (moto, calls, throttled) = (moto.clone(), calls.clone(), throttled.clone());
                tokio::spawn(async move { answer(stream, &moto, &calls, &throttled).await });
            }
        });
        guard
    }

    fn client(&self, who: &str) -> Arc<AwsKms> {
        Arc::new(AwsKms::with(&self.endpoint, credentials(who)))
    }

    /// For a controller that forgets soon.
    fn controller(&self, who: &str) -> Keyring {
        let cached = Cached::new(self.client(who), tokio::runtime::Handle::current());
        // Longer than a pass waits for an answer, so that it sees a refusal; short enough for a test.
        let soon = Duration::from_secs(1);
        Keyring { kms: Some(Arc::new(cached.remembering(soon, soon))), ..Keyring::default() }
    }

    fn calls(&self, what: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| *call == what).count()
    }
}

async fn answer(mut stream: TcpStream, moto: &Moto, calls: &Mutex<Vec<String>>, throttled: &AtomicUsize) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 8192];
        let n = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        if n == 0 || body.len() >= length.unwrap_or(0_usize) {
            break (head, body.to_owned());
        }
    };
    let action = if head.contains("trentservice.decrypt") { "Decrypt" } else { "Encrypt" };
    let body: Value = serde_json::from_str(&body).unwrap();
    let name = body["EncryptionContext"]["dodai.dev/name"].as_str().unwrap_or("-");
    calls.lock().unwrap().push(format!("{action} {name}"));
    let by_grant = head.contains(&format!("credential={GRANTEE}/"));
    let refused = refusal(moto, action, &body, by_grant, throttled).await;
    let (status, answer) = match refused {
        Some(error) => (400, json!({"__type": error, "message": "said the guard"})),
        None => match moto.call(action, &body).await {
            good if good["__type"].is_null() => (200, good),
            bad => (400, bad),
        },
    };
    let answer = answer.to_string();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// What AWS would refuse, by the state that moto keeps.
async fn refusal(
    moto: &Moto,
    action: &str,
    body: &Value,
    by_grant: bool,
    throttled: &AtomicUsize,
) -> Option<&'static str> {
    let less = |n: usize| n.checked_sub(1);
    if throttled.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
        return Some("ThrottlingException");
    }
    let key = json!({"KeyId": body["KeyId"]});
    if by_grant {
        let grants = moto.call("ListGrants", &key).await["Grants"].as_array().cloned().unwrap_or_default();
        let context = &body["EncryptionContext"];
        let gives = |grant: &Value| {
            let does = grant["Operations"].as_array().is_some_and(|all| all.iter().any(|one| one == action));
            let subset =
                grant["Constraints"]["EncryptionContextSubset"].as_object().cloned().unwrap_or_default();
            does && grant["GranteePrincipal"] == GRANTEE_ARN
                && subset.iter().all(|(name, value)| context[name] == *value)
        };
        if !grants.iter().any(gives) {
            return Some("AccessDeniedException");
        }
    }
    let state = moto.call("DescribeKey", &key).await["KeyMetadata"]["KeyState"].clone();
    match state.as_str() {
        Some("Disabled") => Some("DisabledException"),
        Some("PendingDeletion") => Some("KMSInvalidStateException"),
        _ => None,
    }
}

/// Waits for this reason of `Ready`, about the present spec.
async fn reason(cluster: &Cluster, name: &str, wanted: &str) -> EncryptedSecret {
    let fits = |object: Option<&EncryptedSecret>| {
        let status = object.and_then(|object| object.status.as_ref());
        let ready = status.and_then(|status| status.conditions.iter().find(|one| one.type_ == "Ready"));
        let generation = object.and_then(|object| object.metadata.generation);
        ready.is_some_and(|ready| ready.reason == wanted && ready.observed_generation == generation)
    };
    cluster.until::<EncryptedSecret>(name, wanted, fits).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_one_object_opens_that_one_and_no_other() {
    let Some(moto) = Moto::start().await.map(Arc::new) else { return };
    let arn = moto.key().await;
    let guard = Guard::start(&moto).await;
    let admin = Keyring { kms: Some(Arc::new(Blocking::new(guard.client("admin")))), ..Keyring::default() };
    let recipients = [Recipient::parse(&arn).unwrap()];
    let by_kms = sealing(&admin, &recipients);
    let file = |name: &str| {
        change::set(&change::create("default", name), None, "A", b"marker", false, &by_kms).unwrap()
    };
    let (payments, billing) = (file("payments"), file("billing"));
    let granted = moto
        .call(
            "CreateGrant",
            &json!({"KeyId": arn, "GranteePrincipal": GRANTEE_ARN, "Operations": ["Decrypt"],
                    "Constraints": {"EncryptionContextSubset": {"dodai.dev/name": "payments", "dodai.dev/namespace": "default"}}}),
        )
        .await;
    let grantee = Keyring { kms: Some(Arc::new(Blocking::new(guard.client(GRANTEE)))), ..Keyring::default() };
    assert_eq!(value(&payments, &grantee, "A").unwrap(), "marker");
    let error = change::show(&billing, None, "A", &grantee).unwrap_err();
    assert!(error.message.contains("AccessDeniedException"), "{error}");
    // What is given to decrypt does not let one encrypt: nothing can be set in its name.
    let error = keys::rekey(&payments, &sealing(&grantee, &recipients)).unwrap_err();
    assert!(error.message.contains("AccessDeniedException"), "{error}");

    let cluster = Cluster::start(guard.controller(GRANTEE)).await;
    cluster.apply(&payments).await;
    cluster.apply(&billing).await;
    reason(&cluster, "payments", "Written").await;
    reason(&cluster, "billing", "KmsDenied").await;
    let first = cluster.until::<Secret>("payments", "it", |secret| secret.is_some()).await.unwrap();
    cluster.until::<Secret>("billing", "none", |secret| secret.is_none()).await;

    // Taken back: what was good stays, and is told.
    let revoke = json!({"KeyId": arn, "GrantId": granted["GrantId"]});
    moto.call("RevokeGrant", &revoke).await;
    nudged(&cluster, &payments, says(&cluster, "KmsDenied")).await;
    let next = change::set(&payments, None, "A", b"another", false, &by_kms).unwrap();
    cluster.apply(&next).await;
    reason(&cluster, "payments", "KmsDenied").await;
    let kept = cluster.until::<Secret>("payments", "it", |secret| secret.is_some()).await.unwrap();
    assert_eq!(kept.data, first.data);
}

/// The EncryptedSecret `payments`, once its status has a condition with this reason.
fn says(cluster: &Cluster, reason: &'static str) -> impl AsyncFn() -> Option<EncryptedSecret> {
    let api: kube::Api<EncryptedSecret> = kube::Api::namespaced(cluster.client.clone(), "default");
    async move || {
        let object = api.get("payments").await.unwrap();
        let conditions = &object.status.as_ref()?.conditions;
        conditions.iter().any(|one| one.reason == reason).then_some(object)
    }
}

/// Changes the object in what does not matter, again and again, until something is seen.
async fn nudged<T>(cluster: &Cluster, text: &str, seen: impl AsyncFn() -> Option<T>) -> T {
    let nudging = async {
        for round in 1.. {
            cluster.apply(&text.replace("spec:", &format!("spec:\n  rotateAfter: {round}d"))).await;
            if let Some(seen) = seen().await {
                return Some(seen);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    };
    tokio::time::timeout(PATIENCE, nudging).await.ok().flatten().expect("not seen in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_disabled_meanwhile_leaves_the_secret_and_opens_again_when_enabled() {
    let Some(moto) = Moto::start().await.map(Arc::new) else { return };
    let arn = moto.key().await;
    let guard = Guard::start(&moto).await;
    let admin = Keyring { kms: Some(Arc::new(Blocking::new(guard.client("admin")))), ..Keyring::default() };
    let recipients = [Recipient::parse(&arn).unwrap()];
    let by_kms = sealing(&admin, &recipients);
    let set =
        |text: &str, value: &str| change::set(text, None, "A", value.as_bytes(), false, &by_kms).unwrap();
    let one = set(&change::create("default", "payments"), "one");
    let (two, three) = (set(&one, "two"), set(&one, "three"));
    let is = |wanted: &'static str| {
        move |secret: Option<&Secret>| {
            let data = secret.and_then(|secret| secret.data.as_ref());
            data.is_some_and(|data| data["A"].0 == wanted.as_bytes())
        }
    };
    let cluster = Cluster::start(guard.controller("admin")).await;
    cluster.apply(&one).await;
    cluster.until::<Secret>("payments", "one", is("one")).await;

    // By its id: moto takes no ARN here.
    let key = json!({"KeyId": arn.rsplit('/').next()});
    moto.call("DisableKey", &key).await;
    let error = guard.client("admin").encrypt(&arn, b"x", &Default::default()).await.unwrap_err();
    assert_eq!(error.kind, KmsErrorKind::Unusable, "{error:?}");
    // The data key is remembered for a while; then KMS is asked again, and refuses.
    let told = nudged(&cluster, &one, says(&cluster, "KmsKeyUnusable")).await.status.unwrap();
    let ready = told.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert!(
        ready.message.contains("DisabledException") && ready.message.contains("stays as it was"),
        "{}",
        ready.message
    );
    cluster.apply(&two).await;
    reason(&cluster, "payments", "KmsKeyUnusable").await;
    cluster.until::<Secret>("payments", "still one", is("one")).await;

    moto.call("EnableKey", &key).await;
    // Too many calls meanwhile: made again, until one is answered.
    guard.throttled.store(2, Ordering::SeqCst);
    nudged(&cluster, &three, async || {
        let api: kube::Api<Secret> = kube::Api::namespaced(cluster.client.clone(), "default");
        is("three")(api.get_opt("payments").await.unwrap().as_ref()).then_some(())
    })
    .await;
    assert_eq!(guard.throttled.load(Ordering::SeqCst), 0);

    moto.call("ScheduleKeyDeletion", &json!({"KeyId": key["KeyId"], "PendingWindowInDays": 7})).await;
    let error = change::show(&three, None, "A", &admin).unwrap_err();
    assert!(error.message.contains("KMSInvalidStateException"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_costs_one_call_however_often_it_is_looked_at() {
    let Some(moto) = Moto::start().await.map(Arc::new) else { return };
    let arn = moto.key().await;
    let guard = Guard::start(&moto).await;
    let admin = Keyring { kms: Some(Arc::new(Blocking::new(guard.client("admin")))), ..Keyring::default() };
    let recipients = [Recipient::parse(&arn).unwrap()];
    let by_kms = sealing(&admin, &recipients);
    let names = ["one", "two", "three"];
    let mut files = Vec::new();
    for name in names {
        let mut text = change::create("default", name);
        for key in ["A", "B", "C", "D"] {
            text = change::set(&text, None, key, b"marker", false, &by_kms).unwrap();
        }
        files.push(text);
    }
    // A command: one `Encrypt` for the new key, then one `Decrypt` for each time that it is run.
    assert_eq!((guard.calls("Encrypt one"), guard.calls("Decrypt one")), (1, 3));
    guard.calls.lock().unwrap().clear();
    let cached = Cached::new(guard.client("admin"), tokio::runtime::Handle::current());
    let cluster = Cluster::start(Keyring { kms: Some(Arc::new(cached)), ..Keyring::default() }).await;
    for round in 0..3 {
        for (name, text) in names.iter().zip(&files) {
            cluster.apply(&text.replace("spec:", &format!("spec:\n  rotateAfter: {}d", 90 + round))).await;
            reason(&cluster, name, "Written").await;
        }
    }
    for name in names {
        assert_eq!(guard.calls(&format!("Decrypt {name}")), 1, "{name}");
    }
}
