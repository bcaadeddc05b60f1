//! Files in arbitrary YAML style: an edit that changes nothing gives back every byte, an edit of one value changes only
//! its lines, other recipients and another data key leave every value and comment. The seeds are fixed; `DODAI_SECRETS_SEED` sets another, `DODAI_SECRETS_RUNS` the number of files of each.

use std::fmt::Write;

use dodai_secrets::file::{back, change, keys, view};
use dodai_secrets::seal::{Binding, DataKey, SealedValue, wrapping};
use fastrand::Rng;

use super::support::{NOW_S, Person, opened, person, sealing};

/// Files of each seed.
const RUNS: usize = 25;
/// The seeds of a run without `DODAI_SECRETS_SEED`.
const SEEDS: [u64; 6] = [1, 7, 42, 1_000_003, 20_261_126, u64::MAX];

struct Generated {
    text: String,
    /// Object name, key and value.
    values: Vec<(String, String, Vec<u8>)>,
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    let texts = [
        "",
        "plain",
        "0644",
        "yes",
        "null",
        "~",
        "a: b # c",
        "- x",
        "'quoted'",
        "\"",
        "line\nline\n",
        "line\nline",
        "-----BEGIN X-----\nAAAA\n-----END X-----\n",
        "tab\there",
        " lead",
        "trail ",
        "a\n\nb\n",
        "\n",
        "a\n\n",
        "  indented\nb\n",
        "ümlaut\nzweite",
        "\r\n",
        "a\u{2028}b",
        "emoji 😀",
        "{json: 1}",
        "[a, b]",
        "*alias",
        "&a",
        "!!binary x",
        "v1:k",
        "%x",
        "@x",
        "`x`",
        "| x",
        "> x",
        "a #b",
        "key: |\n  x\n",
        "\u{7f}\u{1}",
        "x\n  \ny",
    ];
    match rng.u8(..5) {
        0 => (0..rng.usize(1..40)).map(|_| rng.u8(..)).collect(),
        1 => "x".repeat(rng.usize(1..300)).into_bytes(),
        _ => texts[rng.usize(..texts.len())].as_bytes().to_vec(),
    }
}

/// One EncryptedSecret, with each thing written in one of the ways YAML has.
fn object(rng: &mut Rng, alice: &Person, name: &str, values: &mut Vec<(String, String, Vec<u8>)>) -> String {
    let binding = Binding {
        scope: Default::default(),
        namespace: "shop".into(),
        name: name.into(),
        type_: "Opaque".into(),
    };
    let key = DataKey::generate().unwrap();
    let recipients = [alice.recipient.clone()];
    let wrapped =
        wrapping::wrap(&key, &binding, &recipients, "2026-11-26T10:00:00Z", &alice.keyring).unwrap();
    let mut data = Vec::new();
    for number in 0..rng.usize(1..6) {
        let (name_of, value) = (format!("KEY_{number}"), random_value(rng));
        let sealed = SealedValue::seal(&key, &binding, &name_of, &value, NOW_S).unwrap().to_string();
        values.push((name.to_owned(), name_of.clone(), value));
        data.push((name_of, sealed));
    }
    let step = if rng.bool() { 2 } else { 4 };
    let (one, two) = (" ".repeat(step), " ".repeat(2 * step));
    let comment = |rng: &mut Rng| {
        ["", "", "  # a comment: with | and >", "   ", " \t# ümlaut “quoted” 😀: 'x\"", "  #"][rng.usize(..6)]
    };
    let blank = |rng: &mut Rng| {
        [
            "",
            "",
            "\n",
            "\n# between\n\n",
            "            # far to the right\n",
            "\n\n   \n",
            "                \n",
        ][rng.usize(..7)]
    };
    let mut text = String::new();
    text.push_str(
        ["apiVersion: dodai.dev/v1alpha1\n", "apiVersion: \"dodai.dev/v1alpha1\"  # v\n"][rng.usize(..2)],
    );
    text.push_str(["kind: EncryptedSecret\n", "kind: 'EncryptedSecret' # kind\n"][rng.usize(..2)]);
    text.push_str(blank(rng));
    if rng.bool() {
        let _ = writeln!(text, "metadata: {{name: {name}, namespace: shop}}");
    } else {
        let _ = writeln!(
            text,
            "metadata:\n{one}namespace: shop\n{one}annotations: {{a/b: &x y, c: *x}}\n{one}name: \"{name}\""
        );
    }
    let _ = writeln!(text, "spec:{}", comment(rng));
    let keys = serde_json::to_value([&wrapped]).unwrap();
    let keys_text = if rng.bool() {
        let mut lines = format!("{one}keys:\n");
        for line in dodai_yaml::to_string(&keys).lines() {
            let _ = writeln!(lines, "{one}{line}");
        }
        lines
    } else {
        format!("{one}keys: {keys}\n")
    };
    let mut data_text = String::new();
    if rng.u8(..4) == 0 {
        let entries: Vec<String> = data.iter().map(|(key, sealed)| format!("{key}: \"{sealed}\"")).collect();
        let _ = writeln!(
            data_text,
            "{one}data: {{{}}}{}",
            entries.join([", ", ",\n      "][rng.usize(..2)]),
            comment(rng)
        );
    } else {
        let _ = writeln!(data_text, "{one}data:{}", comment(rng));
        for (key, sealed) in &data {
            let written = match rng.u8(..14) {
                0 => format!("\"{sealed}\""),
                1 => format!("'{sealed}'"),
                2 => format!("|-\n{two}  {sealed}"),
                3 => format!("&anchor_{key} {sealed}"),
                4 => format!("\n{two}  {sealed}"),
                5 => format!(">-  # folded\n{two}   {sealed}"),
                6 => format!("|{step}-\n{two}{one}{sealed}"),
                7 => format!("!!str {sealed}"),
                8 => format!("\n{two}  # of this value\n{two}  \"{sealed}\""),
                _ => sealed.clone(),
            };
            let is_block = written.starts_with(['|', '>']);
            let tail = if is_block { "" } else { comment(rng) };
            let shown_key = match rng.u8(..8) {
                0 => format!("\"{key}\""),
                1 => format!("'{key}' "),
                2 => format!("&k_{key} {key}"),
                _ => key.clone(),
            };
            let colon = if rng.u8(..10) == 0 && !written.starts_with('\n') { ":  \t" } else { ": " };
            if rng.u8(..12) == 0 && !written.starts_with('\n') {
                let _ = writeln!(data_text, "{two}? {shown_key}\n{two}: {written}{tail}");
            } else {
                let _ = writeln!(data_text, "{two}{shown_key}{colon}{written}{tail}");
            }
            let more = blank(rng);
            // Far to the right it would be part of a block.
            data_text.push_str(if is_block && more.starts_with("    ") { "" } else { more });
        }
    }
    let parts = if rng.bool() { [keys_text, data_text] } else { [data_text, keys_text] };
    text.push_str(&parts.concat());
    text
}

