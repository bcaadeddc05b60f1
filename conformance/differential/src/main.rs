//! `dodai-differential --real URL --ours URL --token TOKEN [--runs N] [--seed N] [--length N] [--kind KIND] [--known FILE] [--keep DIR]
//! [--seconds N] [--shrink false] [--probe N] [--record FILE]`
//!
//! Prints each new finding, made small, and at the end a line of totals. Ends with 1 if there was one. A run with the same seed makes the same
//! requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use dodai_differential::case::{Case, Step};
use dodai_differential::generate;
use dodai_differential::play::prepare;
use dodai_differential::schema::Schemas;
use dodai_differential::server::Server;
use dodai_differential::shrink::{Finding, Pair};

struct Arguments {
    real: String,
    ours: String,
    token: String,
    runs: u64,
    seed: u64,
    length: usize,
    seconds: u64,
    shrink: bool,
    kind: Option<String>,
    known: Option<PathBuf>,
    probe: u64,
    record: Option<PathBuf>,
    keep: Option<PathBuf>,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        real: String::new(),
        ours: String::new(),
        token: String::new(),
        runs: 100,
        seed: 1,
        length: 12,
        seconds: u64::MAX,
        shrink: true,
        kind: None,
        known: None,
        probe: 0,
        record: None,
        keep: None,
    };
    let mut all = std::env::args().skip(1);
    while let Some(name) = all.next() {
        let value = all.next().with_context(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--real" => found.real = value,
            "--ours" => found.ours = value,
            "--token" => found.token = value,
            "--runs" => found.runs = value.parse()?,
            "--seed" => found.seed = value.parse()?,
            "--length" => found.length = value.parse()?,
            "--seconds" => found.seconds = value.parse()?,
            "--shrink" => found.shrink = value.parse()?,
            "--kind" => found.kind = Some(value),
            "--known" => found.known = Some(value.into()),
            "--probe" => found.probe = value.parse()?,
            "--record" => found.record = Some(value.into()),
            "--keep" => found.keep = Some(value.into()),
            other => anyhow::bail!("unknown argument `{other}`"),
        }
    }
    anyhow::ensure!(!found.real.is_empty() && !found.ours.is_empty(), "give `--real URL` and `--ours URL`");
    Ok(found)
}

/// The lines `"signature" = "reason"` of the file of known differences.
fn known(file: Option<&PathBuf>) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(file) = file else { return Ok(BTreeMap::new()) };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut known = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('"')) {
        let (signature, reason) =
            line.split_once("\" = \"").context("a line is `\"signature\" = \"reason\"`")?;
        known.insert(signature.trim_start_matches('"').to_owned(), reason.trim_end_matches('"').to_owned());
    }
    Ok(known)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider was installed first");
    }
    let pair = Pair::new(
        Server::new(&arguments.real, &arguments.token)?,
        Server::new(&arguments.ours, &arguments.token)?,
    );
    prepare(&pair.real).await.context("the real server")?;
    prepare(&pair.ours).await.context("our server")?;
    let schemas = Schemas::read(&pair.real).await?;
    let known = known(arguments.known.as_ref())?;
    if let Some(file) = &arguments.record {
        return record(&pair.real, &schemas, &arguments, file).await;
    }
    if arguments.probe > 0 {
        return probe(&pair, &schemas, &arguments).await;
    }
    let began = Instant::now();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let (mut runs, mut requests) = (0u64, 0usize);
    for seed in arguments.seed..arguments.seed + arguments.runs {
        if began.elapsed() > Duration::from_secs(arguments.seconds) {
            break;
        }
        let ops = generate::run(&schemas, seed, arguments.length, arguments.kind.as_deref());
        runs += 1;
        requests += ops.len();
        let Some(finding) = pair.play(&ops, &|signature| known.contains_key(signature)).await? else {
            continue;
        };
        let count = found.entry(finding.signature.clone()).or_default();
        *count += 1;
        if *count == 1 {
            let finding = if arguments.shrink { pair.shrink(finding).await? } else { finding };
            print(seed, &finding);
            keep(&arguments, seed, finding)?;
        }
    }
    let total: usize = found.values().sum();
    for (signature, count) in &found {
        println!("{count:5} {signature}");
    }
    println!(
        "{runs} runs, {requests} requests: {total} runs differ in {} ways ({} known)",
        found.len(),
        known.len()
    );
    std::process::exit(i32::from(total > 0));
}

