//! Real files of other projects, where they are at hand: read, written and read again.

use std::fs;
use std::path::{Path, PathBuf};

use dodai_yaml::{Document, from_str_json, parse, to_string};
use serde_json::Value;

/// Beside the checkout; not a part of the repository. `DODAI_TESTDATA` names another place.
const CORPUS: &str = "../shared/testdata";
const FOLDERS: &[&str] = &["crds", "kustomize-real", "argocd-apps"];
/// A debug build reads about 5 MB a second; the rest is for the differential run by hand.
const FOLDER_BYTES_MAX: u64 = 3 * 1024 * 1024;

#[test]
fn real_files_are_read_and_their_values_survive_writing() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let corpus = std::env::var_os("DODAI_TESTDATA").map_or_else(|| repository.join(CORPUS), PathBuf::from);
    let mut files = Vec::new();
    for folder in FOLDERS {
        let mut found = Vec::new();
        collect(&corpus.join(folder), &mut found);
        found.sort();
        let mut n_bytes = 0;
        files.extend(found.into_iter().take_while(|file| {
            n_bytes += fs::metadata(file).map_or(0, |metadata| metadata.len());
            n_bytes <= FOLDER_BYTES_MAX
        }));
    }
    if files.is_empty() {
        eprintln!("skipped: not found: {}", corpus.display());
        return;
    }
    let (mut n_documents, mut n_refused) = (0, 0);
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        // A few files are templates or broken on purpose; their errors must at least have a place.
        let read = parse(&text).and_then(|documents| documents.iter().map(Document::to_json).collect());
        let values: Vec<Value> = match read {
            Ok(values) => values,
            Err(error) => {
                assert!(error.position().is_some(), "{}: {error}", file.display());
                n_refused += 1;
                continue;
            }
        };
        for value in values {
            let again = from_str_json(&to_string(&value));
            assert_eq!(again.as_ref(), Ok(&value), "{}", file.display());
            n_documents += 1;
        }
    }
    eprintln!("{} files, {n_documents} documents, {n_refused} refused", files.len());
    assert!(n_refused * 50 < files.len(), "{n_refused} of {} files refused", files.len());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
}
