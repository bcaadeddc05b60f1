//! Attacks on sealed values, each twice: refused as it should be, and succeeding when the one check that is there for it
//! is switched off. So no check is lost unseen, and none is there for show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dodai_api::dodai::encrypted_secret::{Scope, WrappedKey};
use zeroize::Zeroizing;

use super::checks::{Check, without};
use super::keyring::{Identity, Keyring, Kms};
use super::value::SealedValue;
use super::wrapping::{rewrap, unwrap, wrap};
use super::{Binding, DataKey, Recipient};
use crate::error::{Error, KmsError, KmsErrorKind};
use crate::file::back::Sealing;
use crate::file::{change, find_all, keys, view};
use crate::kms::Blocking;
use crate::kms::aws::AwsKms;
use crate::kms::credentials::Credentials;

const CREATED: &str = "2026-11-26T10:00:00Z";

fn home() -> Binding {
    Binding {
        scope: Scope::Strict,
        namespace: "shop".into(),
        name: "payments".into(),
        type_: "Opaque".into(),
    }
}

fn person() -> (Keyring, Recipient) {
    let identity = Identity::generate();
    let recipient = Recipient::parse(&identity.recipient().unwrap()).unwrap();
    (Keyring::of(vec![identity]), recipient)
}

/// Seals in one place, opens in another.
fn moved(from: (&Binding, &str), to: (&Binding, &str)) -> Result<Vec<u8>, Error> {
    let data_key = DataKey::generate().unwrap();
    let sealed = SealedValue::seal(&data_key, from.0, from.1, b"plain", 7).unwrap();
    let read = SealedValue::parse(&sealed.to_string()).unwrap();
    read.open(&data_key, to.0, to.1).map(|opened| opened.value.to_vec())
}

/// `attack` is refused, and succeeds without the check.
fn matters<T: std::fmt::Debug>(name: &str, check: Check, attack: impl Fn() -> Result<T, Error>) {
    assert!(attack().is_err(), "{name}: not refused");
    let weak = without(check, &attack);
    assert!(weak.is_ok(), "{name}: refused by something else too: {weak:?}");
}

#[test]
fn a_value_opens_only_in_its_place() {
    let at = home();
    assert_eq!(moved((&at, "TOKEN"), (&at, "TOKEN")).unwrap(), b"plain");
    let other = |change: fn(&mut Binding)| {
        let mut there = home();
        change(&mut there);
        there
    };
    matters("another key", Check::BindKey, || moved((&at, "TOKEN"), (&at, "OTHER")));
    let there = other(|there| there.namespace = "attacker".into());
    matters("another namespace", Check::BindNamespace, || moved((&at, "TOKEN"), (&there, "TOKEN")));
    let there = other(|there| there.name = "mine".into());
    matters("another name", Check::BindName, || moved((&at, "TOKEN"), (&there, "TOKEN")));
    // A type whose values others are shown, or that the API acts upon.
    let there = other(|there| there.type_ = "kubernetes.io/service-account-token".into());
    matters("another type", Check::BindType, || moved((&at, "TOKEN"), (&there, "TOKEN")));
}

#[test]
fn a_scope_cannot_be_widened() {
    // Cluster scope binds empty names, so that a strict object cannot be imitated; the scope itself is bound so that
    // an object without a name of its own (here: both empty) is still not taken for one of another scope.
    let strict = Binding { namespace: String::new(), name: String::new(), ..home() };
    let wide = Binding { scope: Scope::Cluster, ..strict.clone() };
    matters("a wider scope", Check::BindScope, || moved((&strict, "TOKEN"), (&wide, "TOKEN")));
    for scope in [Scope::Namespace, Scope::Cluster] {
        let wide = Binding { scope, ..home() };
        assert_eq!(moved((&home(), "TOKEN"), (&wide, "TOKEN")), Err(Error::Refused));
        assert_eq!(moved((&wide, "TOKEN"), (&home(), "TOKEN")), Err(Error::Refused));
    }
    // What each scope is for.
    let elsewhere = Binding { name: "other".into(), ..home() };
    let in_namespace = |at: &Binding| Binding { scope: Scope::Namespace, ..at.clone() };
    assert!(moved((&in_namespace(&home()), "T"), (&in_namespace(&elsewhere), "T")).is_ok());
    let far = Binding { scope: Scope::Cluster, namespace: "far".into(), ..elsewhere };
    assert!(moved((&Binding { scope: Scope::Cluster, ..home() }, "T"), (&far, "T")).is_ok());
    let far = Binding { scope: Scope::Namespace, ..far };
    assert_eq!(moved((&in_namespace(&home()), "T"), (&far, "T")), Err(Error::Refused));
}

