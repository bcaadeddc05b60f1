//! Many runs of a scenario: kept tapes, a run without faults, every single fault at every point, seeds.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::choices::{Choices, shrink, tape_from_text, tape_to_text};
use super::director::fault_name;
use super::random::is_seedable;
use super::scenario::Scenario;
use super::sim::{Outcome, lock, run_once, warm_up};

/// Lines at the end of a trace that a failure shows; `DODAI_SIM_TRACE=all` shows everything.
const TRACE_LINES_SHOWN: usize = 60;
/// Runs that shrinking a tape may take.
const SHRINK_TRIES_MAX: usize = 100;
/// The thread's seed of the sweep.
const SWEEP_SEED: u64 = 0;

/// How often a long run says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

type Make = Arc<dyn Fn() -> Arc<dyn Scenario> + Send + Sync>;

/// The runs of one scenario.
///
/// The environment has the last word: `DODAI_SIM_SEED=408` runs this seed alone and prints its trace, `DODAI_SIM_RUNS=100000`
/// asks for so many seeds, `DODAI_SIM_FROM=50000` begins with that one, `DODAI_SIM_TAPE=file` runs a tape, `DODAI_SIM_SHRINK=0`
/// leaves a failing tape as it is. A long run says each minute how far it is.
pub struct Suite {
    name: String,
    make: Make,
    seeds: u64,
    sweep: bool,
    every: usize,
    tapes: Option<PathBuf>,
    calm: bool,
    shrink_tries: usize,
    threads: usize,
}

/// What all runs came to. Its text is the line that a test prints.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The scenario's name.
    pub name: String,
    /// How many runs.
    pub runs: usize,
    /// Of these, runs of the sweep.
    pub swept: usize,
    /// Requests of the programs.
    pub calls: u64,
    /// Faults that were put in.
    pub faults: u64,
    /// States that were seen, told apart without uids, revisions and times.
    pub states: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} runs {} calls {} faults {} states {:.1} s",
            self.name, self.runs, self.calls, self.faults, self.states, self.seconds
        )
    }
}

/// A run that failed, with as few faults as it takes.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which run.
    pub job: String,
    /// Seed of the thread.
    pub seed: u64,
    /// What is broken.
    pub message: String,
    /// The shrunk tape.
    pub tape: Vec<u32>,
    /// How many choices of the failing run were not 0, before and after it was shrunk.
    pub picks: (usize, usize),
    /// What happened, line by line.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.job, self.message)?;
        let all = std::env::var("DODAI_SIM_TRACE").is_ok_and(|value| value == "all");
        let skip = if all { 0 } else { self.trace.len().saturating_sub(TRACE_LINES_SHOWN) };
        self.trace.iter().skip(skip).try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "choices that matter: {} of {}", self.picks.1, self.picks.0)?;
        write!(
            f,
            "as a tape (keep it as tests/sim/<case>.tape):\nseed {}\n{}",
            self.seed,
            tape_to_text(&self.tape)
        )
    }
}

/// One run to do.
#[derive(Clone)]
struct Job {
    name: String,
    seed: u64,
    /// `None`: choices of the seed.
    tape: Option<Vec<u32>>,
}

impl Job {
    fn choices(&self) -> Choices {
        match &self.tape {
            Some(tape) => Choices::of_tape(tape.clone()),
            None => Choices::of_seed(self.seed),
        }
    }
}

