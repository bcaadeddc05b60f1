//! Random texts and random expressions: nothing panics, everything ends within its cost.

use dodai_cel::{Bindings, Environment, Schema, Type, compile};
use serde_json::json;

/// A small generator; the seed is printed so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const ATOMS: [&str; 26] = [
    "1",
    "-1",
    "0u",
    "1.5",
    "'a'",
    "'x/y'",
    "b'\\xff'",
    "true",
    "null",
    "self",
    "self.list",
    "self.name",
    "self.any",
    "x",
    "[]",
    "{}",
    "9223372036854775807",
    "timestamp('2020-01-01T00:00:00Z')",
    "duration('1h')",
    "optional.none()",
    "quantity('1Gi')",
    "semver('1.2.3')",
    "ip('::1')",
    "url('https://a/b?c=d')",
    "lists.range(9)",
    "format.uri()",
];
const BINARY: [&str; 14] = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"];
const MEMBERS: [&str; 40] = [
    "size()",
    "map(x, [x, x])",
    "filter(x, x == x)",
    "all(x, x > 0)",
    "exists(i, x, i == x)",
    "sum()",
    "min()",
    "sort()",
    "distinct()",
    "flatten()",
    "flatten(9)",
    "reverse()",
    "sortBy(x, x)",
    "first()",
    "last()",
    "join(',')",
    "split('')",
    "replace('a', 'bbbb')",
    "indexOf('a')",
    "lastIndexOf('a', 1)",
    "substring(1)",
    "charAt(0)",
    "matches('[a-z]+')",
    "find('(')",
    "findAll('.')",
    "format([1])",
    "optMap(x, x)",
    "orValue(1)",
    "hasValue()",
    "value()",
    "getHours('+1:0')",
    "add(1)",
    "asInteger()",
    "major()",
    "family()",
    "getQuery()",
    "validate('x')",
    "transformMap(k, v, v)",
    "isSorted()",
    "transformMapEntry(k, v, {v: k})",
];

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random.pick(&ATOMS).to_owned();
    }
    let mut inner = || expression(random, depth - 1);
    let (one, two) = (inner(), inner());
    match random.below(12) {
        0 | 1 => format!("({one} {} {two})", random.pick(&BINARY)),
        2 => format!("({one} == {two} ? {one} : {two})"),
        3 => format!("[{one}, {two}]"),
        4 => format!("{{'a': {one}, 'b': {two}}}"),
        5 => format!("{one}[{two}]"),
        6 => format!("has({one}.name)"),
        7 => format!("string({one})"),
        8 => format!("dyn({one})"),
        _ => format!("{one}.{}", random.pick(&MEMBERS)),
    }
}

#[test]
fn random_expressions_end_without_a_panic() {
    let seed = 20_260_728;
    println!("seed {seed}");
    let mut random = Random(seed);
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string"},
        "any": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "items": {"type": "integer"}},
    }});
    let environment = Environment::new(36).with("self", Type::from_schema(&schema)).with("x", Type::Dyn);
    let object = json!({"name": "né", "any": 7, "list": [3, 1, 2]});
    let bindings = Bindings::new().with("self", Schema::new(&schema).value(&object));
    let bindings = bindings.with("x", dodai_cel::untyped(&json!([[1, "a"], {"b": 2.5}])));
    let (mut n_compiled, mut n_values) = (0, 0);
    for _ in 0..20_000 {
        let depth = random.below(4);
        let source = expression(&mut random, depth);
        let Ok(program) = compile(&source, &environment) else { continue };
        n_compiled += 1;
        let outcome = program.run(&bindings, 20_000);
        n_values += usize::from(outcome.result.is_ok());
    }
    println!("{n_compiled} compiled, {n_values} had a value");
    assert!(n_compiled > 500 && n_values > 200, "the generator became useless: {n_compiled}, {n_values}");
}

#[test]
fn random_texts_end_without_a_panic() {
    let seed = 42;
    println!("seed {seed}");
    let mut random = Random(seed);
    let pieces = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        "?",
        ":",
        "'",
        "\"",
        "\\",
        "r'",
        "b\"",
        "'''",
        "0x",
        "1e",
        "u",
        "-",
        "!",
        "&&",
        "has",
        "in",
        "é",
        "💩",
        "\n",
        "//",
        "`",
        "_",
        "@",
        "#",
        " ",
        "x",
        "matches('[', '\\\\Q')",
        "\u{0}",
    ];
    let environment = Environment::new(36).with("x", Type::Dyn);
    for _ in 0..20_000 {
        let n = random.below(30);
        let source: String = (0..n).map(|_| random.pick(&pieces)).collect();
        if let Err(errors) = compile(&source, &environment) {
            assert!(!errors.to_string().is_empty());
        }
    }
}

