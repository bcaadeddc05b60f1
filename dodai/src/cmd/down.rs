//! `dodai down`: stops a dodai that runs, and with `--delete` removes its data.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use dodai_apiserver::store::seal::user_folder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::{Down, Global};
use crate::failure::{Context, Failure, Result};
use crate::progress::Steps;
use crate::target::{self, DATA_FOLDER};

/// How often to look whether it has stopped.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait: Pods have their grace, and a release command runs to its end.
const STOP_MAX: Duration = Duration::from_secs(3600);

pub(crate) async fn run(global: &Global, args: &Down) -> Result<()> {
    let steps = Steps::new(global.quiet);
    let running = match &global.data {
        Some(data) => Some(data.clone()).filter(|data| target::is_running(data)),
        None => target::data(global, None)?,
    };
    let data = match running {
        Some(data) => {
            stop(&data, &steps).await?;
            data
        }
        None => {
            let data = global.data.clone().unwrap_or_else(|| DATA_FOLDER.into());
            if !(args.delete && data.join("lock").exists()) {
                return Err(Failure::failed("no running dodai found upwards from here")
                    .hint("name its data folder with `--data DIR/.dodai`"));
            }
            data
        }
    };
    if args.delete {
        delete(&data, args.yes, &steps)?;
    }
    Ok(())
}

async fn stop(data: &Path, steps: &Steps) -> Result<()> {
    let lock =
        std::fs::read_to_string(data.join("lock")).context("cannot read the lock of the data folder")?;
    let pid = lock.lines().next().and_then(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1);
    let Some(pid) = pid else {
        return Err(Failure::failed(format!("the lock of `{}` names no process", data.display())));
    };
    let began = std::time::Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGTERM).context(format!("cannot stop process {pid}"))?;
    steps.now("dodai", "stopping");
    while target::is_running(data) {
        if began.elapsed() > STOP_MAX {
            return Err(Failure::failed(format!("process {pid} did not stop")));
        }
        tokio::time::sleep(LOOK).await;
    }
    steps.clear();
    steps.done("dodai", "stopped, state is kept", Some(began.elapsed()));
    Ok(())
}

fn delete(data: &Path, yes: bool, steps: &Steps) -> Result<()> {
    let what = format!("`{}` with all objects, logs, images and volumes", data.display());
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::invalid(format!("deleting {what} needs a yes")).hint("give `-y`"));
        }
        eprint!("delete {what}? Type `yes`: ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
        if answer.trim() != "yes" {
            return Err(Failure::failed("nothing was deleted"));
        }
    }
    std::fs::remove_dir_all(data).context(format!("cannot delete `{}`", data.display()))?;
    steps.done("data", &format!("{what}: deleted"), None);
    if let Ok(keys) = user_folder()
        && keys.is_dir()
    {
        let keys = keys.display();
        steps.note(&format!(
            "the key that sealed its Secrets stays (in {keys}, or where `--key-file` named it): a copy of the folder needs it"
        ));
    }
    Ok(())
}