/// A ConfigMap whose text looks like one of our objects.
const DECOY: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: decoy\ndata:\n  file.yaml: |\n    apiVersion: dodai.dev/v1alpha1\n    kind: EncryptedSecret\n    metadata: {name: inner}\n    spec:\n      data:\n        KEY_0: v1:not:ours\n    ---\n  other: \"kind: EncryptedSecret\"\n";

/// An object written as JSON, or as flow with comments and line breaks in it.
fn whole_in_flow(
    rng: &mut Rng,
    alice: &Person,
    name: &str,
    values: &mut Vec<(String, String, Vec<u8>)>,
) -> String {
    let mut own = Vec::new();
    let block = object(rng, alice, name, &mut own);
    let json = dodai_yaml::from_str_json(&block).unwrap();
    values.extend(own);
    match rng.u8(..3) {
        0 => format!("{json}\n"),
        1 => format!("{}\n", serde_json::to_string_pretty(&json).unwrap()),
        _ => format!("{}\n", serde_json::to_string_pretty(&json).unwrap().replace("{\n", "{ # opens\n")),
    }
}

fn generate(rng: &mut Rng, alice: &Person) -> Generated {
    let mut values = Vec::new();
    let mut documents = Vec::new();
    for number in 0..rng.usize(1..4) {
        documents.push(object(rng, alice, &format!("object-{number}"), &mut values));
        if rng.u8(..4) == 0 {
            documents.push(whole_in_flow(rng, alice, &format!("flow-{number}"), &mut values));
        }
        documents.extend((rng.u8(..4) == 0).then(|| DECOY.to_owned()));
        documents.extend((rng.u8(..6) == 0).then(|| "# nothing but a comment\n".to_owned()));
        if rng.bool() {
            documents.push(
                "# not ours\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\ndata: &d\n  a: >\n    folded\n    text\n\n  b: |+\n    kept\n\n\nmore: *d\n"
                    .to_owned(),
            );
        }
    }
    rng.shuffle(&mut documents);
    let mut text = documents.join(
        ["---\n", "--- # next\n", "\n---\n", "...\n---\n", "... # end\n# between\n---\n\n"][rng.usize(..5)],
    );
    match rng.u8(..8) {
        0 | 1 => text.insert_str(0, "# head\n---\n"),
        2 => text.insert_str(0, "%YAML 1.2\n# head\n---\n"),
        3 => text.insert_str(0, "\n\n---\n---\n"),
        4 => text.insert(0, '\u{feff}'),
        _ => {}
    }
    if rng.u8(..4) == 0 {
        text.truncate(text.trim_end().len());
    }
    match rng.u8(..9) {
        0..3 => text = text.replace('\n', "\r\n"),
        // Both kinds of line ends, as tools that know only one leave them.
        3 => {
            let lines: Vec<&str> = text.split('\n').collect();
            let mut mixed = lines[0].to_owned();
            for line in &lines[1..] {
                mixed.push_str(["\n", "\r\n"][rng.usize(..2)]);
                mixed.push_str(line);
            }
            text = mixed;
        }
        _ => {}
    }
    Generated { text, values }
}

