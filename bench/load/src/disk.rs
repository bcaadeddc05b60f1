//! What the disk itself allows: the bare loop of appending what one create appends, and syncing it. No server that acknowledges one
//! write after the other can be faster, whatever it is written in.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::tell;

/// Bytes that the log takes for one object of the other phases.
const RECORD_BYTES: usize = 2432;
/// Bytes of zeros that are made ready before the second loop, over and over.
const READY_BYTES: usize = 4 << 20;

/// Two loops of some seconds in a folder: over a file that grows, and over one that was filled with zeros before.
pub(crate) fn syncs(folder: &Path, seconds: u64) -> anyhow::Result<()> {
    let path = folder.join("syncs");
    let mut file = File::create(&path).context("cannot create a file")?;
    let time = Duration::from_secs(seconds);
    let (count, took) = run(time, || append(&mut file))?;
    tell("syncs, growing file", "1/s", count / took);
    let mut left = 0;
    let (count, took) = run(time, || {
        if left < RECORD_BYTES {
            ready(&mut file)?;
            left = READY_BYTES;
        }
        left -= RECORD_BYTES;
        append(&mut file)
    })?;
    tell("syncs, file made ready", "1/s", count / took);
    std::fs::remove_file(&path)?;
    Ok(())
}

fn run(time: Duration, mut one: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<(f64, f64)> {
    let (began, mut count) = (Instant::now(), 0.0);
    while began.elapsed() < time {
        one()?;
        count += 1.0;
    }
    Ok((count, began.elapsed().as_secs_f64()))
}

fn append(file: &mut File) -> anyhow::Result<()> {
    file.write_all(&[b'x'; RECORD_BYTES])?;
    Ok(file.sync_data()?)
}

fn ready(file: &mut File) -> anyhow::Result<()> {
    let at = file.stream_position()?;
    file.write_all(&vec![0; READY_BYTES])?;
    file.sync_data()?;
    file.seek(SeekFrom::Start(at))?;
    Ok(())
}
