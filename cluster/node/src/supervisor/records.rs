//! What a supervisor writes about the runs of its containers: `runs/<container>/<attempt>.started` before a run and
//! `.exit` after it, each synced together with its folder before anyone is told. A start without an exit and with
//! no live supervisor is an outcome that nobody can know.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::protocol::{Container, ContainerState, ExitRecord};

/// Runs whose records are kept per container.
const RUNS_KEPT_MAX: u32 = 2;
/// Longest record that is read back.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    pub(crate) attempt: u32,
    pub(crate) started_at: Timestamp,
}

fn run_dir(pod_dir: &Path, container: &str) -> PathBuf {
    pod_dir.join("runs").join(container)
}

/// Writes `value` so that after a crash either the whole file is there or none.
pub(crate) fn write_synced<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = serde_json::to_vec(value).map_err(io::Error::other)?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    use std::io::Read;
    let mut text = Vec::new();
    File::open(path)?.take(RECORD_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// Says on disk that a run begins. `AlreadyExists` if it ever began before.
pub(crate) fn write_started(pod_dir: &Path, container: &str, record: &StartRecord) -> io::Result<()> {
    let dir = run_dir(pod_dir, container);
    if !dir.is_dir() {
        fs::create_dir_all(&dir)?;
        for folder in [dir.parent(), Some(pod_dir)].into_iter().flatten() {
            File::open(folder)?.sync_all()?;
        }
    }
    let path = dir.join(format!("{}.started", record.attempt));
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    write_synced(&path, record)
}

/// Says on disk how a run ended, then forgets runs that are too old.
pub(crate) fn write_exit(pod_dir: &Path, container: &str, record: &ExitRecord) -> io::Result<()> {
    let dir = run_dir(pod_dir, container);
    write_synced(&dir.join(format!("{}.exit", record.attempt)), record)?;
    if let Some(old) = record.attempt.checked_sub(RUNS_KEPT_MAX) {
        let _ = fs::remove_file(dir.join(format!("{old}.started")));
        let _ = fs::remove_file(dir.join(format!("{old}.exit")));
    }
    Ok(())
}

/// All containers of a Pod that ever started, from their records. A run without an exit is shown as `Starting`.
pub(crate) fn read_all(pod_dir: &Path) -> io::Result<Vec<Container>> {
    let mut containers = Vec::new();
    let entries = match fs::read_dir(pod_dir.join("runs")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(containers),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(container) = read_container(pod_dir, &name)? {
            containers.push(container);
        }
    }
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(containers)
}

fn read_container(pod_dir: &Path, name: &str) -> io::Result<Option<Container>> {
    let dir = run_dir(pod_dir, name);
    let mut newest = None;
    for entry in fs::read_dir(&dir)? {
        let file = entry?.file_name();
        let file = file.to_string_lossy();
        if let Some(attempt) = file.strip_suffix(".started").and_then(|number| number.parse::<u32>().ok()) {
            newest = newest.max(Some(attempt));
        }
    }
    let Some(attempt) = newest else { return Ok(None) };
    let started: StartRecord = read(&dir.join(format!("{attempt}.started")))?;
    let state = match read::<ExitRecord>(&dir.join(format!("{attempt}.exit"))) {
        Ok(record) => ContainerState::Exited(record),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ContainerState::Starting { started_at: started.started_at }
        }
        Err(error) => return Err(error),
    };
    let previous = attempt.checked_sub(1).and_then(|number| read(&dir.join(format!("{number}.exit"))).ok());
    Ok(Some(Container { name: name.to_string(), attempt, state, previous }))
}