#[test]
fn deep_and_doubling_expressions_are_refused_or_end() {
    let environment = Environment::new(36);
    let deep = |open: &str, inner: &str, close: &str, n: usize| open.repeat(n) + inner + &close.repeat(n);
    for source in [
        deep("(", "1", ")", 100_000 / 2 - 1),
        deep("[", "1", "]", 5_000),
        deep("!", "true", "", 50_000),
        deep("-", "1", "", 50_000),
        "a.".repeat(30_000) + "b",
        format!("[1]{}", ".map(x, [x, x])".repeat(200)),
        format!("[1]{} == [1]{}", ".map(x, [x, x])".repeat(40), ".map(x, [x, x])".repeat(40)),
        format!("[1]{}.flatten(99)", ".map(x, [x, x])".repeat(40)),
        format!("optional.of(1){}", ".optMap(x, x)".repeat(60)),
        "1 + ".repeat(20_000) + "1",
        format!("'{}'.replace('', '{}').size() > 0", "a".repeat(20_000), "b".repeat(20_000)),
    ] {
        if let Ok(program) = compile(&source, &environment) {
            let outcome = program.run(&Bindings::new(), 1_000_000);
            println!("{:.60}... {:?}", source, outcome.result.map(|value| value.type_name().to_owned()));
        }
    }
}

#[test]
fn random_arguments_of_readers_end_without_a_panic() {
    let seed = 7;
    println!("seed {seed}");
    let mut random = Random(seed);
    let pieces = [
        "1",
        "23",
        ".",
        ":",
        "::",
        "/",
        "%",
        "%4",
        "-",
        "+",
        "e",
        "E",
        "Ki",
        "m",
        "ns",
        "h",
        "T",
        "Z",
        "2020-01-01",
        "é",
        "💩",
        "[",
        "]",
        "(",
        ")",
        "*",
        "?",
        "{2,3}",
        "\\",
        "d",
        "^",
        "&&",
        "--",
        "a",
        "@",
        "http:",
        "#",
        "v",
        " ",
        "0",
    ];
    let environment = Environment::new(36).with("x", Type::String);
    let programs: Vec<_> = [
        "isURL(x) && url(x) == url(x) && url(x).getQuery().size() >= 0 && url(x).getPort() == ''",
        "isQuantity(x) && quantity(x).add(quantity(x)).asApproximateFloat() > 0.0",
        "isSemver(x, true) && semver(x, true) == semver(x, true)",
        "isIP(x) || isCIDR(x) || ip(x).family() == 4",
        "cidr(x).masked() == cidr(x)",
        "duration(x) > duration('1s')",
        "timestamp(x).getHours(x) > 0",
        "timestamp('2020-01-01T00:00:00Z').getHours(x) > 0",
        "x.matches(x) || x.find(x) == x || x.findAll(x).size() > 0",
        "x.format([x]) == x",
        "format.uri().validate(x).hasValue() && format.datetime().validate(x).hasValue()",
        "format.uuid().validate(x).hasValue() && format.dns1123SubdomainPrefix().validate(x).hasValue()",
        "format.byte().validate(x).hasValue() && format.qualifiedName().validate(x).hasValue()",
        "int(x) + int(double(x)) > 0 || bool(x)",
        "x.lastIndexOf('a', 2) == x.indexOf('', 1) || x.split(x).join(x) == x.trim()",
    ]
    .iter()
    .map(|source| compile(source, &environment).unwrap_or_else(|error| panic!("{source}: {error}")))
    .collect();
    let typed = ["date", "date-time", "duration", "byte"]
        .map(|format| Schema::new(&json!({"type": "string", "format": format})));
    for _ in 0..4_000 {
        let n = random.below(7);
        let text: String = (0..n).map(|_| random.pick(&pieces)).collect();
        let bindings = Bindings::new().with("x", dodai_cel::Value::string(text.as_str()));
        for program in &programs {
            let _ = program.evaluate(&bindings, 100_000);
        }
        for schema in &typed {
            let _ = schema.value(&json!(text)).to_json();
        }
    }
}