impl Suite {
    /// Runs of what `make` makes, one value for each run.
    pub fn new<S: Scenario>(name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Suite {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let make: Make = Arc::new(move || Arc::new(make()) as Arc<dyn Scenario>);
        Suite {
            name: name.to_owned(),
            make,
            seeds: 100,
            sweep: true,
            every: 1,
            tapes: None,
            calm: true,
            shrink_tries: SHRINK_TRIES_MAX,
            threads,
        }
    }

    /// How many seeds, from 0; 100 if nothing is said.
    #[must_use]
    pub fn seeds(mut self, seeds: u64) -> Suite {
        self.seeds = seeds;
        self
    }

    /// Whether every fault is put in at every point of the run without faults, one per run.
    #[must_use]
    pub fn sweep(mut self, sweep: bool) -> Suite {
        self.sweep = sweep;
        self
    }

    /// Of the sweep, only every `n`th run.
    #[must_use]
    pub fn every(mut self, n: usize) -> Suite {
        self.every = n.max(1);
        self
    }

    /// Neither sweep nor the run without faults.
    #[must_use]
    pub fn only_seeds(mut self) -> Suite {
        (self.sweep, self.calm) = (false, false);
        self
    }

    /// How many runs it may take to shorten a failing one.
    #[must_use]
    pub fn shrink_tries(mut self, tries: usize) -> Suite {
        self.shrink_tries = tries;
        self
    }

    /// A folder of tapes (`*.tape`) that are run first.
    #[must_use]
    pub fn tapes(mut self, folder: impl Into<PathBuf>) -> Suite {
        self.tapes = Some(folder.into());
        self
    }

    /// Runs everything.
    ///
    /// # Panics
    /// With the shrunk failure, if a run fails.
    pub fn check(&self) -> Summary {
        match self.run() {
            Ok(summary) => {
                println!("{summary}");
                summary
            }
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs everything, up to the first failure.
    ///
    /// # Errors
    /// The failure.
    ///
    /// # Panics
    /// When the test binary lacks [`seeded_getrandom!`](crate::seeded_getrandom), or a tape cannot be read.
    pub fn run(&self) -> Result<Summary, Box<Failure>> {
        assert!(
            is_seedable(),
            "runs cannot be repeated: put `dodai_apiserver::seeded_getrandom!();` into this test binary"
        );
        let started = Instant::now();
        warm_up((self.make)());
        let variable = |name| std::env::var(name).ok();
        let number = |name| variable(name).and_then(|text| text.parse::<u64>().ok());
        let seed_job = |seed| Job { name: format!("{}, seed {seed}", self.name), seed, tape: None };
        let mut total = Totals::default();
        if let Some(seed) = number("DODAI_SIM_SEED") {
            self.all(vec![seed_job(seed)], &mut total)?;
            let outcome = run_once((self.make)(), seed, Choices::of_seed(seed), true);
            outcome.trace.iter().for_each(|line| println!("{line}"));
            return Ok(total.summary(&self.name, started));
        }
        if let Some(file) = variable("DODAI_SIM_TAPE") {
            self.all(vec![read_tape(Path::new(&file))], &mut total)?;
            return Ok(total.summary(&self.name, started));
        }
        let mut jobs = self.tapes.as_deref().map(tapes_in).unwrap_or_default();
        if self.calm {
            let name = format!("{}, no fault", self.name);
            jobs.push(Job { name, seed: SWEEP_SEED, tape: Some(Vec::new()) });
        }
        self.all(jobs, &mut total)?;
        if self.sweep {
            let jobs: Vec<Job> = self.sweep_jobs().into_iter().step_by(self.every).collect();
            total.swept = jobs.len();
            self.all(jobs, &mut total)?;
        }
        let seeds = number("DODAI_SIM_RUNS").unwrap_or(self.seeds);
        let from = number("DODAI_SIM_FROM").unwrap_or(0);
        self.all((from..from.saturating_add(seeds)).map(seed_job).collect(), &mut total)?;
        Ok(total.summary(&self.name, started))
    }

    /// Every fault that fits, at every point of a run without faults.
    fn sweep_jobs(&self) -> Vec<Job> {
        let calm = run_once((self.make)(), SWEEP_SEED, Choices::of_tape(Vec::new()), false);
        let mut jobs = Vec::new();
        for point in calm.points {
            for fault in (1..32).filter(|fault| point.fits >> fault & 1 == 1) {
                let mut tape = vec![0; point.at + 1];
                tape[point.at] = fault;
                let name = format!("{}, {} at choice {}", self.name, fault_name(fault), point.at);
                jobs.push(Job { name, seed: SWEEP_SEED, tape: Some(tape) });
            }
        }
        jobs
    }

    /// Runs jobs on all threads; of those that fail the first counts.
    fn all(&self, jobs: Vec<Job>, total: &mut Totals) -> Result<(), Box<Failure>> {
        let next = AtomicUsize::new(0);
        let failed = AtomicUsize::new(usize::MAX);
        let shared = Mutex::new(std::mem::take(total));
        let progress = Progress::default();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(jobs.len()) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        if at >= jobs.len() || at > failed.load(Ordering::SeqCst) {
                            return;
                        }
                        let outcome = run_once((self.make)(), jobs[at].seed, jobs[at].choices(), false);
                        if outcome.failure.is_some() {
                            failed.fetch_min(at, Ordering::SeqCst);
                        }
                        let mut shared = lock(&shared);
                        shared.add(outcome);
                        progress.tell(&self.name, at, jobs.len(), &shared);
                    }
                });
            }
        });
        *total = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match jobs.get(failed.into_inner()) {
            None => Ok(()),
            Some(job) => Err(Box::new(self.explain(job))),
        }
    }

    /// Runs a failing job again, shrinks it, and says what happens.
    fn explain(&self, job: &Job) -> Failure {
        let run = |tape: Vec<u32>, trace| run_once((self.make)(), job.seed, Choices::of_tape(tape), trace);
        let whole = run_once((self.make)(), job.seed, job.choices(), true);
        let set = |tape: &[u32]| tape.iter().filter(|&&choice| choice != 0).count();
        let before = set(&whole.tape);
        let variable = std::env::var("DODAI_SIM_SHRINK").ok().and_then(|text| text.parse().ok());
        let tries = variable.unwrap_or(self.shrink_tries);
        if tries > 0 {
            // Shortening takes a while; what is known is said at once.
            let message = whole.failure.as_deref().unwrap_or_default();
            eprintln!(
                "{}: {message}\n({} calls; it is shortened now: DODAI_SIM_SHRINK=0 leaves that out)",
                job.name, whole.calls
            );
        }
        let again = run(whole.tape.clone(), false);
        if again.failure.is_none() || again.failure != whole.failure {
            let message = format!(
                "{} (and, from its tape, {}: the run is not deterministic)",
                whole.failure.as_deref().unwrap_or("nothing, when it ran again"),
                again.failure.as_deref().unwrap_or("nothing"),
            );
            let picks = (before, before);
            return Failure {
                job: job.name.clone(),
                seed: job.seed,
                message,
                tape: whole.tape,
                picks,
                trace: whole.trace,
            };
        }
        // Any failure will do: what is left of a run that broke one rule often breaks another first.
        let tape = shrink(whole.tape, tries, |tape| run(tape.to_vec(), false).failure.is_some());
        let shrunk = run(tape.clone(), true);
        Failure {
            job: job.name.clone(),
            seed: job.seed,
            message: shrunk.failure.unwrap_or_default(),
            picks: (before, set(&tape)),
            tape,
            trace: shrunk.trace,
        }
    }
}

