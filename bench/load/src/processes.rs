//! CPU seconds and resident memory of the processes under load, from `/proc`.

use anyhow::Context;

/// Clock ticks of `/proc/PID/stat` in a second: fixed at 100 for programs on Linux.
const TICKS_PER_S: f64 = 100.0;

/// Processes that are measured together; with none, every figure is zero.
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    pub(crate) fn none() -> Processes {
        Processes(Vec::new())
    }

    pub(crate) fn this() -> Processes {
        Processes(vec![std::process::id()])
    }

    /// Numbers with commas between.
    pub(crate) fn parse(list: &str) -> anyhow::Result<Processes> {
        let pids = list.split(',').map(|pid| pid.trim().parse().context("a process is a number"));
        Ok(Processes(pids.collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// CPU seconds of all so far, user and system.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let mut ticks = 0.0;
        for pid in &self.0 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a process has gone")?;
            let fields = stat.rsplit_once(')').context("stat has a name in parentheses")?.1;
            let fields: Vec<&str> = fields.split_whitespace().collect();
            for field in [11, 12] {
                ticks += fields.get(field).context("stat is short")?.parse::<f64>()?;
            }
        }
        Ok(ticks / TICKS_PER_S)
    }

    /// Resident memory of all, bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<f64> {
        let mut kib = 0.0;
        for pid in &self.0 {
            let status =
                std::fs::read_to_string(format!("/proc/{pid}/status")).context("a process has gone")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            kib += line.trim().trim_end_matches(" kB").parse::<f64>()?;
        }
        Ok(kib * 1024.0)
    }
}
