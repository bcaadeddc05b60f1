//! SOPS files and SealedSecrets in the cluster, and on their way into EncryptedSecrets.

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_api::{SealedSecret, SopsSecret};
use dodai_secrets::seal::Keyring;
use dodai_secrets::seal::keyring::parse_identities;
use dodai_secrets::sealed::certificate::Certificate;
use dodai_secrets::sealed::{self, Error, parse_keys};
use dodai_secrets::sops::Format;
use dodai_secrets::{export, import};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rsa::{Oaep, RsaPrivateKey};
use serde_json::{Value, json};
use sha2_for_age::Sha256;

use super::live::Cluster;
use super::support::{file_with, opened, person, sealing, shared};

fn sops_keyring(fixtures: &std::path::Path, key: &str) -> Keyring {
    let text = std::fs::read_to_string(fixtures.join(format!("keys/{key}.txt"))).unwrap();
    Keyring::of(parse_identities(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sops_file_becomes_its_secrets_and_a_changed_one_leaves_them() {
    let Some(fixtures) = shared("testdata/sops-fixtures") else { return };
    let cluster = Cluster::start(sops_keyring(&fixtures, "age-a")).await;
    let document = std::fs::read_to_string(fixtures.join("made/kubernetes-secret/encrypted.yaml")).unwrap();
    let expected = std::fs::read_to_string(fixtures.join("made/kubernetes-secret/expected.yaml")).unwrap();
    let expected = dodai_yaml::from_str_json(&expected).unwrap();
    let name = expected["metadata"]["name"].as_str().unwrap().to_owned();
    let namespace = expected["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    if namespace != "default" {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client.clone());
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        namespaces.patch(&namespace, &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
    }
    let api: Api<SopsSecret> = Api::namespaced(cluster.client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &namespace);
    let apply = async |document: &str| {
        let object = json!({"apiVersion": "dodai.dev/v1alpha1", "kind": "SopsSecret",
                            "metadata": {"name": "file"}, "spec": {"document": document}});
        api.patch("file", &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    };
    let ready = async |wanted: bool| loop {
        let object = api.get("file").await.unwrap();
        let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
        let ready = conditions.into_iter().find(|one| one.type_ == "Ready");
        if let Some(ready) = ready
            && ready.observed_generation == object.metadata.generation
            && ready.is_true() == wanted
        {
            return ready;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    apply(&document).await;
    ready(true).await;
    let secret = secrets.get(&name).await.unwrap();
    let data = secret.data.clone().unwrap();
    for (key, value) in expected["stringData"].as_object().into_iter().flatten() {
        assert_eq!(data[key].0, value.as_str().unwrap().as_bytes());
    }
    assert!(!data.is_empty());
    apply(&document.replace("ENC[AES256_GCM,data:", "ENC[AES256_GCM,data:AAAA")).await;
    let told = ready(false).await;
    assert!(told.message.contains("stays as it was"), "{}", told.message);
    assert_eq!(secrets.get(&name).await.unwrap().metadata.resource_version, secret.metadata.resource_version);
}

#[test]
fn what_others_encrypted_becomes_encrypted_secrets() {
    let Some(fixtures) = shared("testdata/sops-fixtures") else { return };
    let alice = person();
    let recipients = [alice.recipient.clone()];
    let text = std::fs::read_to_string(fixtures.join("upstream/sopssecret-02/encrypted.yaml")).unwrap();
    let keyring = sops_keyring(&fixtures, "age-sops-secrets-operator");
    assert!(import::is_sops(&text));
    let secrets = import::secrets(&text, Format::Yaml, "x", &keyring).unwrap();
    assert!(!secrets.is_empty());
    for mut secret in secrets {
        secret.namespace.get_or_insert("default".into());
        let encrypted = secret.encrypt(&sealing(&alice.keyring, &recipients)).unwrap();
        let values = opened(&encrypted, &alice.keyring);
        assert_eq!(values.len(), secret.data.len());
        for (key, value) in values {
            let key = key.split_once('/').unwrap().1.to_owned();
            assert_eq!(*secret.data[&key], value);
        }
    }
    let env = std::fs::read_to_string(fixtures.join("made/dotenv/encrypted.env")).unwrap();
    let one = import::secrets(&env, Format::Dotenv, "env", &sops_keyring(&fixtures, "age-a")).unwrap();
    assert_eq!((one.len(), one[0].name.as_str()), (1, "env"));
    assert!(!import::is_sops(&file_with(&alice, &[("A", "sops mac ENC[AES256_GCM,")])));
}

/// As `kubeseal` encrypts.
fn seal(key: &RsaPrivateKey, label: &str, value: &[u8]) -> String {
    let session = [7_u8; 32];
    let padding = Oaep::new_with_label::<Sha256, _>(label);
    let mut random = chacha20poly1305::aead::OsRng;
    let wrapped = key.to_public_key().encrypt(&mut random, padding, &session).unwrap();
    let mut bytes = u16::try_from(wrapped.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(wrapped);
    let cipher = Aes256Gcm::new_from_slice(&session).unwrap();
    bytes.extend(cipher.encrypt(Nonce::from_slice(&[0; 12]), value).unwrap());
    STANDARD.encode(bytes)
}

fn sealed_secret(name: &str, value: &str, annotations: Value) -> SealedSecret {
    serde_json::from_value(json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"encryptedData": {"A": value}, "template": {"metadata": {"labels": {"of": "them"}}}},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_secret_opens_in_its_place_with_the_imported_key() {
    let key = RsaPrivateKey::new(&mut chacha20poly1305::aead::OsRng, 1024).unwrap();
    let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    // As upstream says to back the keys up.
    let backup = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"kind": "Secret", "data": {"tls.crt": "", "tls.key": STANDARD.encode(&pem)}}]});
    assert_eq!(parse_keys(&backup.to_string()).unwrap().len(), 1);
    assert!(parse_keys("nothing").is_err());
    let keyring = Keyring { sealing_keys: parse_keys(&pem).unwrap(), ..Keyring::default() };
    let open = |object: &SealedSecret| sealed::open(object, &keyring).map(|plain| plain.data["A"].to_vec());

    let strict = seal(&key, "default/mine", b"marker");
    assert_eq!(open(&sealed_secret("mine", &strict, json!({}))).unwrap(), b"marker");
    assert_eq!(open(&sealed_secret("other", &strict, json!({}))), Err(Error::Refused("A".into())));
    let wide = json!({"sealedsecrets.bitnami.com/cluster-wide": "true"});
    assert_eq!(open(&sealed_secret("mine", &strict, wide.clone())), Err(Error::Refused("A".into())));
    assert_eq!(open(&sealed_secret("any", &seal(&key, "", b"x"), wide)).unwrap(), b"x");
    let namespace = json!({"sealedsecrets.bitnami.com/namespace-wide": "true"});
    assert_eq!(open(&sealed_secret("any", &seal(&key, "default", b"x"), namespace)).unwrap(), b"x");
    for bad in ["", "AA==", "AAAA", "////", "not base64"] {
        assert!(open(&sealed_secret("mine", bad, json!({}))).is_err());
    }
    assert_eq!(
        sealed::open(&sealed_secret("mine", &strict, json!({})), &Keyring::default()).unwrap_err(),
        Error::NoKey
    );

    let cluster = Cluster::start(keyring).await;
    let api: Api<SealedSecret> = Api::namespaced(cluster.client.clone(), "default");
    let object = sealed_secret("mine", &strict, json!({}));
    api.patch("mine", &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
    let has = |secret: Option<&Secret>| {
        secret.and_then(|secret| secret.data.as_ref()?.get("A").map(|value| value.0.clone()))
            == Some(b"marker".to_vec())
    };
    let secret = cluster.until::<Secret>("mine", "the Secret", has).await.unwrap();
    assert_eq!(secret.metadata.labels.unwrap()["of"], "them");
}

#[test]
fn what_is_exported_opens_with_the_key_of_the_certificate() {
    let data = |name: &str| {
        std::fs::read_to_string(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name),
        )
        .unwrap()
    };
    let now: jiff::Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
    let certificate = Certificate::parse(&data("sealing.crt"), now).unwrap();
    let late = Certificate::parse(&data("sealing.crt"), "2200-01-01T00:00:00Z".parse().unwrap()).unwrap_err();
    assert!(late.contains("the certificate ended at 2126-"), "{late}");
    for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &data("sealing.key")] {
        assert!(Certificate::parse(bad, now).is_err());
    }
    let alice = person();
    let keyring = Keyring { sealing_keys: parse_keys(&data("sealing.key")).unwrap(), ..Keyring::default() };
    for scope in ["strict", "namespace", "cluster"] {
        let spec = format!(
            "spec:\n  scope: {scope}\n  template: {{type: team/x, metadata: {{labels: {{of: us}}}}}}"
        );
        let empty = change_to(&spec);
        let recipients = [alice.recipient.clone()];
        let by_alice = sealing(&alice.keyring, &recipients);
        let one = dodai_secrets::file::change::set(&empty, None, "A", b"marker", false, &by_alice).unwrap();
        let file = dodai_secrets::file::change::set(&one, None, "B", &[0, 255], false, &by_alice).unwrap();
        let text = export::sealed(&file, &alice.keyring, &certificate).unwrap();
        let object: SealedSecret = serde_json::from_value(dodai_yaml::from_str_json(&text).unwrap()).unwrap();
        let plain = sealed::open(&object, &keyring).unwrap();
        assert_eq!((plain.data["A"].as_slice(), plain.data["B"].as_slice()), (&b"marker"[..], &[0, 255][..]));
        assert_eq!((plain.type_.as_deref(), plain.labels["of"].as_str()), (Some("team/x"), "us"));
        let moved: SealedSecret = SealedSecret {
            metadata: kube::core::ObjectMeta { name: Some("other".into()), ..object.metadata.clone() },
            ..object
        };
        assert_eq!(sealed::open(&moved, &keyring).is_ok(), scope != "strict", "{scope}");
        let secret = export::plaintext(&file, &alice.keyring).unwrap();
        let secret = dodai_yaml::from_str_json(&secret).unwrap();
        assert_eq!((&secret["kind"], &secret["data"]["A"]), (&json!("Secret"), &json!("bWFya2Vy")));
        assert!(export::plaintext(&file, &person().keyring).is_err());
    }
    assert!(export::plaintext("a: b\n", &alice.keyring).is_err());
}

fn change_to(spec: &str) -> String {
    format!("{}{spec}\n", dodai_secrets::file::change::create("default", "mine"))
}

#[test]
fn what_kubectl_left_in_a_secret_is_not_carried_into_git() {
    let alice = person();
    let recipients = [alice.recipient.clone()];
    let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\n  namespace: ns\n  annotations:\n    keep: me\n    \
                kubectl.kubernetes.io/last-applied-configuration: |\n      {\"data\":{\"A\":\"bWFya2Vy\"}}\ndata: {A: bWFya2Vy}\n";
    let encrypted =
        dodai_secrets::file::convert::encrypt_secrets(text, &sealing(&alice.keyring, &recipients));
    let encrypted = encrypted.unwrap().unwrap();
    assert!(encrypted.contains("keep: me") && !encrypted.contains("bWFya2Vy"), "{encrypted}");
}
