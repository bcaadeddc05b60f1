//! KMS against moto, and against answers that moto does not give (throttled, denied).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_secrets::error::KmsErrorKind;
use dodai_secrets::file::{change, keys};
use dodai_secrets::kms::Blocking;
use dodai_secrets::kms::aws::AwsKms;
use dodai_secrets::kms::cached::Cached;
use dodai_secrets::kms::credentials::{Credentials, Environment};
use dodai_secrets::seal::{Keyring, Kms, Recipient};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::live::{Cluster, PATIENCE};
use super::moto::Moto;
use super::support::{sealing, value};

pub(crate) fn credentials(key_id: &str) -> Credentials {
    Credentials {
        key_id: key_id.into(),
        secret_key: Zeroizing::new("test".into()),
        token: None,
        expires_at_s: None,
    }
}

fn client(moto: &Moto) -> Arc<AwsKms> {
    Arc::new(AwsKms::with(&moto.endpoint, credentials("test")))
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_wraps_data_keys_under_the_context_of_the_object() {
    let Some(moto) = Moto::start().await else { return };
    let arn = moto.key().await;
    assert!(arn.contains("eu-west-1"), "{arn}");
    let client = client(&moto);
    let keyring = Keyring { kms: Some(Arc::new(Blocking::new(client.clone()))), ..Keyring::default() };
    let recipients = [Recipient::parse(&arn).unwrap()];
    let by_kms = sealing(&keyring, &recipients);
    let empty = change::create("default", "payments");
    let one = change::set(&empty, None, "A", b"marker-one", false, &by_kms).unwrap();
    assert_eq!(client.calls(), 1, "one Encrypt");
    let two = change::set(&one, None, "B", b"marker-two", false, &by_kms).unwrap();
    assert_eq!(client.calls(), 2, "one Decrypt for the object");
    assert_eq!(value(&two, &keyring, "A").unwrap(), "marker-one");
    // What is wrapped is bound to the object: KMS itself refuses it elsewhere.
    let moved = two.replace("name: payments", "name: mine");
    let error = change::show(&moved, None, "A", &keyring).unwrap_err();
    assert!(error.message.contains("InvalidCiphertextException"), "{error}");
    // A direct call with another context, and with none.
    let wrapped = two.lines().find_map(|line| line.trim().strip_prefix("wrapped: ")).unwrap();
    let wrapped = STANDARD.decode(wrapped).unwrap();
    let other = BTreeMap::from([("dodai.dev/namespace".to_owned(), "default".to_owned())]);
    for context in [other, BTreeMap::new()] {
        let error = client.decrypt(&arn, &wrapped, &context).await.unwrap_err();
        assert_eq!(error.kind, KmsErrorKind::WrongContext, "{error:?}");
    }
    let again = keys::rekey(&two, &by_kms).unwrap();
    assert_eq!(value(&again, &keyring, "B").unwrap(), "marker-two");
    // A key that is not there.
    let gone = arn.replace(&arn[arn.len() - 4..], "0000");
    let error = client.encrypt(&gone, b"x", &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.kind, KmsErrorKind::Unusable, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_asks_kms_once_for_each_data_key() {
    let Some(moto) = Moto::start().await else { return };
    let arn = moto.key().await;
    let recipients = [Recipient::parse(&arn).unwrap()];
    let sealer = Keyring { kms: Some(Arc::new(Blocking::new(client(&moto)))), ..Keyring::default() };
    let by_kms = sealing(&sealer, &recipients);
    let client = client(&moto);
    let cached = Cached::new(client.clone(), tokio::runtime::Handle::current());
    let cluster = Cluster::start(Keyring { kms: Some(Arc::new(cached)), ..Keyring::default() }).await;
    let mut text = change::create("default", "payments");
    for (number, key) in ["A", "B", "C"].into_iter().enumerate() {
        text = change::set(&text, None, key, key.as_bytes(), false, &by_kms).unwrap();
        cluster.apply(&text).await;
        let has = |secret: Option<&Secret>| {
            secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data.len() == number + 1)
        };
        cluster.until::<Secret>("payments", "its value", has).await;
    }
    assert_eq!(client.calls(), 1, "three versions of one object, one data key");
}

/// A server that gives one answer after the other, the last one for ever.
async fn answers(answers: Vec<(u16, String)>) -> (String, Arc<AtomicUsize>) {
    let (endpoint, n, _) = recorded(answers).await;
    (endpoint, n)
}

/// The same, and what it was asked.
pub(crate) async fn recorded(
    answers: Vec<(u16, String)>,
) -> (String, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let n = Arc::new(AtomicUsize::new(0));
    let count = n.clone();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                head.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&head).into_owned();
                let length = text
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
                let body = text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
                let whole = text.contains("\r\n\r\n") && body >= length.unwrap_or(0);
                if read == 0 || whole {
                    kept.lock().unwrap().push(text);
                    break;
                }
            }
            let at = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (status, body) = &answers[at];
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (endpoint, n, heads)
}