/// Makes a case of each line `{"about": .., "op": ..}` of a file: what the real server answers to that write, made small.
async fn record(
    real: &Server,
    schemas: &Schemas,
    arguments: &Arguments,
    file: &std::path::Path,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for (number, line) in text.lines().enumerate() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let mut op: dodai_differential::op::Op = serde_json::from_value(entry["op"].clone())?;
        op.query.retain(|(key, _)| key != "dryRun");
        let mut ops = vec![op];
        if ops[0].name == dodai_differential::probe::EXISTING {
            ops.insert(0, generate::base(schemas, ops[0].kind, dodai_differential::probe::EXISTING));
        }
        let tag = format!("record-{:x}-{number}", std::process::id());
        let (ops, real) = dodai_differential::shrink::record(real, &tag, ops).await?;
        let about = entry["about"].as_str().unwrap_or_default().to_owned();
        let finding = Finding { ops, real, differences: Vec::new(), signature: about.clone() };
        write_case(arguments, &about, arguments.seed, finding)?;
    }
    Ok(())
}

/// The table of `probe`, the most frequent first, each with the request and the answers that showed it.
async fn probe(pair: &Pair, schemas: &Schemas, arguments: &Arguments) -> anyhow::Result<()> {
    let kind = arguments.kind.as_deref();
    let found = dodai_differential::probe::probe(
        &pair.real,
        &pair.ours,
        schemas,
        arguments.seed,
        arguments.probe,
        kind,
    )
    .await?;
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.count));
    if arguments.keep.is_some() {
        return keep_probes(pair, schemas, arguments, &found).await;
    }
    for (line, entry) in &found {
        let (op, real, ours) = &entry.example;
        println!("{:5} {line}", entry.count);
        println!("      {}", serde_json::to_string(op)?);
        println!("      real {} {}", real.status, real.body);
        println!("      ours {} {}", ours.status, ours.body);
    }
    println!(
        "{} requests: {} differences in {} ways",
        arguments.probe,
        found.iter().map(|(_, entry)| entry.count).sum::<usize>(),
        found.len()
    );
    Ok(())
}

/// Makes a case of each way of differing: the object, if the write is to one that exists, and the write, both made small.
async fn keep_probes(
    pair: &Pair,
    schemas: &Schemas,
    arguments: &Arguments,
    found: &[(String, dodai_differential::probe::Entry)],
) -> anyhow::Result<()> {
    for (line, entry) in found {
        let mut op = entry.example.0.clone();
        op.query.retain(|(key, _)| key != "dryRun");
        let mut ops = vec![op];
        if ops[0].name == dodai_differential::probe::EXISTING {
            ops.insert(0, generate::base(schemas, ops[0].kind, dodai_differential::probe::EXISTING));
        }
        let Some(finding) = pair.play(&ops, &|_| false).await? else { continue };
        let finding = pair.shrink(finding).await?;
        write_case(arguments, line, arguments.seed, finding)?;
    }
    Ok(())
}

fn print(seed: u64, finding: &Finding) {
    println!("== seed {seed}: {}", finding.signature);
    for op in &finding.ops {
        let body = op.body.as_ref().map(|body| body.to_string()).unwrap_or_default();
        println!("   {:?} {} {} {} {:?} {body}", op.verb, op.kind().kind, op.name, op.subresource, op.query);
    }
    for (path, real, ours) in finding.differences.iter().take(8) {
        println!("   {path}\n      real {real}\n      ours {ours}");
    }
}

fn keep(arguments: &Arguments, seed: u64, finding: Finding) -> anyhow::Result<()> {
    let about = finding.signature.clone();
    write_case(arguments, &about, seed, finding)
}

/// Characters of a case's file name.
const NAME_LEN_MAX: usize = 90;

fn write_case(arguments: &Arguments, about: &str, seed: u64, finding: Finding) -> anyhow::Result<()> {
    let Some(folder) = &arguments.keep else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    let mut name = String::new();
    for letter in about.chars() {
        match letter.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => name.push(letter),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    name.truncate(NAME_LEN_MAX);
    let steps = finding.ops.into_iter().zip(finding.real).map(|(op, answer)| Step { op, answer }).collect();
    let case = Case { about: format!("{about} (seed {seed})"), steps };
    case.write(&folder.join(format!("{}.json", name.trim_matches('-'))))
}
