//! Counters of the controllers, under controller-runtime's names, so that existing dashboards work.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What one controller did since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Passes that ended well.
    pub succeeded: u64,
    /// Passes that ended well and asked to be run again later.
    pub requeued_after: u64,
    /// Passes that failed.
    pub errors: u64,
    /// Passes that panicked, part of `errors`.
    pub panics: u64,
    /// Actions carried out.
    pub actions: u64,
    /// Seconds spent in passes.
    pub seconds: f64,
}

/// A metric's name and where its value comes from.
type Column = (&'static str, fn(&Counts) -> f64);

/// The counters of all controllers of a process. Labels are the names of controllers, a fixed set.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<&'static str, Counts>>>);

impl Metrics {
    /// Changes the counters of a controller.
    pub(crate) fn update(&self, controller: &'static str, took: Duration, change: impl FnOnce(&mut Counts)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(controller).or_default();
        counts.seconds += took.as_secs_f64();
        change(counts);
    }

    /// The counters of a controller.
    pub fn of(&self, controller: &str) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(controller).copied().unwrap_or_default()
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        text.push_str("# TYPE controller_runtime_reconcile_total counter\n");
        for (name, counts) in all.iter() {
            for (result, value) in [
                ("success", counts.succeeded),
                ("requeue_after", counts.requeued_after),
                ("error", counts.errors),
            ] {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "controller_runtime_reconcile_total{{controller=\"{name}\",result=\"{result}\"}} {value}"
                );
            }
        }
        let columns: [Column; 4] = [
            ("controller_runtime_reconcile_errors_total", |counts| counts.errors as f64),
            ("controller_runtime_reconcile_panics_total", |counts| counts.panics as f64),
            ("dodai_kit_actions_total", |counts| counts.actions as f64),
            ("controller_runtime_reconcile_time_seconds_sum", |counts| counts.seconds),
        ];
        for (metric, value) in columns {
            let _ = writeln!(text, "# TYPE {metric} counter");
            for (name, counts) in all.iter() {
                let _ = writeln!(text, "{metric}{{controller=\"{name}\"}} {}", value(counts));
            }
        }
        text
    }
}
