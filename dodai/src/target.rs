//! Which dodai a command talks to: `--data`, else `--kubeconfig`, else the nearest running `.dodai` upwards from here (or
//! from the folder that was named), else `KUBECONFIG`.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::Global;
use crate::failure::{Context, Failure, Result};

/// Name of the data folder beside the manifests.
pub(crate) const DATA_FOLDER: &str = ".dodai";

/// The API that a command talks to.
pub(crate) struct Target {
    pub(crate) client: Client,
    /// The data folder, where it is one of this machine.
    pub(crate) data: Option<PathBuf>,
}

/// Finds the API. `near` is the folder that the command was given, if any.
pub(crate) async fn find(global: &Global, near: Option<&Path>) -> Result<Target> {
    if let Some(file) = &global.kubeconfig {
        let client = client(file).await?;
        return Ok(Target { client, data: global.data.clone() });
    }
    if let Some(data) = data(global, near)? {
        let client = client(&data.join("kubeconfig")).await?;
        return Ok(Target { client, data: Some(data) });
    }
    if std::env::var_os("KUBECONFIG").is_some() {
        let config = Config::infer().await.context("cannot use `KUBECONFIG`")?;
        let client = Client::try_from(config).context("cannot use `KUBECONFIG`")?;
        return Ok(Target { client, data: None });
    }
    Err(Failure::failed("no running dodai found upwards from here")
        .hint("start one with `dodai up DIR`, or name its data folder with `--data DIR/.dodai`"))
}

/// The data folder of a running dodai of this machine.
pub(crate) fn data(global: &Global, near: Option<&Path>) -> Result<Option<PathBuf>> {
    if let Some(data) = &global.data {
        return match is_running(data) {
            true => Ok(Some(data.clone())),
            false => Err(Failure::failed(format!("no dodai is running on `{}`", data.display()))
                .hint("start it with `dodai up`")),
        };
    }
    let here = std::env::current_dir().context("cannot read the current folder")?;
    let mut starts = vec![here.clone()];
    if let Some(near) = near {
        let near = std::path::absolute(near).context(format!("cannot read `{}`", near.display()))?;
        starts.insert(0, near);
    }
    Ok(starts
        .iter()
        .flat_map(|start| start.ancestors())
        .map(|folder| folder.join(DATA_FOLDER))
        .find(|data| is_running(data)))
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let what = format!("cannot use the kubeconfig `{}`", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).context(&what)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.context(&what)?;
    Client::try_from(config).context(&what)
}

/// Whether a dodai holds the lock of this data folder.
pub(crate) fn is_running(data: &Path) -> bool {
    let Ok(file) = File::open(data.join("lock")) else { return false };
    lock(&file).is_err()
}

/// Takes the lock without waiting; it is held as long as the file is open.
pub(crate) fn lock(file: &impl AsFd) -> std::io::Result<()> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    // SAFETY: flock on a descriptor that we borrow; no memory is touched.
    match unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
