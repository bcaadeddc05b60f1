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

/// Two loops of some seconds in a folder: over a file that grows, and over one that was filled with zeros before (which is not counted).
pub(crate) fn syncs(folder: &Path, seconds: u64) -> anyhow::Result<()> {
    let path = folder.join("syncs");
    let mut file = File::create(&path).context("cannot create a file")?;
    for (figure, is_ready) in [("syncs, growing file", false), ("syncs, file made ready", true)] {
        let (mut times, mut left) = (Vec::new(), 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            if is_ready && left < RECORD_BYTES {
                ready(&mut file)?;
                left = READY_BYTES;
            }
            left = left.saturating_sub(RECORD_BYTES);
            let began = Instant::now();
            append(&mut file)?;
            times.push(began.elapsed());
        }
        let all: Duration = times.iter().sum();
        tell(figure, "1/s", times.len() as f64 / all.as_secs_f64());
        times.sort();
        tell(&format!("{figure}: p50"), "ms", times[times.len() / 2].as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(&path)?;
    Ok(())
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
