//! `dodai build`: prints what kustomizations build to, the bytes of `kubectl kustomize`.

mod explain;
mod json;
mod places;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dodai_gitops::render::{Cache, Error, LoadRestrictor, Options, Output, render_with};

use crate::cli::{Build, Global, ObjectFormat, Restrictor};
use crate::failure::{Context, Failure, INVALID, Result};
use places::Place;

pub(crate) fn run(global: &Global, args: &Build) -> Result<ExitCode> {
    let load_restrictor = match args.load_restrictor {
        Restrictor::RootOnly => LoadRestrictor::RootOnly,
        Restrictor::None => LoadRestrictor::None,
    };
    let options = Options { load_restrictor, ..Options::default() };
    if let Some(wanted) = &args.explain {
        return explain::run(wanted, options, args.output).map(|()| ExitCode::SUCCESS);
    }
    let places = places::find(&args.dirs)?;
    let results = build_all(&places, &options);
    let mut out = std::io::stdout().lock();
    let printed = match args.output {
        ObjectFormat::Yaml => print_yaml(&mut out, &places, &results),
        ObjectFormat::Json => serde_json::to_writer_pretty(&mut out, &json::builds(&places, &results))
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n")),
    };
    // Somebody who stops reading has what they want.
    match printed {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        printed => printed.context("cannot print")?,
    }
    let mut failed = false;
    for (place, result) in places.iter().zip(&results) {
        match result {
            Ok(output) if !global.quiet => output.warnings.iter().for_each(|warning| eprintln!("{warning}")),
            Ok(_) => {}
            Err(error) => {
                failed = true;
                eprint!("{}", error.render(|path| place.show(path)));
            }
        }
    }
    if failed { Err(Failure::silent(INVALID)) } else { Ok(ExitCode::SUCCESS) }
}

/// Builds on all cores, sharing parsed files; the results in the order of the places.
fn build_all(places: &[Place], options: &Options) -> Vec<std::result::Result<Output, Error>> {
    let cache = Cache::default();
    let build = |place: &Place| render_with(place.tree.as_ref(), &place.folder, options, &cache);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(places.len());
    if n_threads <= 1 {
        return places.iter().map(build).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<std::result::Result<Output, Error>>>> =
        Mutex::new(places.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                while let Some((at, place)) =
                    places.get(next.fetch_add(1, Ordering::Relaxed)).map(|place| place.as_entry(places))
                {
                    let result = build(place);
                    results.lock().expect("a build does not panic while it holds the results")[at] =
                        Some(result);
                }
            });
        }
    });
    let results = results.into_inner().expect("the threads are gone");
    results.into_iter().map(|result| result.expect("every place was built")).collect()
}

/// One folder: its bytes alone. Several: each begins with its name.
fn print_yaml(
    out: &mut impl Write,
    places: &[Place],
    results: &[std::result::Result<Output, Error>],
) -> std::io::Result<()> {
    let mut first = true;
    for (place, result) in places.iter().zip(results) {
        let Ok(output) = result else { continue };
        if places.len() > 1 {
            if !first {
                out.write_all(b"---\n")?;
            }
            writeln!(out, "# {}", place.name)?;
        }
        first = false;
        out.write_all(output.to_yaml().as_bytes())?;
    }
    out.flush()
}