#[test]
fn parts_cannot_be_shifted_into_each_other() {
    let one = Binding { namespace: "a".into(), name: "bc".into(), ..home() };
    let two = Binding { namespace: "ab".into(), name: "c".into(), ..home() };
    matters("namespace into name", Check::LengthPrefix, || moved((&one, "K"), (&two, "K")));
}

#[test]
fn the_key_id_of_a_value_is_bound() {
    let attack = || {
        let data_key = DataKey::generate().unwrap();
        let sealed = SealedValue::seal(&data_key, &home(), "K", b"plain", 7).unwrap();
        let foreign = DataKey::generate().unwrap().id();
        let text = sealed.to_string().replace(&data_key.id(), &foreign);
        SealedValue::parse(&text)?.open(&data_key, &home(), "K").map(|opened| opened.value.to_vec())
    };
    matters("another key id", Check::BindKeyId, attack);
}

#[test]
fn truncated_and_changed_values_are_refused() {
    let data_key = DataKey::generate().unwrap();
    let sealed = SealedValue::seal(&data_key, &home(), "K", b"a plain value", 7).unwrap().to_string();
    let open = |text: &str| SealedValue::parse(text).and_then(|value| value.open(&data_key, &home(), "K"));
    assert_eq!(&**open(&sealed).unwrap().value, b"a plain value");
    for end in 0..sealed.len() {
        assert!(open(&sealed[..end]).is_err(), "cut at {end}");
    }
    let mut bytes = sealed.clone().into_bytes();
    for at in 0..bytes.len() {
        let before = bytes[at];
        bytes[at] = if before == b'A' { b'B' } else { b'A' };
        assert!(open(std::str::from_utf8(&bytes).unwrap()).is_err(), "changed at {at}");
        bytes[at] = before;
    }
    // One value has one text: what base64 would also read is refused.
    for text in
        [format!("{sealed}="), format!("{sealed}\n"), format!(" {sealed}"), sealed.replace("v1:", "V1:")]
    {
        assert!(open(&text).is_err(), "{text:?}");
    }
}

#[test]
fn a_value_is_whole_or_nothing() {
    let data_key = DataKey::generate().unwrap();
    let sealed = SealedValue::seal(&data_key, &home(), "K", b"a plain value", 7).unwrap().to_string();
    let open = |text: &str| SealedValue::parse(text).and_then(|value| value.open(&data_key, &home(), "K"));
    matters("a value cut off", Check::Tag, || open(&sealed[..sealed.len() - 4]));
    let other = if sealed.as_bytes()[sealed.len() - 30] == b'A' { "B" } else { "A" };
    let mut changed = sealed.clone();
    changed.replace_range(sealed.len() - 30..sealed.len() - 29, other);
    matters("a value changed", Check::Tag, || open(&changed));
    // What one gets without: something else than was sealed.
    let got = without(Check::Tag, || open(&changed)).unwrap();
    assert_ne!(&**got.value, b"a plain value");
    assert_eq!(&**without(Check::Tag, || open(&sealed)).unwrap().value, b"a plain value");
}

#[test]
fn an_exchanged_data_key_is_refused() {
    let (keyring, recipient) = person();
    let attack = || {
        let ours = DataKey::generate().unwrap();
        let mut key = wrap(&ours, &home(), std::slice::from_ref(&recipient), CREATED, &keyring)?;
        // The attacker knows the public recipient, and wraps a key of his own under our id, with his own MAC.
        let his = DataKey::generate().unwrap();
        let forged = wrap(&his, &home(), std::slice::from_ref(&recipient), CREATED, &keyring)?;
        let id = key.id.clone();
        key = forged;
        key.id = id;
        key = rewrap(&his, &home(), &key, std::slice::from_ref(&recipient), &keyring)?;
        unwrap(&key, &home(), &keyring)
    };
    matters("a data key under a foreign id", Check::Commitment, attack);
}

