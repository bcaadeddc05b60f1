//! `dodai kubeconfig`: prints the kubeconfig of the running dodai.

use std::io::Write;

use crate::cli::Global;
use crate::failure::{Context, Failure, Result};
use crate::target;

pub(crate) fn run(global: &Global) -> Result<()> {
    let Some(data) = target::data(global, None)? else {
        return Err(Failure::failed("no running dodai found upwards from here")
            .hint("start one with `dodai up DIR`, or name its data folder with `--data DIR/.dodai`"));
    };
    let file = data.join("kubeconfig");
    let text = std::fs::read(&file).context(format!("cannot read `{}`", file.display()))?;
    std::io::stdout().write_all(&text).context("cannot print the kubeconfig")
}
