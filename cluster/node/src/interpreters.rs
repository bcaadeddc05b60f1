//! Finds the language runtimes of this machine and where they really are: one from pyenv, uv, nvm or conda is not
//! under `/usr`, and what `PATH` names first may be a shim that only works in a home folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long an interpreter may take to say where it is.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A language runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// `python3`, `node` or `ruby`.
    pub name: String,
    /// As it says itself.
    pub version: String,
    /// Folder that holds all of it.
    pub prefix: PathBuf,
}

/// The program, and a script that prints its prefix and its version, a line each.
const PROBES: &[(&str, &[&str])] = &[
    ("python3", &["-c", "import sys,platform;print(sys.base_prefix);print(platform.python_version())"]),
    (
        "node",
        &[
            "-e",
            "const p=require('path');console.log(p.dirname(p.dirname(process.execPath)));console.log(process.versions.node)",
        ],
    ),
    ("ruby", &["-e", "require 'rbconfig';puts RbConfig::CONFIG['prefix'],RUBY_VERSION"]),
];

/// Interpreters that `path` finds. Those whose prefix would show a home folder or the data folder are left out.
pub async fn detect(path: &str, home: Option<&Path>, data: &Path) -> Vec<Interpreter> {
    let probes = PROBES.iter().map(|(name, arguments)| probe(name, arguments, path));
    let found = futures::future::join_all(probes).await;
    let hides =
        |prefix: &Path| [home, Some(data)].into_iter().flatten().any(|folder| folder.starts_with(prefix));
    found.into_iter().flatten().filter(|interpreter| !hides(&interpreter.prefix)).collect()
}

async fn probe(name: &str, arguments: &[&str], path: &str) -> Option<Interpreter> {
    // The search is done here: the child's environment is this process's, only its PATH may differ.
    let program =
        path.split(':').map(|folder| Path::new(folder).join(name)).find(|program| program.is_file())?;
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(ANSWER_MAX, output).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    let (prefix, version) = (PathBuf::from(lines.next()?.trim()), lines.next()?.trim().to_string());
    (prefix.is_absolute() && !version.is_empty()).then(|| Interpreter {
        name: name.to_string(),
        version,
        prefix,
    })
}
