//! Many single writes on objects that stay as they are (`dryRun=All`), and where the two servers answer differently, counted by place and
//! text. Finds more in a minute than whole runs, which stop at the first difference; says nothing about what is stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use fastrand::Rng;
use regex::Regex;
use serde_json::Value;

use crate::generate;
use crate::kinds::KINDS;
use crate::op::{Op, Verb};
use crate::play::{Player, Told, differences};
use crate::schema::Schemas;
use crate::server::Server;

/// The object of each kind that exists.
pub const EXISTING: &str = "one";
/// Characters of one line of the table.
const LINE_LEN_MAX: usize = 260;

static VALUE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^(Invalid value|Duplicate value|Not found|Unsupported value): ("(\\.|[^"\\])*"|\{.*\}|\[.*\]|[^:,]*)"#).expect("a fixed expression")
});
static INDEX: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[[0-9]+\]").expect("a fixed expression"));

/// One way of differing.
pub struct Entry {
    pub count: usize,
    /// The request that showed it first, with both answers.
    pub example: (Op, Told, Told),
}

/// Sends `count` requests to both servers; `run` makes the namespace's name different from that of another call.
pub async fn probe(
    real: &Server,
    ours: &Server,
    schemas: &Schemas,
    seed: u64,
    count: u64,
    only: Option<&str>,
) -> anyhow::Result<BTreeMap<String, Entry>> {
    let namespace = format!("probe-{:x}-{seed}", std::process::id());
    let mut players = (Player::start(real, &namespace).await?, Player::start(ours, &namespace).await?);
    let kinds: Vec<usize> =
        (0..KINDS.len()).filter(|index| only.is_none_or(|kind| kind == KINDS[*index].kind)).collect();
    for kind in &kinds {
        let op = generate::base(schemas, *kind, EXISTING);
        let (left, right) = (players.0.play(&op).await?, players.1.play(&op).await?);
        anyhow::ensure!(left.status == 201 && right.status == 201, "{left:?} {right:?}");
    }
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    for number in 0..count {
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let kind = kinds[rng.usize(0..kinds.len())];
        let mut op = generate::write(schemas, kind, &mut rng);
        while (op.verb == Verb::Create) == (op.name == EXISTING) && op.verb != Verb::Apply {
            op = generate::write(schemas, kind, &mut rng);
        }
        op.query.retain(|(key, _)| key != "dryRun");
        op.query.push(("dryRun".to_owned(), "All".to_owned()));
        players.0.forget();
        players.1.forget();
        let (left, right) = tokio::join!(players.0.play(&op), players.1.play(&op));
        let (left, right) = (left?, right?);
        for line in lines(&op, &left, &right) {
            let entry = found
                .entry(line)
                .or_insert_with(|| Entry { count: 0, example: (op.clone(), left.clone(), right.clone()) });
            entry.count += 1;
        }
    }
    Ok(found)
}

/// What differs between two answers, without the values of this request.
fn lines(op: &Op, real: &Told, ours: &Told) -> Vec<String> {
    let found = differences(real, ours);
    let Some((path, left, right)) = found.first() else { return Vec::new() };
    let kind = op.kind().kind;
    let mut lines = Vec::new();
    if real.status == 422 && ours.status == 422 {
        let mut counts: HashMap<String, i64> = HashMap::new();
        for (told, by) in [(real, 1), (ours, -1)] {
            for cause in told.body["details"]["causes"].as_array().into_iter().flatten() {
                *counts.entry(plain_cause(cause)).or_default() += by;
            }
        }
        for (text, by) in counts {
            match by {
                0 => {}
                1.. => lines.push(format!("{kind} - {text}")),
                _ => lines.push(format!("{kind} + {text}")),
            }
        }
    } else if real.status != ours.status {
        lines.push(format!(
            "{kind} {:?} {} {}->{}: {} | {}",
            op.verb,
            op.subresource,
            real.status,
            ours.status,
            said(real),
            said(ours)
        ));
    }
    if lines.is_empty() {
        lines.push(format!(
            "{kind} {:?} {} {}{}: {left} | {right}",
            op.verb,
            op.subresource,
            real.status,
            INDEX.replace_all(&path.replace(char::is_numeric, "N"), "[*]")
        ));
    }
    lines.into_iter().map(|line| line.chars().take(LINE_LEN_MAX).collect()).collect()
}

fn plain_cause(cause: &Value) -> String {
    let text = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
    let message = text("message");
    let message = VALUE.replace(&message, "$1: V");
    format!("{}: {message}", INDEX.replace_all(&text("field"), "[*]"))
}

/// The message of a refusal, or the first of its causes.
fn said(told: &Told) -> String {
    match told.body["details"]["causes"].as_array() {
        Some(causes) if told.status == 422 => causes.iter().map(plain_cause).collect::<Vec<_>>().join(" & "),
        _ if told.status >= 400 => told.body["message"].as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}
