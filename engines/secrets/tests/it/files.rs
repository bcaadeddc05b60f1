//! Changes of files, as a person makes them.

use dodai_secrets::file::{back, change, find_all, keys, lint, view};

use super::support::{NOW_S, file_with, person, sealing, value};

#[test]
fn a_value_is_set_changed_and_read_back() {
    let alice = person();
    let text = file_with(&alice, &[("TOKEN", "first"), ("PEM", "-----\nlines\n")]);
    assert_eq!(value(&text, &alice.keyring, "TOKEN").unwrap(), "first");
    let recipients = [alice.recipient.clone()];
    let by_alice = sealing(&alice.keyring, &recipients);
    let new = change::set(&text, Some("payments"), "TOKEN", b"second", false, &by_alice).unwrap();
    assert_eq!(value(&new, &alice.keyring, "TOKEN").unwrap(), "second");
    let changed: Vec<_> = text.lines().zip(new.lines()).filter(|(old, new)| old != new).collect();
    assert_eq!(changed.len(), 1, "only the line of the value changes");
    // One data key for all.
    assert_eq!(find_all(&new).unwrap()[0].spec.keys.len(), 1);
    let shown = change::show(&new, None, "PEM", &alice.keyring).unwrap();
    assert_eq!(shown.as_slice(), b"-----\nlines\n");
    let stranger = person();
    let error = change::show(&new, None, "PEM", &stranger.keyring).unwrap_err();
    assert!(error.message.contains("none of the 1 identities"), "{error}");
    assert!(change::set(&text, None, "a b", b"", false, &by_alice).is_err());
}

#[test]
fn a_blind_add_needs_no_right_to_read_and_rekey_brings_the_keys_together() {
    let (alice, bob) = (person(), person());
    let text = file_with(&alice, &[("TOKEN", "first")]);
    let recipients = [alice.recipient.clone()];
    // Bob has no identity among the recipients, and only their public halves.
    let blind =
        change::set(&text, None, "NEW", b"from bob", true, &sealing(&bob.keyring, &recipients)).unwrap();
    assert!(blind.starts_with(text.lines().next().unwrap()));
    assert_eq!(value(&blind, &alice.keyring, "NEW").unwrap(), "from bob");
    assert_eq!(value(&blind, &bob.keyring, "NEW"), None);
    assert_eq!(find_all(&blind).unwrap()[0].spec.keys.len(), 2);
    let old: Vec<&str> = text.lines().filter(|line| !line.contains("data:")).collect();
    assert!(old.iter().all(|line| blind.contains(line)), "what was there stays");
    let one = keys::rekey(&blind, &sealing(&alice.keyring, &[])).unwrap();
    assert_eq!(find_all(&one).unwrap()[0].spec.keys.len(), 1);
    assert_eq!(value(&one, &alice.keyring, "NEW").unwrap(), "from bob");
    // An old line put back is refused: its data key is gone.
    let old_line = blind.lines().find(|line| line.contains("TOKEN:")).unwrap();
    let new_line = one.lines().find(|line| line.contains("TOKEN:")).unwrap();
    let reverted = one.replace(new_line, old_line);
    let error = change::show(&reverted, None, "TOKEN", &alice.keyring).unwrap_err();
    assert!(error.message.contains("is not in `spec.keys`"), "{error}");
}

#[test]
fn rotate_changes_who_can_read_and_no_value() {
    let (alice, bob) = (person(), person());
    let text = file_with(&alice, &[("TOKEN", "first")]).replace("recipients:", "recipients:  # who");
    let text = text.replace("    - age:", "    # alice\n    - age:");
    let both = [alice.recipient.clone(), bob.recipient.clone()];
    let with_bob = keys::rotate(&text, &sealing(&alice.keyring, &both)).unwrap();
    assert_eq!(value(&with_bob, &bob.keyring, "TOKEN").unwrap(), "first");
    let kept = |line: &&str| !line.contains("mac:");
    for line in text.lines().filter(kept) {
        assert!(with_bob.contains(line), "lost: {line}\n{with_bob}");
    }
    // Bob makes it his own; then Alice reads nothing new.
    let only_bob = [bob.recipient.clone()];
    let without = keys::rotate(&with_bob, &sealing(&bob.keyring, &only_bob)).unwrap();
    assert_eq!(value(&without, &alice.keyring, "TOKEN"), None);
    assert_eq!(value(&without, &bob.keyring, "TOKEN").unwrap(), "first");
    let data = |text: &str| text[text.find("data:").unwrap()..text.find("keys:").unwrap()].to_owned();
    assert_eq!(data(&text), data(&without));
    // Nothing to do, nothing changed.
    assert_eq!(keys::rotate(&without, &sealing(&bob.keyring, &only_bob)).unwrap(), without);
    // A stranger in the list is seen before anything is wrapped for him.
    let eve = person();
    let forged = with_bob.replace(bob.recipient.as_str(), eve.recipient.as_str());
    let error = keys::rotate(&forged, &sealing(&alice.keyring, &[])).unwrap_err();
    assert!(error.message.contains("were changed by somebody"), "{error}");
    let error = change::set(&forged, None, "NEW", b"x", false, &sealing(&alice.keyring, &[])).unwrap_err();
    assert!(error.message.contains("were changed by somebody"), "{error}");
}

