//! What this process tells Prometheus besides the API server's own figures: its controllers, their restarts, and the process itself
//! under the names of Prometheus' client libraries.

use std::fmt::Write;
use std::fs;

use dodai_kit::controller::Context;
use nix::sys::resource::{Resource, getrlimit};

/// The whole text, Prometheus' format 0.0.4.
pub(crate) fn render(context: &Context) -> String {
    let mut text = context.metrics.render();
    text.push_str(
        "# HELP dodai_controller_up Whether a controller runs.\n# TYPE dodai_controller_up gauge\n",
    );
    let controllers = context.health.controllers();
    for one in &controllers {
        let (engine, controller, up) = (one.engine, one.controller, u8::from(one.running));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "dodai_controller_up{{engine=\"{engine}\",controller=\"{controller}\"}} {up}");
    }
    text.push_str(
        "# HELP dodai_controller_restarts_total How often a controller ended and was started again.\n",
    );
    text.push_str("# TYPE dodai_controller_restarts_total counter\n");
    for one in &controllers {
        let (engine, controller, restarts) = (one.engine, one.controller, one.restarts);
        let _ = writeln!(
            text,
            "dodai_controller_restarts_total{{engine=\"{engine}\",controller=\"{controller}\"}} {restarts}"
        );
    }
    gauge(
        &mut text,
        "dodai_objects_set_aside",
        "Objects that wait for a change since their controller panicked over them.",
        context.health.set_aside().len() as f64,
    );
    process(&mut text);
    text
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

fn process(text: &mut String) {
    if let Some(kib) = resident_kib() {
        gauge(text, "process_resident_memory_bytes", "Resident memory size in bytes.", (kib * 1024) as f64);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge(text, "process_open_fds", "Number of open file descriptors.", files.count() as f64);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        gauge(text, "process_max_fds", "Maximum number of open file descriptors.", soft as f64);
    }
    if let Ok(used) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        let seconds = [used.user_time(), used.system_time()]
            .iter()
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .sum::<f64>();
        let _ = writeln!(
            text,
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n\
             # TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds}"
        );
    }
}

fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
