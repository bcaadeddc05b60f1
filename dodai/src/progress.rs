//! Steps of something that takes time, on stderr: on a terminal a line that moves, elsewhere one line when a step ends.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{screen, units};

/// Steps shorter than this are not shown one by one.
const SHOWN_FROM: Duration = Duration::from_millis(200);

/// Where steps are shown.
pub(crate) struct Steps {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Steps {
    pub(crate) fn new(quiet: bool) -> Steps {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("  {spinner} {msg}").expect("the template is a constant");
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
            bar
        });
        Steps { quiet, bar }
    }

    /// What is being done now; shown on a terminal only.
    pub(crate) fn now(&self, what: &str, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.enable_steady_tick(Duration::from_millis(100));
            bar.set_message(format!("{what:<10} {detail}"));
        }
    }

    /// A step ended well. Short ones without anything to say are left out.
    pub(crate) fn done(&self, what: &str, detail: &str, took: Option<Duration>) {
        let time = took.filter(|took| *took >= SHOWN_FROM).map(units::took).unwrap_or_default();
        self.line(&format!("  {} {what:<10} {detail}   {}", screen::green("✓"), screen::dim(&time)));
    }

    /// A step failed; its log follows.
    pub(crate) fn failed(&self, what: &str, detail: &str, log: &[String]) {
        self.line(&format!("  {} {what:<10} {detail}", screen::red("✗")));
        for line in log {
            self.line(&format!("      | {line}"));
        }
    }

    /// Something a person should know.
    pub(crate) fn note(&self, text: &str) {
        self.line(&format!("  {} {text}", screen::yellow("!")));
    }

    /// A plain line.
    pub(crate) fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{}", text.trim_end())),
            None => eprintln!("{}", text.trim_end()),
        }
    }

    /// Takes the moving line away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