/// Says on stderr from time to time how far a long run is.
struct Progress(Mutex<Instant>);

impl Default for Progress {
    fn default() -> Progress {
        Progress(Mutex::new(Instant::now()))
    }
}

impl Progress {
    fn tell(&self, name: &str, at: usize, of: usize, total: &Totals) {
        let mut told = lock(&self.0);
        if told.elapsed() >= PROGRESS_EVERY {
            *told = Instant::now();
            let (states, faults) = (total.states.len(), total.faults);
            eprintln!("{name}: run {at} of {of}, nothing found yet; {faults} faults, {states} states");
        }
    }
}

#[derive(Default)]
struct Totals {
    runs: usize,
    swept: usize,
    calls: u64,
    faults: u64,
    states: HashSet<u64>,
}

impl Totals {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.calls += outcome.calls;
        self.faults += outcome.faults;
        self.states.extend(outcome.states);
    }

    fn summary(&self, name: &str, started: Instant) -> Summary {
        Summary {
            name: name.to_owned(),
            runs: self.runs,
            swept: self.swept,
            calls: self.calls,
            faults: self.faults,
            states: self.states.len(),
            seconds: started.elapsed().as_secs_f64(),
        }
    }
}

fn read_tape(file: &Path) -> Job {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let seed = text.lines().find_map(|line| line.strip_prefix("seed ")?.trim().parse().ok()).unwrap_or(0);
    let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("seed ")).collect();
    let tape = tape_from_text(&rest.join("\n")).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Job { name: file.display().to_string(), seed, tape: Some(tape) }
}

fn tapes_in(folder: &Path) -> Vec<Job> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "tape"));
    files.sort();
    files.iter().map(|file| read_tape(file)).collect()
}
