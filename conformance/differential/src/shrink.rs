//! Makes a finding small: fewer requests, then smaller bodies, as long as the same difference stays.

use serde_json::Value;

use crate::op::Op;
use crate::play::{Player, Told, differences, signature};
use crate::server::Server;

/// How many times the shrinker may play the requests again.
const PLAYS_MAX: usize = 120;

/// The same for `record`.
const RECORD_PLAYS_MAX: usize = 70;

/// A run that ends in a difference.
pub struct Finding {
    pub ops: Vec<Op>,
    /// What the real server answered to each.
    pub real: Vec<Told>,
    pub differences: Vec<(String, Value, Value)>,
    pub signature: String,
}

pub struct Pair {
    pub real: Server,
    pub ours: Server,
    counter: std::cell::Cell<u64>,
    tag: String,
}

impl Pair {
    pub fn new(real: Server, ours: Server) -> Pair {
        let tag = format!("d{:x}", std::process::id());
        Pair { real, ours, counter: std::cell::Cell::new(0), tag }
    }

    /// Plays until the first difference that `known` does not explain. `None`: all answers are equal or known.
    pub async fn play(&self, ops: &[Op], known: &dyn Fn(&str) -> bool) -> anyhow::Result<Option<Finding>> {
        self.counter.set(self.counter.get() + 1);
        let namespace = format!("{}-{}", self.tag, self.counter.get());
        let mut real = Player::start(&self.real, &namespace).await?;
        let mut ours = Player::start(&self.ours, &namespace).await?;
        let mut told = Vec::new();
        for (position, op) in ops.iter().enumerate() {
            let (left, right) = tokio::join!(real.play(op), ours.play(op));
            let (left, right) = (left?, right?);
            let differences = differences(&left, &right);
            told.push(left);
            if differences.is_empty() {
                continue;
            }
            let signature = signature(op, &differences);
            if known(&signature) {
                // After a known difference the two stores may differ: what follows says nothing new.
                return Ok(None);
            }
            return Ok(Some(Finding { ops: ops[..=position].to_vec(), real: told, differences, signature }));
        }
        Ok(None)
    }

    pub async fn shrink(&self, found: Finding) -> anyhow::Result<Finding> {
        let mut best = found;
        let mut plays = 0;
        // Fewer requests; the last one is the one that differs.
        let mut position = best.ops.len().saturating_sub(1);
        while position > 0 && plays < PLAYS_MAX {
            position -= 1;
            let mut fewer = best.ops.clone();
            fewer.remove(position);
            plays += 1;
            if let Some(smaller) = self.same(&fewer, &best.signature).await? {
                position = position.min(smaller.ops.len().saturating_sub(1));
                best = smaller;
            }
        }
        // Smaller bodies and queries; what was tried in vain is not tried again.
        let mut tried = std::collections::HashSet::new();
        while plays < PLAYS_MAX {
            let next = smaller(&best.ops).into_iter().find(|(key, _)| !tried.contains(key));
            let Some((key, candidate)) = next else { break };
            plays += 1;
            match self.same(&candidate, &best.signature).await? {
                Some(found) => best = found,
                None => {
                    tried.insert(key);
                }
            }
        }
        Ok(best)
    }

    async fn same(&self, ops: &[Op], signature: &str) -> anyhow::Result<Option<Finding>> {
        let found = self.play(ops, &|_| false).await?;
        Ok(found.filter(|found| found.signature == signature && found.ops.len() == ops.len()))
    }
}

/// Asks the real server alone and makes a refusal small: the last request and its answer stay what they are.
pub async fn record(real: &Server, tag: &str, ops: Vec<Op>) -> anyhow::Result<(Vec<Op>, Vec<Told>)> {
    let mut plays = 0;
    let mut best = ops;
    let mut told = answers(real, &format!("{tag}-{plays}"), &best).await?;
    let mut tried = std::collections::HashSet::new();
    while told.last().is_some_and(|last| last.status >= 400) && plays < RECORD_PLAYS_MAX {
        let next = smaller(&best).into_iter().find(|(key, _)| !tried.contains(key));
        let Some((key, candidate)) = next else { break };
        plays += 1;
        let found = answers(real, &format!("{tag}-{plays}"), &candidate).await?;
        let sound = found.iter().rev().skip(1).all(|told| told.status < 400);
        if sound && found.last() == told.last() {
            (best, told) = (candidate, found);
        } else {
            tried.insert(key);
        }
    }
    Ok((best, told))
}

async fn answers(server: &Server, namespace: &str, ops: &[Op]) -> anyhow::Result<Vec<Told>> {
    let mut player = Player::start(server, namespace).await?;
    let mut told = Vec::new();
    for op in ops {
        told.push(player.play(op).await?);
    }
    Ok(told)
}

/// Each way to take one member or element out of one body, large ones first; and to drop one part of a query.
fn smaller(ops: &[Op]) -> Vec<(String, Vec<Op>)> {
    let mut candidates = Vec::new();
    for (position, op) in ops.iter().enumerate() {
        for index in 0..op.query.len() {
            let mut ops = ops.to_vec();
            ops[position].query.remove(index);
            candidates.push((0, format!("{position}?{index}"), ops));
        }
        let Some(body) = &op.body else { continue };
        let mut pointers = Vec::new();
        collect(body, String::new(), &mut pointers);
        for (pointer, size) in pointers {
            let mut ops = ops.to_vec();
            if let Some(body) = &mut ops[position].body
                && take(body, &pointer)
            {
                candidates.push((usize::MAX - size, format!("{position}{pointer}"), ops));
            }
        }
    }
    candidates.sort_by_key(|(order, ..)| *order);
    candidates.into_iter().map(|(_, key, ops)| (key, ops)).collect()
}

fn collect(value: &Value, pointer: String, found: &mut Vec<(String, usize)>) {
    let mut visit = |key: String, inner: &Value| {
        let pointer = format!("{pointer}/{key}");
        found.push((pointer.clone(), inner.to_string().len()));
        collect(inner, pointer, found);
    };
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                visit(key.replace('~', "~0").replace('/', "~1"), inner);
            }
        }
        Value::Array(items) => {
            for (position, inner) in items.iter().enumerate() {
                visit(position.to_string(), inner);
            }
        }
        _ => {}
    }
}

fn take(body: &mut Value, pointer: &str) -> bool {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return false };
    let key = key.replace("~1", "/").replace("~0", "~");
    match body.pointer_mut(parent) {
        Some(Value::Object(members)) => members.remove(&key).is_some(),
        Some(Value::Array(items)) => match key.parse::<usize>() {
            Ok(position) if position < items.len() => {
                items.remove(position);
                true
            }
            _ => false,
        },
        _ => false,
    }
}
