//! The runtime for host processes: a supervisor process per Pod, found again through the socket in the Pod's folder.
//!
//! `<data>/pods/<uid>/` holds `pod.json`, the supervisor's lock, socket and records, and what belongs to the Pod alone
//! (`/tmp`, emptyDir volumes, unpacked sources). A Pod whose containers are all over needs no process.

mod attach;
mod pod;
mod session;
mod sockets;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{PodConfig, PodHandle, Runtime};
use crate::error::{Error, Result};
use crate::supervisor::records;

/// Runs Pods as processes of this machine.
pub struct ProcessRuntime {
    pods: PathBuf,
    supervisor_exe: Vec<OsString>,
}

impl ProcessRuntime {
    /// `data` is dodai's data folder. `supervisor_exe` is the program, with its first arguments, that calls
    /// [`crate::supervisor_main`] with the arguments after those.
    pub fn new(data: &Path, supervisor_exe: Vec<OsString>) -> Result<ProcessRuntime> {
        let pods = data.join("pods");
        make_private(&pods)?;
        // A supervisor changes its directory, so the path that it gets must not depend on ours.
        let pods = fs::canonicalize(&pods).map_err(Error::file("find", &pods))?;
        Ok(ProcessRuntime { pods, supervisor_exe })
    }
}

impl Runtime for ProcessRuntime {
    fn known(&self) -> Result<Vec<PodConfig>> {
        let mut known = Vec::new();
        for entry in fs::read_dir(&self.pods).map_err(Error::file("read", &self.pods))? {
            let path = entry.map_err(Error::file("read", &self.pods))?.path();
            match records::read::<PodConfig>(&path.join("pod.json")) {
                Ok(config) => known.push(config),
                // Made by a dodai that was killed before it wrote the file: nothing was ever started in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let _ = fs::remove_dir_all(&path);
                }
                Err(error) => return Err(Error::file("read", path.join("pod.json"))(error)),
            }
        }
        Ok(known)
    }

    fn open(&self, config: PodConfig) -> BoxFuture<'_, Result<Arc<dyn PodHandle>>> {
        async move {
            let folder = self.pods.join(&config.uid);
            let config = keep_config(&folder, config)?;
            let pod = pod::ProcessPod::open(folder, config, self.supervisor_exe.clone()).await?;
            Ok(Arc::new(pod) as Arc<dyn PodHandle>)
        }
        .boxed()
    }
}

/// Writes `pod.json`, or takes the port and uid from the one that is there. How long dodai may be away is decided anew.
fn keep_config(folder: &Path, mut config: PodConfig) -> Result<PodConfig> {
    make_private(folder)?;
    let path = folder.join("pod.json");
    match records::read::<PodConfig>(&path) {
        Ok(kept) => {
            config.port = kept.port.or(config.port);
            if config == kept {
                return Ok(config);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file("read", path)(error)),
    }
    records::write_synced(&path, &config).map_err(Error::file("write", &path))?;
    Ok(config)
}

fn make_private(folder: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::file("make", folder))
}

/// Removes a folder whose content may forbid it by its own permissions.
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            open_up(folder);
            fs::remove_dir_all(folder)
        }
    }
}

fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