#[test]
fn an_edit_seals_what_changed_and_keeps_the_rest() {
    let alice = person();
    let text = file_with(&alice, &[("A", "one"), ("B", "two\nlines\n"), ("C", "three")]);
    let text = text.replace("spec:", "# a comment\nspec:   # another");
    let shown = view::view(&text, &alice.keyring).unwrap();
    assert!(shown.closed.is_empty());
    assert!(shown.text.contains("kind: DecryptedSecret"));
    assert!(shown.text.contains("B: |\n      two\n      lines\n"), "{}", &*shown.text);
    let edited = shown.text.replace("A: one", "A: uno").replace("    C: three", "    D: 0644\n    C: three");
    let new = back::back(Some(&text), &edited, &sealing(&alice.keyring, &[])).unwrap();
    assert_eq!(value(&new, &alice.keyring, "A").unwrap(), "uno");
    assert_eq!(value(&new, &alice.keyring, "D").unwrap(), "0644");
    assert!(!new.contains("uno") && !new.contains("0644"));
    let line =
        |text: &str, key: &str| text.lines().find(|line| line.trim().starts_with(key)).unwrap().to_owned();
    for key in ["B:", "C:", "mac:", "wrapped:"] {
        assert_eq!(line(&text, key), line(&new, key));
    }
    assert_ne!(line(&text, "A:"), line(&new, "A:"));
    // An object that gets another name is sealed anew for it.
    let renamed = shown.text.replace("name: payments", "name: billing");
    let new = back::back(Some(&text), &renamed, &sealing(&alice.keyring, &[])).unwrap();
    assert_eq!(value(&new, &alice.keyring, "C").unwrap(), "three");
    // Recipients are not changed in an editor.
    let tampered = shown.text.replace("created: ", "created: x");
    assert!(back::back(Some(&text), &tampered, &sealing(&alice.keyring, &[])).is_err());
    // What cannot be opened stays as it is, and can be edited around.
    let bob = person();
    let shown = view::view(&text, &bob.keyring).unwrap();
    assert_eq!(shown.closed.len(), 3);
    let edited = shown.text.replace("    C:", "    E: blind\n    C:");
    let new = back::back(Some(&text), &edited, &sealing(&bob.keyring, &[])).unwrap();
    assert_eq!(value(&new, &alice.keyring, "E").unwrap(), "blind");
    assert_eq!(value(&new, &alice.keyring, "B").unwrap(), "two\nlines\n");
}

#[test]
fn another_value_in_the_same_second_is_a_later_one() {
    let alice = person();
    let text = file_with(&alice, &[("A", "one")]);
    let by_alice = sealing(&alice.keyring, &[]);
    let time = |text: &str| {
        let found = find_all(text).unwrap().remove(0);
        view::open(&found, "A", found.data[0].text.as_deref().unwrap(), &alice.keyring).unwrap().set_at_s
    };
    let two = change::set(&text, None, "A", b"two", false, &by_alice).unwrap();
    assert_eq!((time(&text), time(&two)), (NOW_S, NOW_S + 1));
    let again = change::set(&two, None, "A", b"two", false, &by_alice).unwrap();
    assert_eq!(time(&again), NOW_S, "the same value, set now");
    let edited = view::view(&two, &alice.keyring).unwrap().text.replace("A: two", "A: three");
    assert_eq!(time(&back::back(Some(&two), &edited, &by_alice).unwrap()), NOW_S + 2);
}

#[test]
fn lint_finds_plaintext_wherever_it_is_and_lets_sops_be() {
    let alice = person();
    let rules = dodai_secrets::rules::Rules::default();
    let found = |text: &str| {
        let context = lint::Context { keyring: &alice.keyring, rules: &rules, path: "x.yaml", now_s: NOW_S };
        let found = lint::lint(text, &context, &mut lint::Seen::default()).unwrap();
        found.iter().map(|one| (one.rule, one.position.0)).collect::<Vec<_>>()
    };
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n";
    assert_eq!(found(&format!("{secret}stringData: {{A: b}}\n")), [("PlaintextSecret", 1)]);
    assert_eq!(found(&format!("{secret}data:\n")), []);
    let sops = "sops: {mac: x}\n";
    assert_eq!(found(&format!("{secret}stringData: {{A: 'ENC[AES256_GCM,data:x]', B: ''}}\n{sops}")), []);
    assert_eq!(found(&format!("{secret}stringData: {{A: 'ENC[AES256_GCM,data:x]', B: c}}\n{sops}")).len(), 1);
    assert_eq!(found(&format!("{secret}stringData: {{A: 'ENC[AES256_GCM,data:x]'}}\n")).len(), 1);
    let list = "apiVersion: v1\nkind: List\nitems:\n- kind: Secret\n  apiVersion: v1\n  data: {A: Yg==}\n- kind: ConfigMap\n";
    assert_eq!(found(list), [("PlaintextSecret", 4)]);
    let generator = "secretGenerator:\n- name: x\n  literals:\n  - A=b\n- name: y\n  files: [a]\n";
    assert_eq!(found(generator), [("PlaintextSecret", 4)]);
}
