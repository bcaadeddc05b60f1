//! Starts many test environments at once in one process, as the tests of one binary do, and prints what each costs as CSV.
//!
//! `dodai-bench-testenv 200`: rows `what,n,start_p50_ms,start_p99_ms,first_write_p50_ms,memory_each_kib`. Memory is what
//! the process grew by while all of them lived (`VmRSS`, after a first environment that pays for what all share).
//! Beside envtest's way: `bench/testenv/run`.

use std::time::Instant;

use anyhow::{Context, Result};
use dodai_apiserver::testing::TestEnv;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};

/// Environments where no number is given.
const ENVIRONMENTS: usize = 200;

fn main() -> Result<()> {
    let n = std::env::args().nth(1).map(|text| text.parse()).transpose()?.unwrap_or(ENVIRONMENTS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("what,n,start_p50_ms,start_p99_ms,first_write_p50_ms,memory_each_kib");
    runtime.block_on(async {
        let first = measure(1).await?;
        println!("first in the process,1,{}", first.row());
        let together = measure(n).await?;
        println!("in parallel,{n},{}", together.row());
        anyhow::Ok(())
    })
}

struct Measured {
    start_ms: Vec<f64>,
    write_ms: Vec<f64>,
    memory_each_kib: f64,
}

impl Measured {
    fn row(&self) -> String {
        let at = |values: &[f64], part: f64| values[((values.len() - 1) as f64 * part) as usize];
        format!(
            "{:.2},{:.2},{:.2},{:.0}",
            at(&self.start_ms, 0.5),
            at(&self.start_ms, 0.99),
            at(&self.write_ms, 0.5),
            self.memory_each_kib
        )
    }
}

async fn measure(n: usize) -> Result<Measured> {
    let before = resident_kib()?;
    let tasks = (0..n).map(|_| tokio::spawn(one()));
    let mut kept = Vec::new();
    let (mut start_ms, mut write_ms) = (Vec::new(), Vec::new());
    for task in futures::future::join_all(tasks).await {
        let (env, start, write) = task??;
        start_ms.push(start);
        write_ms.push(write);
        kept.push(env);
    }
    let memory_each_kib = (resident_kib()? - before) / n as f64;
    start_ms.sort_by(f64::total_cmp);
    write_ms.sort_by(f64::total_cmp);
    Ok(Measured { start_ms, write_ms, memory_each_kib })
}

/// Starts one and writes an object.
async fn one() -> Result<(TestEnv, f64, f64)> {
    let started = Instant::now();
    let env = TestEnv::start().await?;
    let start = started.elapsed().as_secs_f64() * 1000.0;
    let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
    let map =
        serde_json::from_value(serde_json::json!({ "metadata": { "name": "a" }, "data": { "k": "v" } }))?;
    let writing = Instant::now();
    maps.create(&PostParams::default(), &map).await?;
    Ok((env, start, writing.elapsed().as_secs_f64() * 1000.0))
}

/// What the process has in memory, KiB.
fn resident_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
