//! Builds for `bench/kustomize`: what `dodai build` does, without the rest of the binary.
//!
//! `timed_build FOLDER` prints the build (a cold process); `timed_build --warm N FOLDER...` builds all folders N times in
//! one process with a shared cache, on one thread, and prints milliseconds of CPU for each round.

use std::io::Write;
use std::process::ExitCode;

use dodai_gitops::render::{Cache, Folder, Options, render_with};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [flag, rounds, folders @ ..] if flag == "--warm" => {
            let rounds = rounds.parse().unwrap_or(1);
            let cache = Cache::default();
            for _ in 0..rounds {
                let before = cpu_ms();
                let mut bytes = 0;
                for folder in folders {
                    match build(folder, &cache) {
                        Ok(text) => bytes += text.len(),
                        Err(error) => eprintln!("{error}"),
                    }
                }
                println!("{:.1} ms, {bytes} bytes", cpu_ms() - before);
            }
            ExitCode::SUCCESS
        }
        [folder] => match build(folder, &Cache::default()) {
            Ok(text) => {
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(2),
    }
}

fn build(folder: &str, cache: &Cache) -> Result<String, String> {
    let full = std::fs::canonicalize(folder).map_err(|error| error.to_string())?;
    let path = full.to_string_lossy().trim_start_matches('/').to_owned();
    let output = render_with(&Folder::new("/"), &path, &Options::default(), cache);
    output.map(|output| output.to_yaml()).map_err(|error| error.render(str::to_owned))
}

/// CPU time of this process; it has one thread.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|text| text.parse::<f64>().ok())
        .map_or(0.0, |nanoseconds| nanoseconds / 1e6)
}