#[test]
fn nobody_slips_into_the_recipients_or_drops_one() {
    let (keyring, alice) = person();
    let (_, bob) = person();
    let (_, eve) = person();
    let data_key = DataKey::generate().unwrap();
    let good = wrap(&data_key, &home(), &[alice.clone(), bob], CREATED, &keyring).unwrap();
    assert!(unwrap(&good, &home(), &keyring).is_ok());
    let with = |change: &dyn Fn(&mut WrappedKey)| {
        let mut key = good.clone();
        change(&mut key);
        key
    };
    // Eve puts herself in the list and hopes for the next `rotate`, which would wrap the key for her.
    let slipped_in = with(&|key| {
        key.recipients[1].age = Some(eve.to_string());
    });
    let hoped = || {
        let opened = unwrap(&slipped_in, &home(), &keyring)?;
        rewrap(&opened, &home(), &slipped_in, &[alice.clone(), eve.clone()], &keyring)
    };
    matters("a recipient exchanged", Check::RecipientsMac, hoped);
    let dropped = with(&|key| drop(key.recipients.pop()));
    matters("a recipient dropped", Check::RecipientsMac, || unwrap(&dropped, &home(), &keyring));
    let aged = with(&|key| key.created = "2030-01-01T00:00:00Z".into());
    matters("a younger date", Check::RecipientsMac, || unwrap(&aged, &home(), &keyring));
    // The whole key, put into another object, where somebody would seal new values with it.
    let elsewhere = Binding { name: "mine".into(), ..home() };
    matters("a key moved", Check::RecipientsMac, || unwrap(&good, &elsewhere, &keyring));
    let swapped = with(&|key| key.recipients.reverse());
    assert!(unwrap(&swapped, &home(), &keyring).is_err());
}

#[test]
fn rekey_ends_what_was_before() {
    let (alices, alice) = person();
    let (bobs, bob) = person();
    let both = [alice.clone(), bob];
    fn by<'a>(keyring: &'a Keyring, recipients: &'a [Recipient]) -> Sealing<'a> {
        Sealing { keyring, recipients, now_s: 7 }
    }
    let empty = change::create("shop", "payments");
    let before = change::set(&empty, None, "K", b"old", false, &by(&alices, &both)).unwrap();
    let old = find_all(&before).unwrap().remove(0);
    let old_value = old.data[0].text.clone().unwrap();
    // Bob keeps everything that he could read, then is removed.
    let bobs_key = unwrap(&old.spec.keys[0], &home(), &bobs).unwrap();
    let only_alice = [alice];
    let rekeyed = || keys::rekey(&before, &by(&alices, &only_alice)).unwrap();
    let set = |text: &str| change::set(text, None, "K", b"new", false, &by(&alices, &only_alice)).unwrap();
    let value = |text: &str| find_all(text).unwrap()[0].data[0].text.clone().unwrap();

    let reads_on = || SealedValue::parse(&value(&set(&rekeyed())))?.open(&bobs_key, &home(), "K");
    matters("what is sealed after a removal", Check::NewDataKey, reads_on);
    assert_eq!(&**without(Check::NewDataKey, reads_on).unwrap().value, b"new");
    let wrapped = find_all(&rekeyed()).unwrap()[0].spec.keys[0].clone();
    assert!(matches!(unwrap(&wrapped, &home(), &bobs), Err(Error::NoIdentity { .. })));

    // The old ciphertext put into the new object, by whoever can write git.
    let put_back = || {
        let after = set(&rekeyed());
        let text = after.replace(&value(&after), &old_value);
        let found = find_all(&text).unwrap().remove(0);
        view::open(&found, "K", &old_value, &alices)
    };
    matters("an old value put back", Check::OldKeysGo, put_back);
    assert_eq!(&**without(Check::OldKeysGo, put_back).unwrap().value, b"old");
    assert!(matches!(put_back(), Err(Error::UnknownKey(_))));
}

/// A KMS that keeps what it encrypted in a table, with the context.
#[derive(Default)]
struct TableKms(Mutex<Vec<Kept>>);

/// A plaintext and its context.
type Kept = (Vec<u8>, BTreeMap<String, String>);

