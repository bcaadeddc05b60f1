//! `dodai doctor`: tries what Pods need on this machine, and says what to do where it is forbidden.

use crate::cli::{Doctor, Format};
use crate::failure::{Context, FAILED, Failure, Result};
use crate::screen;

pub(crate) fn run(args: &Doctor) -> Result<()> {
    let checks = dodai_node::doctor::check();
    let well = checks.iter().all(|check| check.ok);
    match args.output {
        Format::Json => {
            let list: Vec<serde_json::Value> = checks
                .iter()
                .map(|check| serde_json::json!({"name": check.name, "ok": check.ok, "detail": check.detail, "hint": check.hint}))
                .collect();
            println!("{}", serde_json::to_string_pretty(&list).context("cannot print the checks")?);
        }
        Format::Table => {
            for check in &checks {
                let sign = if check.ok { screen::green("✓") } else { screen::red("✗") };
                println!("{sign} {:<20} {}", check.name, check.detail);
                if let Some(hint) = check.hint.as_ref().filter(|_| !check.ok) {
                    println!("  hint: {hint}");
                }
            }
        }
    }
    if well { Ok(()) } else { Err(Failure::silent(FAILED)) }
}
