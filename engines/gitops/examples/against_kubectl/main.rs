//! Builds random kustomizations with this renderer and with a real `kubectl kustomize`, and compares: the same bytes, or
//! both refuse. What differs is made smaller and printed.
//!
//! `against_kubectl KUBECTL [SECONDS] [SEED]`; `against_kubectl KUBECTL case FOLDER PATH` compares one folder.

mod emit;
mod generate;
mod shrink;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use dodai_gitops::render::{Cache, Folder, Options, render_with};

use crate::emit::write_case;
use crate::generate::Case;

/// What the two programs make of a case.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Same,
    BothRefuse,
    OnlyTheyRefuse(String),
    OnlyWeRefuse(String),
    Differs { theirs: String, ours: String },
}

impl Verdict {
    fn is_fine(&self) -> bool {
        matches!(self, Verdict::Same | Verdict::BothRefuse)
    }

    /// Shrinking keeps to the same kind of difference.
    fn like(&self, other: &Verdict) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

struct Judge {
    kubectl: PathBuf,
    folder: PathBuf,
    cache: Cache,
    runs: usize,
    last_refusal: String,
}

impl Judge {
    fn case(&mut self, case: &Case) -> Verdict {
        let _ = std::fs::remove_dir_all(&self.folder);
        write_case(case, &self.folder);
        self.judge(&self.folder.clone(), &case.root)
    }

    fn judge(&mut self, folder: &Path, path: &str) -> Verdict {
        self.runs += 1;
        let output = Command::new(&self.kubectl)
            .arg("kustomize")
            .arg(folder.join(path))
            .env_clear()
            .env("HOME", folder)
            .env("http_proxy", "http://127.0.0.1:9")
            .env("https_proxy", "http://127.0.0.1:9")
            .output()
            .expect("kubectl runs");
        if String::from_utf8_lossy(&output.stderr).contains("goroutine 1 [") {
            // It crashed: there is nothing to compare with.
            return Verdict::BothRefuse;
        }
        let theirs = output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned());
        let ours = render_with(&Folder::new(folder), path, &Options::default(), &self.cache);
        match (theirs, ours) {
            (Some(theirs), Ok(ours)) => {
                let ours = ours.to_yaml();
                if theirs == ours { Verdict::Same } else { Verdict::Differs { theirs, ours } }
            }
            (None, Err(error)) => {
                self.last_refusal = error.message().to_owned();
                Verdict::BothRefuse
            }
            (None, Ok(_)) => Verdict::OnlyTheyRefuse(String::from_utf8_lossy(&output.stderr).into_owned()),
            // A known difference, which the README names.
            (Some(_), Err(error)) if error.message().contains("is not supported") => Verdict::BothRefuse,
            (Some(_), Err(error)) => Verdict::OnlyWeRefuse(error.render(str::to_owned)),
        }
    }
}

fn report(verdict: &Verdict) {
    match verdict {
        Verdict::Same => println!("same"),
        Verdict::BothRefuse => println!("both refuse"),
        Verdict::OnlyTheyRefuse(error) => println!("only kubectl refuses: {error}"),
        Verdict::OnlyWeRefuse(error) => println!("only we refuse: {error}"),
        Verdict::Differs { theirs, ours } => {
            let (a, b): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), ours.lines().collect());
            let at = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let show = |lines: &[&str]| {
                lines
                    .iter()
                    .skip(at.saturating_sub(6))
                    .take(14)
                    .map(|line| format!("    {line}\n"))
                    .collect::<String>()
            };
            println!("differs in line {}\n  kubectl:\n{}  ours:\n{}", at + 1, show(&a), show(&b));
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(kubectl) = arguments.first() else {
        eprintln!("usage: against_kubectl KUBECTL [SECONDS] [SEED]");
        return ExitCode::from(2);
    };
    let folder = std::env::temp_dir().join(format!("dodai-differential-{}", std::process::id()));
    let mut judge = Judge {
        kubectl: kubectl.into(),
        folder: folder.clone(),
        cache: Cache::default(),
        runs: 0,
        last_refusal: String::new(),
    };
    if let [_, verb, of, path] = &arguments[..]
        && verb == "case"
    {
        report(&judge.judge(Path::new(of), path));
        return ExitCode::SUCCESS;
    }
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let seconds = number(1).unwrap_or(30);
    let first_seed = number(2).unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut n, mut refused, mut found) = (0_u64, 0, 0);
    // One seed, one case: `SECONDS` 0 builds exactly that one.
    while n == 0 || Instant::now() < until {
        let seed = first_seed + n;
        n += 1;
        let case = generate::case(seed);
        let verdict = judge.case(&case);
        if verdict == Verdict::BothRefuse {
            refused += 1;
            if std::env::var_os("VERBOSE").is_some() {
                eprintln!("seed {seed} is refused: {}", judge.last_refusal);
            }
        }
        if verdict.is_fine() {
            continue;
        }
        found += 1;
        let (small, verdict) = shrink::shrink(&mut judge, case, verdict);
        println!("--- seed {seed}");
        emit::print_case(&small);
        report(&verdict);
    }
    let _ = std::fs::remove_dir_all(&folder);
    println!(
        "{n} cases from seed {first_seed}: {refused} refused by both, {found} differ; kubectl ran {} times",
        judge.runs
    );
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
