//! Random values and broken texts. Seeded: a failure prints its seed, and `DODAI_YAML_SEED` sets it.

use dodai_yaml::{Document, NodeKind, from_str_json, parse, replace_scalar, to_string};
use fastrand::Rng;
use serde_json::{Map, Number, Value};

const VALUES: usize = 2_000;
const BROKEN_TEXTS: usize = 4_000;

fn rng() -> (Rng, u64) {
    let seed = std::env::var("DODAI_YAML_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0xd0da1);
    (Rng::with_seed(seed), seed)
}

#[test]
fn what_is_written_reads_back_as_the_same_value() {
    let (mut rng, seed) = rng();
    for n in 0..VALUES {
        let value = any_value(&mut rng, 4);
        let text = to_string(&value);
        match from_str_json(&text) {
            Ok(read) => assert_eq!(read, value, "seed {seed}, value {n}:\n{text}"),
            Err(error) => panic!("seed {seed}, value {n}: {error}\n{text}"),
        }
    }
}

#[test]
fn replacing_a_scalar_changes_its_bytes_only_or_is_refused() {
    let (mut rng, seed) = rng();
    let mut n_replaced = 0;
    for n in 0..VALUES {
        let mut root = Map::new();
        root.insert("target".to_owned(), any_scalar(&mut rng));
        for _ in 0..rng.usize(0..4) {
            root.insert(any_text(&mut rng), any_value(&mut rng, 2));
        }
        let before = Value::Object(root);
        let text = to_string(&before);
        let new = any_scalar(&mut rng);
        let Ok(changed) = replace_scalar(&text, "target", &new) else { continue };
        n_replaced += 1;
        let range = parse(&text).unwrap()[0].range("target").unwrap();
        assert!(changed.starts_with(&text[..range.start]), "seed {seed}, value {n}:\n{text}\n{changed}");
        assert!(changed.ends_with(&text[range.end..]), "seed {seed}, value {n}:\n{text}\n{changed}");
        let mut want = before;
        want["target"] = new;
        assert_eq!(from_str_json(&changed).unwrap(), want, "seed {seed}, value {n}:\n{text}\n{changed}");
    }
    assert!(n_replaced > VALUES * 9 / 10, "only {n_replaced} of {VALUES} were replaced");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let (mut rng, seed) = rng();
    let pieces = [
        "a: ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        "\n",
        "  ",
        "\t",
        "|",
        ">-",
        "&a ",
        "*a",
        "!!int ",
        "!x ",
        "'",
        "\"",
        "\\",
        "#",
        " #c",
        "---\n",
        "...\n",
        "? ",
        "<<: ",
        "~",
        "1e3",
        "0x",
        "é",
        "\u{feff}",
        "\u{2028}",
        "\r\n",
        "\r",
        "%",
        "@",
        "key",
        "a.b",
        "|2\n",
        "<<: *a",
        "\u{1f600}",
    ];
    for n in 0..BROKEN_TEXTS {
        let mut text = if rng.bool() { to_string(&any_value(&mut rng, 3)) } else { String::new() };
        for _ in 0..rng.usize(1..30) {
            let mut at = rng.usize(0..=text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if rng.u8(0..4) == 0 && at < text.len() {
                text.remove(at);
            } else {
                text.insert_str(at, pieces[rng.usize(0..pieces.len())]);
            }
        }
        let outcome = std::panic::catch_unwind(|| exercise(&text));
        assert!(outcome.is_ok(), "seed {seed}, text {n}: {text:?}");
    }
}

/// Everything that can be asked about a text.
fn exercise(text: &str) {
    match parse(text) {
        Err(error) => {
            assert!(!error.render("f", text).is_empty());
        }
        Ok(documents) => documents.iter().for_each(exercise_document),
    }
}

fn exercise_document(document: &Document) {
    if let Err(error) = document.to_json() {
        let shown = error.render("f", document.text());
        assert!(shown.contains('^'), "{shown}");
    }
    for path in ["a", "a.b", "[0]", "[0].key[1]", "key[a=\"1\"]"] {
        let location = document.locate(path);
        assert!(document.text().get(location.range).is_some());
        assert_eq!(document.position(path).is_some(), location.exact);
        if let Ok(changed) = document.replace_scalar(path, &Value::from("new: value")) {
            assert!(parse(&changed).is_ok());
        }
    }
    check_ranges(document);
}

/// Ranges lie in the text, on characters, and children lie in their parents.
fn check_ranges(document: &Document) {
    let mut todo = vec![document.root_id()];
    while let Some(id) = todo.pop() {
        let node = document.node(id);
        let range = node.range();
        assert!(document.text().get(range.clone()).is_some(), "{range:?}");
        let children: Vec<_> = match &node.kind {
            NodeKind::Sequence { items, .. } => items.clone(),
            NodeKind::Mapping { entries, .. } => {
                entries.iter().flat_map(|(key, value)| [*key, *value]).collect()
            }
            NodeKind::Scalar { .. } | NodeKind::Alias { .. } => continue,
        };
        for child in children {
            let inner = document.node(child).range();
            assert!(range.start <= inner.start && inner.end <= range.end, "{range:?} {inner:?}");
            todo.push(child);
        }
    }
}

fn any_value(rng: &mut Rng, depth: usize) -> Value {
    match rng.u8(0..10) {
        0..=2 if depth > 0 => (0..rng.usize(0..5))
            .map(|_| (any_text(rng), any_value(rng, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
        3..=4 if depth > 0 => {
            (0..rng.usize(0..5)).map(|_| any_value(rng, depth - 1)).collect::<Vec<_>>().into()
        }
        _ => any_scalar(rng),
    }
}

fn any_scalar(rng: &mut Rng) -> Value {
    match rng.u8(0..10) {
        0 => Value::Null,
        1 => Value::Bool(rng.bool()),
        2 => Value::from(rng.i64(..) >> rng.u8(0..63)),
        3 => Value::from(rng.u64(..)),
        4 => match Number::from_f64(f64::from_bits(rng.u64(..))) {
            // A float with an integer value comes back as an integer; that is the dialect.
            Some(number)
                if number.as_f64().is_some_and(|float| float.fract() != 0.0 || float.abs() >= 1e21) =>
            {
                Value::Number(number)
            }
            _ => Value::from(0.5),
        },
        _ => Value::from(any_text(rng)),
    }
}

fn any_text(rng: &mut Rng) -> String {
    const WORDS: &[&str] = &[
        "yes",
        "0644",
        "1.0",
        "1e3",
        "null",
        "~",
        "",
        "-",
        "---",
        "...",
        "a: b",
        "a #b",
        "#",
        "[",
        "}",
        "<<",
        "=",
        "2001-01-01",
        "1:30",
        "0x1F",
        ".5",
        ".inf",
        "'",
        "\"",
        "\\",
        " lead",
        "trail ",
        "line\nline",
        "line\nline\n",
        "\n",
        "\n\n",
        "a\n\n",
        " a\nb",
        "a\n b\n",
        "a\n\n\nb",
        "\t",
        "a\tb",
        "a\nb\t",
        "\r",
        "a\r\nb",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{0}",
        "\u{7f}",
        "\u{9f}",
        "é",
        "日本",
        "😀",
        "\u{fffe}",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "? a",
        "- a",
        ",",
        ":",
        "a:",
        ":a",
        "--a",
        "-a",
        "-1",
        "+1",
        "_1",
        "1_000",
        "a,b",
        "{{ x }}",
        "$(X)",
        "n",
        "x\n# c\ny",
        "a\n---\nb",
        "%TAG\nx",
    ];
    const LETTERS: &[char] = &[
        'a', 'B', '1', '0', ' ', '\n', ':', '#', '-', '.', '"', '\'', '\\', '\t', 'é', '{', ',', '\u{1}',
        '\r', '~',
    ];
    if rng.bool() {
        return WORDS[rng.usize(0..WORDS.len())].to_owned();
    }
    (0..rng.usize(0..12)).map(|_| LETTERS[rng.usize(0..LETTERS.len())]).collect()
}
