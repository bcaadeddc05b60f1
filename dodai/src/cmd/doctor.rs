//! `dodai doctor`: tries what Pods need on this machine, and says what to do where it is forbidden.

use serde::Serialize;

use crate::cli::{Doctor, Format};
use crate::failure::{Context, FAILED, Failure, Result};
use crate::screen;

#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    hints: Vec<String>,
}

impl From<dodai_node::doctor::Check> for Check {
    fn from(check: dodai_node::doctor::Check) -> Check {
        Check {
            name: check.name,
            ok: check.ok,
            detail: check.detail,
            hints: check.hint.into_iter().collect(),
        }
    }
}

pub(crate) async fn run(args: &Doctor) -> Result<()> {
    let mut checks: Vec<Check> = dodai_node::doctor::check().into_iter().map(Check::from).collect();
    checks.push(python().await);
    let well = checks.iter().all(|check| check.ok);
    match args.output {
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&checks).context("cannot print the checks")?)
        }
        Format::Table => {
            for check in &checks {
                let sign = if check.ok { screen::green("✓") } else { screen::red("✗") };
                println!("{sign} {:<12} {}", check.name, check.detail);
                for hint in &check.hints {
                    println!("  hint: {hint}");
                }
            }
        }
    }
    if well { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

/// Needed by Python projects only, so that its absence is no failure of the machine.
async fn python() -> Check {
    let tried = tokio::process::Command::new("python3")
        .args(["-c", "import venv, ensurepip, sys; print(sys.version.split()[0])"])
        .output()
        .await;
    let (detail, hints) = match tried {
        Ok(output) if output.status.success() => {
            (format!("Python {} with venv", String::from_utf8_lossy(&output.stdout).trim()), Vec::new())
        }
        Ok(_) => (
            "Python 3 without venv".to_owned(),
            vec!["Python projects need it: apt-get install python3-venv".to_owned()],
        ),
        Err(_) => {
            ("not found".to_owned(), vec!["Python projects need it: apt-get install python3-venv".to_owned()])
        }
    };
    Check { name: "python3", ok: true, detail, hints }
}