fn refusal(name: &str) -> (u16, String) {
    (400, json!({"__type": name, "message": "said the service"}).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_kms_are_told_apart() {
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/abc";
    for (name, kind) in [
        ("com.amazonaws.kms#AccessDeniedException", KmsErrorKind::Denied),
        ("DisabledException", KmsErrorKind::Unusable),
        ("KMSInvalidStateException", KmsErrorKind::Unusable),
        ("NotFoundException", KmsErrorKind::Unusable),
        ("InvalidCiphertextException", KmsErrorKind::WrongContext),
        ("ThrottlingException", KmsErrorKind::Throttled),
        ("KMSInternalException", KmsErrorKind::Unreachable),
    ] {
        let (endpoint, _) = answers(vec![refusal(name)]).await;
        let error = AwsKms::with(&endpoint, credentials("test"))
            .decrypt(arn, b"x", &BTreeMap::new())
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{name}");
        assert!(error.message.contains("said the service"));
    }
    // A command waits and tries again; what is not throttled is not tried again.
    let good = (200, json!({"Plaintext": STANDARD.encode("key")}).to_string());
    let slow = refusal("ThrottlingException");
    let (endpoint, n) = answers(vec![slow.clone(), slow, good]).await;
    let blocking = Blocking::new(Arc::new(AwsKms::with(&endpoint, credentials("test"))));
    assert_eq!(blocking.decrypt(arn, b"x", &BTreeMap::new()).unwrap().as_slice(), b"key");
    assert_eq!(n.load(Ordering::SeqCst), 3);
    let (endpoint, n) = answers(vec![refusal("AccessDeniedException")]).await;
    let blocking = Blocking::new(Arc::new(AwsKms::with(&endpoint, credentials("test"))));
    assert!(blocking.decrypt(arn, b"x", &BTreeMap::new()).is_err());
    assert_eq!(n.load(Ordering::SeqCst), 1);
    // Nobody there, and nonsense.
    let nobody = AwsKms::with("http://127.0.0.1:1", credentials("test"));
    assert_eq!(
        nobody.decrypt(arn, b"x", &BTreeMap::new()).await.unwrap_err().kind,
        KmsErrorKind::Unreachable
    );
    let (endpoint, _) = answers(vec![(200, "nonsense".into())]).await;
    let odd = AwsKms::with(&endpoint, credentials("test"));
    assert_eq!(odd.decrypt(arn, b"x", &BTreeMap::new()).await.unwrap_err().kind, KmsErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_kept_for_a_while() {
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/abc";
    let (endpoint, n) = answers(vec![refusal("DisabledException")]).await;
    let client = Arc::new(AwsKms::with(&endpoint, credentials("test")));
    let cached = Cached::new(client, tokio::runtime::Handle::current());
    let ask = || cached.decrypt(arn, b"x", &BTreeMap::new()).unwrap_err().kind;
    assert_eq!(ask(), KmsErrorKind::Pending);
    let waiting = async {
        while ask() == KmsErrorKind::Pending {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    for _ in 0..10 {
        assert_eq!(ask(), KmsErrorKind::Unusable);
    }
    assert_eq!(n.load(Ordering::SeqCst), 1);
}

/// The credentials with which KMS was asked, found in an environment of these variables.
pub(crate) async fn asked_with(variables: &[(&str, String)]) -> Result<String, String> {
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/abc";
    let good = (200, json!({"Plaintext": STANDARD.encode("key")}).to_string());
    let (endpoint, _, heads) = recorded(vec![good]).await;
    let mut table: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    table.insert("AWS_ENDPOINT_URL_KMS".into(), endpoint);
    let client = AwsKms::in_environment(Environment::of(table));
    let answer = client.decrypt(arn, b"x", &BTreeMap::new()).await;
    answer.map_err(|error| error.message)?;
    let head = heads.lock().unwrap().first().cloned().unwrap_or_default();
    let id = head
        .split("Credential=")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_default()
        .to_owned();
    let token = head.to_lowercase().contains("x-amz-security-token: of-the-session");
    Ok(format!("{id}{}", if token { " with a token" } else { "" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_found_where_they_usually_are() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let nothing =
        [("HOME", folder.path().display().to_string()), ("AWS_EC2_METADATA_DISABLED", "true".into())];
    let with = |more: &[(&'static str, String)]| [&nothing[..], more].concat();
    let error = asked_with(&nothing).await.unwrap_err();
    assert!(error.contains("no credentials"), "{error}");

    let fixed = [("AWS_ACCESS_KEY_ID", "ENV".into()), ("AWS_SECRET_ACCESS_KEY", "s".into())];
    assert_eq!(asked_with(&with(&fixed)).await.unwrap(), "ENV");

    let sts = "<R><AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>of-the-session</SessionToken>\
               <Expiration>2099-01-01T00:00:00Z</Expiration></R>";
    let (sts, _, asked) = recorded(vec![(200, sts.into())]).await;
    let config = write(
        "config",
        "[default]\naws_access_key_id = PLAIN\naws_secret_access_key = s\n[profile prod]\nrole_arn = arn:aws:iam::1:role/x\n\
         source_profile = base\nexternal_id = id\n[profile loop]\nrole_arn = r\nsource_profile = loop2\n[profile loop2]\n\
         role_arn = r\nsource_profile = loop\n",
    );
    let credentials = write("credentials", "[base]\naws_access_key_id = BASE\naws_secret_access_key = s\n");
    let files = [
        ("AWS_CONFIG_FILE", config),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials),
        ("AWS_ENDPOINT_URL_STS", sts.clone()),
    ];
    let profile = |name: &str| with(&[&files[..], &[("AWS_PROFILE", name.to_owned())]].concat());
    assert_eq!(asked_with(&with(&files)).await.unwrap(), "PLAIN");
    assert_eq!(asked_with(&profile("prod")).await.unwrap(), "ROLE with a token");
    let call = asked.lock().unwrap().last().cloned().unwrap();
    assert!(
        call.contains("Action=AssumeRole&")
            && call.contains("Credential=BASE/")
            && call.contains("ExternalId=id"),
        "{call}"
    );
    assert!(asked_with(&profile("loop")).await.unwrap_err().contains("circle"));
    assert!(asked_with(&profile("absent")).await.unwrap_err().contains("`absent`"));

    let token = write("token", "a.web.identity");
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/web".into()),
        ("AWS_ENDPOINT_URL_STS", sts),
    ];
    assert_eq!(asked_with(&with(&web)).await.unwrap(), "ROLE with a token");
    let call = asked.lock().unwrap().last().cloned().unwrap();
    assert!(call.contains("AssumeRoleWithWebIdentity") && !call.contains("Credential="), "{call}");

    let json = |id: &str| {
        json!({"AccessKeyId": id, "SecretAccessKey": "s", "Token": "of-the-session", "Expiration": "2099-01-01T00:00:00Z"})
            .to_string()
    };
    let (container, _, asked) = recorded(vec![(200, json("POD"))]).await;
    let pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{container}/creds")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me-in".into()),
    ];
    assert_eq!(asked_with(&with(&pod)).await.unwrap(), "POD with a token");
    assert!(asked.lock().unwrap()[0].contains("authorization: let-me-in"));
    let far = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example.com/creds".into())];
    assert!(asked_with(&with(&far)).await.unwrap_err().contains("not allowed"));

    let (metadata, n, _) =
        recorded(vec![(200, "token".into()), (200, "role\n".into()), (200, json("INSTANCE"))]).await;
    let instance =
        [("HOME", folder.path().display().to_string()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)];
    assert_eq!(asked_with(&instance).await.unwrap(), "INSTANCE with a token");
    assert_eq!(n.load(Ordering::SeqCst), 3);
}