#[test]
fn an_edit_without_a_change_keeps_every_byte_and_one_change_only_its_lines() {
    let (alice, bob) = (person(), person());
    let runs = env("DODAI_SECRETS_RUNS").map_or(RUNS, |runs| runs as usize);
    let seeds = env("DODAI_SECRETS_SEED").map_or(SEEDS.to_vec(), |seed| vec![seed]);
    for (seed, run) in seeds.iter().flat_map(|seed| (0..runs).map(move |run| (*seed, run))) {
        // Each file has a seed of its own, so that one can be looked at alone.
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(run as u64));
        let run = format!("{run} of DODAI_SECRETS_SEED={seed}");
        let Generated { text, values } = generate(&mut rng, &alice);
        let expected: Vec<(String, Vec<u8>)> =
            values.iter().map(|(object, key, value)| (format!("{object}/{key}"), value.clone())).collect();
        let sorted = |mut list: Vec<(String, Vec<u8>)>| {
            list.sort();
            list
        };
        let read = opened(&text, &alice.keyring);
        let missing: Vec<_> =
            expected.iter().filter(|one| !read.contains(one)).map(|(name, _)| name).collect();
        assert!(missing.is_empty() && read.len() == expected.len(), "run {run}: {missing:?} of\n{text}");
        let shown = view::view(&text, &alice.keyring).unwrap();
        assert!(shown.closed.is_empty(), "run {run}: {:?}\n{text}", shown.closed);
        let again = back::back(Some(&text), &shown.text, &sealing(&alice.keyring, &[]));
        let again =
            again.unwrap_or_else(|error| panic!("run {run}: {error}\n{text}\n=== shown\n{}", &*shown.text));
        assert_eq!(*again, text, "run {run}, shown:\n{}", &*shown.text);
        // Sealed with nothing to compare with: other ciphertext, the same values.
        let fresh = back::back(None, &shown.text, &sealing(&alice.keyring, &[])).unwrap();
        assert_eq!(
            sorted(opened(&fresh, &alice.keyring)),
            sorted(expected.clone()),
            "run {run}:\n{}",
            &*shown.text
        );

        let (object, key, _) = &values[rng.usize(..values.len())];
        let new_value = random_value(&mut rng);
        let set = change::set(&text, Some(object), key, &new_value, false, &sealing(&alice.keyring, &[]));
        let set = set.unwrap_or_else(|error| panic!("run {run}: {error}\n{text}"));
        let lost = text.lines().filter(|line| !set.contains(line)).count();
        assert!(lost <= 2, "run {run}: {lost} lines differ\n{text}\n===\n{set}");
        let mut wanted = expected.clone();
        wanted.iter_mut().find(|(name, _)| *name == format!("{object}/{key}")).unwrap().1 = new_value;
        assert_eq!(sorted(opened(&set, &alice.keyring)), sorted(wanted.clone()), "run {run}");
        // The same change made in the editor.
        let edited = view::view(&set, &alice.keyring).unwrap();
        let through = back::back(Some(&text), &edited.text, &sealing(&alice.keyring, &[]));
        let through = through.unwrap_or_else(|error| panic!("run {run}: {error}\n{}", &*edited.text));
        assert_eq!(sorted(opened(&through, &alice.keyring)), sorted(wanted), "run {run}");

        // Other recipients, then another data key, in whatever style the list of keys is written.
        let both = [alice.recipient.clone(), bob.recipient.clone()];
        let rotated = keys::rotate(&text, &sealing(&alice.keyring, &both));
        let rotated = rotated.unwrap_or_else(|error| panic!("run {run}: {error}\n{text}"));
        assert_eq!(sorted(opened(&rotated, &bob.keyring)), sorted(expected.clone()), "run {run}\n{rotated}");
        let rekeyed = keys::rekey(&rotated, &sealing(&bob.keyring, &both[1..]));
        let rekeyed = rekeyed.unwrap_or_else(|error| panic!("run {run}: {error}\n{rotated}"));
        assert_eq!(sorted(opened(&rekeyed, &bob.keyring)), sorted(expected.clone()), "run {run}\n{rekeyed}");
        assert_eq!(opened(&rekeyed, &alice.keyring), [], "run {run}");
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        assert_eq!(
            comments(&text),
            comments(&rekeyed),
            "run {run}: a comment is lost\n{text}\n===\n{rekeyed}"
        );

        let added =
            change::set(&text, Some(object), "ADDED", b"new", rng.bool(), &sealing(&alice.keyring, &[]));
        let added = added.unwrap_or_else(|error| panic!("run {run}: {error}\n{text}"));
        let mut wanted = expected;
        wanted.push((format!("{object}/ADDED"), b"new".to_vec()));
        assert_eq!(
            sorted(opened(&added, &alice.keyring)),
            sorted(wanted),
            "run {run}:\n{text}\n===\n{added}"
        );
    }
}
