//! Load on a Kubernetes API, for the benchmarks.
//!
//! `dodai-bench-load TARGET [--pids PID,PID] PHASE`: TARGET is a kubeconfig, or `in-process` for a server of ours in this process,
//! without a socket. PHASE is `creates CLIENTS SECONDS`, `operations COUNT`, `watching WATCHERS EVENTS`, `objects COUNT`, or
//! `all [SCALE]` for the whole of `bench/apiserver`. `dodai-bench-load disk FOLDER SECONDS` measures what the disk allows. Prints one figure a line, as JSON: `{"figure": ..., "unit": ..., "value": ...}`. CPU and memory are those of the processes given (in process: of this one, the
//! client's share included).

mod disk;
mod phases;
mod processes;
mod target;

use anyhow::{Context, bail};

use crate::processes::Processes;
use crate::target::Target;

/// Prints a figure.
fn tell(figure: &str, unit: &str, value: f64) {
    println!("{}", serde_json::json!({ "figure": figure, "unit": unit, "value": value }));
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another TLS provider was installed first");
    }
    let mut processes = Processes::none();
    if let Some(at) = arguments.iter().position(|argument| argument == "--pids") {
        let pids = arguments.get(at + 1).context("--pids needs a list")?;
        processes = Processes::parse(pids)?;
        arguments.drain(at..at + 2);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("`{text}` is no number"));
    let [target, phase @ ..] = arguments.as_slice() else {
        bail!("usage: dodai-bench-load TARGET [--pids PID,PID] PHASE, or disk FOLDER SECONDS");
    };
    if let ("disk", [folder, seconds]) = (*target, phase) {
        return disk::syncs(folder.as_ref(), number(seconds)?);
    }
    let target = Target::open(target).await?;
    if target.is_in_process() {
        processes = Processes::this();
    }
    match phase {
        ["creates", clients, seconds] => {
            phases::creates(&target, &processes, number(clients)? as usize, number(seconds)?).await
        }
        ["operations", count] => phases::operations(&target, &processes, number(count)? as usize).await,
        ["watching", watchers, events] => {
            phases::watching(&target, number(watchers)? as usize, number(events)? as usize).await
        }
        ["objects", count] => phases::objects(&target, &processes, number(count)? as usize).await,
        ["all"] => phases::all(&target, &processes, 100).await,
        ["all", scale] => phases::all(&target, &processes, number(scale)?).await,
        _ => bail!("`{}` is no phase", phase.join(" ")),
    }
}