impl Kms for TableKms {
    fn decrypt(
        &self,
        _: &str,
        wrapped: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let table = self.0.lock().unwrap();
        let entry = table.get(usize::from(wrapped[0]));
        match entry {
            Some((plain, bound)) if bound == context => Ok(Zeroizing::new(plain.clone())),
            _ => Err(KmsError { kind: KmsErrorKind::WrongContext, message: "context".into() }),
        }
    }

    fn encrypt(
        &self,
        _: &str,
        plain: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, KmsError> {
        let mut table = self.0.lock().unwrap();
        table.push((plain.to_vec(), context.clone()));
        Ok(vec![table.len() as u8 - 1])
    }
}

#[test]
fn kms_is_asked_with_the_context_of_the_object_that_asks() {
    let keyring = Keyring { kms: Some(Arc::new(TableKms::default())), ..Keyring::default() };
    let arn = Recipient::parse("arn:aws:kms:eu-west-1:111122223333:key/abc").unwrap();
    let data_key = DataKey::generate().unwrap();
    let good = wrap(&data_key, &home(), &[arn], CREATED, &keyring).unwrap();
    assert!(unwrap(&good, &home(), &keyring).is_ok());
    let elsewhere = Binding { namespace: "attacker".into(), ..home() };
    let refused = unwrap(&good, &elsewhere, &keyring).unwrap_err();
    assert!(
        matches!(&refused, Error::Kms { error, .. } if error.kind == KmsErrorKind::WrongContext),
        "{refused:?}"
    );
    // Without namespace and name in the context KMS decrypts for anybody; then only our own MAC is left.
    let weak = without(Check::KmsContext, || {
        let good = wrap(
            &data_key,
            &home(),
            &[Recipient::parse("arn:aws:kms:eu-west-1:111122223333:key/abc").unwrap()],
            CREATED,
            &keyring,
        )
        .unwrap();
        unwrap(&good, &elsewhere, &keyring).unwrap_err()
    });
    assert_eq!(weak, Error::RecipientsChanged(data_key.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_itself_refuses_a_data_key_that_was_moved() {
    let Some(moto) = super::moto::Moto::start().await else { return };
    let credentials = Credentials {
        key_id: "t".into(),
        secret_key: Zeroizing::new("t".into()),
        token: None,
        expires_at_s: None,
    };
    let client = Arc::new(AwsKms::with(&moto.endpoint, credentials));
    let keyring = Keyring { kms: Some(Arc::new(Blocking::new(client))), ..Keyring::default() };
    let arn = Recipient::parse(&moto.key().await).unwrap();
    let elsewhere = Binding { namespace: "attacker".into(), ..home() };
    let attack = || {
        let good = wrap(&DataKey::generate()?, &home(), std::slice::from_ref(&arn), CREATED, &keyring)?;
        unwrap(&good, &elsewhere, &keyring)
    };
    // Our own MAC would see it too; here only what KMS does counts.
    without(Check::RecipientsMac, || matters("a wrong context", Check::KmsContext, attack));
}

#[test]
fn recipients_are_public_keys_and_arns_and_nothing_else() {
    let (_, alice) = person();
    assert!(Recipient::parse(alice.as_str()).is_ok());
    for arn in ["arn:aws:kms:eu-west-1:1:key/a-b", "arn:aws-cn:kms:cn-north-1:1:alias/prod/x"] {
        assert!(Recipient::parse(arn).is_ok(), "{arn}");
    }
    for bad in [
        "",
        "age1",
        "age1notone",
        "age1plugin1qqq",
        "../../bin/age-plugin-x",
        "arn:aws:kms:evil.example.com/:1:key/a",
        "arn:aws:kms:eu-west-1:1:key/",
        "arn:aws:s3:eu-west-1:1:key/a",
        "arn:aws:kms:eu-west-1:x:key/a",
        "arn:aws:kms::1:key/a",
    ] {
        assert!(Recipient::parse(bad).is_err(), "{bad}");
    }
    let identity = Identity::generate().secret_text().unwrap();
    let error = Recipient::parse(&identity).unwrap_err().to_string();
    assert!(!error.contains(&identity[20..]), "an error repeats an identity");
    let error = super::keyring::parse_identities("AGE-PLUGIN-YUBIKEY-1QQQ").unwrap_err();
    assert!(error.contains("no program is run"), "{error}");
}
