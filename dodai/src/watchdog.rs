//! Notices when the process stands still: a thread of its own asks the runtime for a sign of life every second.
//!
//! Silent for [`TELL_AFTER`] ticks, it says what every thread is doing; for [`ABORT_AFTER`], it ends the process, so that whoever
//! supervises it starts it again. Ticks are counted, not time: a process that was stopped and continued, or a machine that
//! slept, has missed none.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// Between two questions.
const TICK: Duration = Duration::from_secs(1);
/// Ticks without an answer until the threads are told.
const TELL_AFTER: u32 = 10;
/// Ticks without an answer until the process ends.
const ABORT_AFTER: u32 = 30;
/// Threads that are told.
const THREADS_MAX: usize = 64;

/// What a tick calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Tell,
    Abort,
}

#[derive(Default)]
struct Silence(u32);

impl Silence {
    fn tick(&mut self, answered: bool) -> Verdict {
        self.0 = if answered { 0 } else { self.0.saturating_add(1) };
        match self.0 {
            TELL_AFTER => Verdict::Tell,
            silent if silent >= ABORT_AFTER => Verdict::Abort,
            _ => Verdict::Fine,
        }
    }
}

/// Starts to watch the runtime. Without a thread for it the process runs unwatched, which is told.
pub(crate) fn start(runtime: Handle) {
    let watch = move || {
        watch(&runtime, TICK, |verdict| match verdict {
            Verdict::Tell => {
                tracing::error!(
                    "nothing was answered for {TELL_AFTER} s; the threads:\n{}",
                    threads(Path::new("/proc/self/task"))
                );
            }
            Verdict::Abort => {
                tracing::error!(
                    "nothing was answered for {ABORT_AFTER} s: this process ends; nothing acknowledged is lost"
                );
                std::process::abort();
            }
            Verdict::Fine => {}
        });
    };
    if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(watch) {
        tracing::warn!(%error, "no watchdog");
    }
}

/// Asks until the runtime is gone.
fn watch(runtime: &Handle, tick: Duration, mut act: impl FnMut(Verdict)) {
    let mut silence = Silence::default();
    let mut asked = ask(runtime);
    loop {
        std::thread::sleep(tick);
        // The question is dropped unanswered where the runtime has ended.
        let answered = asked.load(Ordering::Acquire);
        if !answered && Arc::strong_count(&asked) == 1 {
            return;
        }
        act(silence.tick(answered));
        // One question at a time: those that nobody answers must not pile up.
        if answered {
            asked = ask(runtime);
        }
    }
}

fn ask(runtime: &Handle) -> Arc<AtomicBool> {
    let answered = Arc::new(AtomicBool::new(false));
    let answer = answered.clone();
    runtime.spawn(async move { answer.store(true, Ordering::Release) });
    answered
}

/// Name, state and place in the kernel of every thread, a line each.
fn threads(folder: &Path) -> String {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut text = String::new();
    for thread in fs::read_dir(folder).into_iter().flatten().flatten().take(THREADS_MAX) {
        let path = thread.path();
        let status = read(&path.join("status"));
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("?").trim();
        let (name, wchan) = (read(&path.join("comm")), read(&path.join("wchan")));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} {name}: {state} {wchan}", thread.file_name().to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_and_then_ends_the_process() {
        let mut silence = Silence::default();
        let verdicts: Vec<Verdict> = (1..=ABORT_AFTER).map(|_| silence.tick(false)).collect();
        let told: Vec<u32> =
            (1..).zip(&verdicts).filter(|(_, v)| **v == Verdict::Tell).map(|(n, _)| n).collect();
        assert_eq!(told, [TELL_AFTER]);
        assert_eq!(verdicts.iter().position(|v| *v == Verdict::Abort), Some(ABORT_AFTER as usize - 1));
        assert_eq!(silence.tick(true), Verdict::Fine);
        assert_eq!(silence.tick(false), Verdict::Fine, "an answer makes good for all before it");
    }

    #[test]
    fn a_runtime_that_stands_still_is_noticed_and_one_that_is_gone_is_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let (tell, told) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn(move || {
            watch(&handle, Duration::from_millis(1), |verdict| {
                let _ = tell.send(verdict);
            });
        });
        // Nobody drives the runtime: no question is answered.
        assert!(told.iter().any(|verdict| verdict == Verdict::Tell));
        assert!(told.iter().any(|verdict| verdict == Verdict::Abort));
        // Driven, it answers again.
        runtime.block_on(async {
            while told.try_recv().is_ok_and(|verdict| verdict != Verdict::Fine) {
                tokio::task::yield_now().await;
            }
        });
        drop(runtime);
        watcher.join().unwrap();
    }

    #[test]
    fn threads_are_told_by_name_and_state() {
        let folder = tempfile::tempdir().unwrap();
        let thread = folder.path().join("7");
        std::fs::create_dir(&thread).unwrap();
        for (file, text) in [
            ("comm", "worker\n"),
            ("status", "Name:\tworker\nState:\tD (disk sleep)\n"),
            ("wchan", "folio_wait_bit"),
        ] {
            std::fs::write(thread.join(file), text).unwrap();
        }
        assert_eq!(threads(folder.path()), "  7 worker: D (disk sleep) folio_wait_bit\n");
    }
}
