//! Input that is wrong or meant to harm: an error at its place, bounded work, no panic.

use dodai_gitops::render::{
    Entry, FILE_BYTES_MAX, Folder, LoadRestrictor, Memory, Options, Output, Tree, fuzz, render,
};

fn tree(files: &[(&str, &str)]) -> Memory {
    let mut tree = Memory::default();
    for (path, text) in files {
        tree.insert(*path, text.as_bytes().to_vec());
    }
    tree
}

fn build(tree: &dyn Tree, folder: &str) -> Result<Output, String> {
    render(tree, folder, &Options::default()).map_err(|error| error.render(str::to_owned))
}

/// The error of a build that must fail.
fn refused(files: &[(&str, &str)]) -> String {
    match build(&tree(files), "app") {
        Ok(output) => panic!("built:\n{}", output.to_yaml()),
        Err(error) => error,
    }
}

/// Path and text.
type File = (&'static str, &'static str);

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n";

#[test]
fn what_is_wrong_is_shown_with_file_line_and_field() {
    let cases: &[(&[File], &[&str])] = &[
        (
            &[("app/kustomization.yaml", "resources:\n- ../app\n")],
            &["app/kustomization.yaml:2:3: error: cycle: `app`", "(resources[0])"],
        ),
        (
            &[
                ("app/kustomization.yaml", "resources:\n- ../base\n"),
                ("base/kustomization.yaml", "resources:\n- ../app\n"),
            ],
            &["base/kustomization.yaml:2:3: error: cycle: `app`", "built for app"],
        ),
        (
            &[("app/kustomization.yaml", "resources:\n- gone.yaml\n")],
            &["app/kustomization.yaml:2:3: error: `app/gone.yaml` does not exist (resources[0])"],
        ),
        (
            &[("app/kustomization.yaml", "namePrefix: a-\n"), ("app/Kustomization", "namePrefix: a-\n")],
            &["error: `app` has more than one kustomization file"],
        ),
        (&[("app/other.yaml", "")], &["error: `app` has no kustomization file", "hint: looked for"]),
        (
            &[("app/kustomization.yaml", "resources: [a.yaml]\nnamePrefx: a-\n"), ("app/a.yaml", DEPLOYMENT)],
            &["app/kustomization.yaml:2:1: error: unknown field `namePrefx`", "did you mean `namePrefix`?"],
        ),
        (
            &[("app/kustomization.yaml", "commonLabels:\n  app: true\n")],
            &["app/kustomization.yaml:2:3: error: expected text, found a boolean", "put the value in quotes"],
        ),
        (
            &[
                ("app/kustomization.yaml", "resources: [a.yaml, b.yaml]\n"),
                ("app/a.yaml", DEPLOYMENT),
                ("app/b.yaml", DEPLOYMENT),
            ],
            &["app/b.yaml:1:1: error: Deployment `web` is defined twice, first in app/a.yaml:1"],
        ),
        (
            &[
                ("app/kustomization.yaml", "resources: [a.yaml]\npatches:\n- path: p.yaml\n"),
                ("app/a.yaml", DEPLOYMENT),
                ("app/p.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: wep\n"),
            ],
            &["app/p.yaml:1:1: error: the patch is for an object that is not there: Deployment `wep`"],
        ),
        (
            &[
                ("app/kustomization.yaml", "resources: [a.yaml]\npatches:\n- path: p.yaml\n"),
                ("app/a.yaml", DEPLOYMENT),
                ("app/p.yaml", "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata:\n  name: web\n"),
            ],
            &["hint: there is one with `apiVersion: apps/v1`, the patch says `apps/v1beta1`"],
        ),
        (
            &[("app/kustomization.yaml", "helmCharts:\n- name: x\n")],
            &["app/kustomization.yaml:1:1: error: helm charts are not rendered (helmCharts)"],
        ),
        (
            &[("app/kustomization.yaml", "resources:\n- https://github.com/x/y?ref=v1\n")],
            &["app/kustomization.yaml:2:3: error: `https://github.com/x/y?ref=v1` is in another repository"],
        ),
        (
            &[
                ("app/kustomization.yaml", "transformers:\n- t.yaml\n"),
                ("app/t.yaml", "apiVersion: example.com/v1\nkind: Sed\nmetadata:\n  name: x\n"),
            ],
            &["app/t.yaml:1:1: error: `Sed` is a plugin that is a program or a container"],
        ),
        (
            &[("app/kustomization.yaml", "resources: [a.yaml]\n"), ("app/a.yaml", "kind: Deployment\n")],
            &["app/a.yaml:1:1: error: missing `metadata.name`"],
        ),
        (
            &[("app/kustomization.yaml", "resources: [a.yaml]\n"), ("app/a.yaml", "a: [1\n")],
            &["app/a.yaml:1:4: error: unclosed bracket"],
        ),
        (
            &[
                (
                    "app/kustomization.yaml",
                    "resources: [a.yaml]\npatches:\n- target: {kind: Deployment}\n  patch: |-\n    - op: remove\n      path: /spec\n",
                ),
                ("app/a.yaml", DEPLOYMENT),
            ],
            &[
                "app/kustomization.yaml:3:3: error: `remove` does not apply: there is nothing at `/spec` (in Deployment `web`)",
            ],
        ),
    ];
    for (files, wanted) in cases {
        let error = refused(files);
        for part in *wanted {
            assert!(error.contains(part), "wanted {part:?} in:\n{error}");
        }
    }
}

#[test]
fn files_above_a_kustomization_are_refused_unless_allowed() {
    let files =
        tree(&[("app/kustomization.yaml", "resources:\n- ../shared.yaml\n"), ("shared.yaml", DEPLOYMENT)]);
    let error = build(&files, "app").unwrap_err();
    assert!(error.contains("security: file `shared.yaml` is not in or below `app`"), "{error}");
    let options = Options { load_restrictor: LoadRestrictor::None, ..Options::default() };
    assert_eq!(render(&files, "app", &options).unwrap().objects.len(), 1);
}

#[test]
fn the_tree_cannot_be_left() {
    for path in ["../../x.yaml", "../../../etc/passwd", "/../../etc/passwd", "a/../../../x.yaml"] {
        for field in ["resources", "components", "crds", "configurations", "transformers"] {
            let text = format!("{field}:\n- {path}\n");
            let error = build(&tree(&[("app/kustomization.yaml", &text), ("x.yaml", DEPLOYMENT)]), "app")
                .unwrap_err();
            let fine = ["leads out of the tree", "does not exist", "security:", "error: "]
                .iter()
                .any(|part| error.contains(part));
            assert!(fine, "{field} {path}: {error}");
            assert!(!error.contains("root:"), "{error}");
        }
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_within_the_tree_and_no_further() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.yaml"), DEPLOYMENT).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("app")).unwrap();
    std::fs::create_dir_all(root.join("base")).unwrap();
    std::fs::write(root.join("base/a.yaml"), DEPLOYMENT).unwrap();
    std::fs::write(root.join("base/kustomization.yaml"), "resources: [a.yaml]\n").unwrap();
    let with = |name: &str, target: &std::path::Path| {
        let link = root.join("app/link");
        let _ = std::fs::remove_file(&link);
        symlink(target, &link).unwrap();
        std::fs::write(root.join("app/kustomization.yaml"), format!("resources: [{name}]\n")).unwrap();
        build(&Folder::new(root), "app")
    };
    // A folder through a link is that folder.
    assert_eq!(with("link", std::path::Path::new("../base")).unwrap().objects.len(), 1);
    // A file through a link must be where the restrictor wants it.
    let error = with("link", std::path::Path::new("../base/a.yaml")).unwrap_err();
    assert!(error.contains("security: file `base/a.yaml` is not in or below `app`"), "{error}");
    // An absolute link begins at the root of the tree, not of the disk.
    let error = with("link", &outside.path().join("secret.yaml")).unwrap_err();
    assert!(error.contains("does not exist"), "{error}");
    let error = with("link", std::path::Path::new("../../../../../../../../etc/passwd")).unwrap_err();
    assert!(error.contains("leads out of the tree"), "{error}");
    let error = with("link", std::path::Path::new("link")).unwrap_err();
    assert!(error.contains("too many links"), "{error}");
}

/// A tree that says its file is large and panics if it is read.
struct Huge;

impl Tree for Huge {
    fn entry(&self, path: &str) -> std::io::Result<Option<Entry>> {
        Ok(match path {
            "" | "app" => Some(Entry::Folder),
            "app/kustomization.yaml" => Some(Entry::File(20)),
            "app/huge.yaml" => Some(Entry::File(100 * 1024 * 1024)),
            _ => None,
        })
    }

    fn read(&self, path: &str) -> std::io::Result<std::sync::Arc<[u8]>> {
        assert_eq!(path, "app/kustomization.yaml", "a file beyond the bound was read");
        Ok(b"resources: [huge.yaml]\n".to_vec().into())
    }
}

#[test]
fn a_file_of_100_mib_is_refused_without_reading_it() {
    let error = build(&Huge, "app").unwrap_err();
    assert!(error.contains(&format!("has 104857600 bytes, more than {FILE_BYTES_MAX}")), "{error}");
}

#[test]
fn a_yaml_bomb_and_deep_nesting_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let previous = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [previous.as_str(); 10].join(", ")));
    }
    let error = refused(&[("app/kustomization.yaml", "resources: [b.yaml]\n"), ("app/b.yaml", &bomb)]);
    assert!(error.contains("aliases of this document stand for more than"), "{error}");
    let deep = format!("a: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let error = refused(&[("app/kustomization.yaml", "resources: [b.yaml]\n"), ("app/b.yaml", &deep)]);
    assert!(error.contains("recursion limit") || error.contains("inside each other"), "{error}");
}

#[test]
fn a_chain_of_a_thousand_kustomizations_ends() {
    let mut files = Memory::default();
    for i in 0..1000 {
        let text = format!("resources:\n- ../k{}\n", i + 1);
        files.insert(format!("k{i}/kustomization.yaml"), text.into_bytes());
    }
    let error = build(&files, "k0").unwrap_err();
    assert!(error.contains("kustomizations inside each other"), "{error}");
}

/// Texts of the suites, changed at random: any result is fine, a panic is not.
#[test]
fn mutated_kustomizations_do_not_panic() {
    const ROUNDS: usize = 400;
    let seed =
        std::env::var("DODAI_GITOPS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x6b75_7374);
    let mut rng = fastrand::Rng::with_seed(seed);
    println!("seed {seed}");
    let Some(suite) = super::support::suite("kustomize-krusty") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(suite)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    for _ in 0..ROUNDS {
        let folder = &folders[rng.usize(..folders.len())];
        let path = super::support::json(&folder.join("case.json"))["path"].as_str().unwrap_or("").to_owned();
        let mut files = Vec::new();
        collect(&folder.join("input"), "", &mut files);
        let at = rng.usize(..files.len());
        mutate(&mut rng, &mut files[at].1);
        let mut tree = Memory::default();
        for (path, content) in files {
            tree.insert(path, content);
        }
        if let Ok(output) = render(&tree, &path, &Options::default()) {
            output.to_yaml();
        }
    }
}

/// Parts of the suites' files, changed at random, at each entry for fuzzing.
#[test]
fn changed_files_do_not_panic_at_the_entries_for_fuzzing() {
    const ROUNDS: usize = 80;
    let Some(suite) = super::support::suite("kustomize-krusty") else { return };
    let mut files = Vec::new();
    collect(&suite, "", &mut files);
    files.retain(|(_, content)| content.len() < 4096);
    let mut rng = fastrand::Rng::with_seed(7);
    let entries = [
        fuzz::kustomization,
        fuzz::resources,
        fuzz::patch,
        fuzz::replacements,
        fuzz::configuration,
        fuzz::generated,
    ];
    for round in 0..ROUNDS {
        let mut content = files[rng.usize(..files.len())].1.clone();
        if round % 4 != 0 {
            mutate(&mut rng, &mut content);
        }
        for entry in entries {
            entry(&content);
        }
    }
}

fn collect(folder: &std::path::Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.push((name, std::fs::read(path).unwrap()));
        }
    }
    files.sort();
}

fn mutate(rng: &mut fastrand::Rng, content: &mut Vec<u8>) {
    const PIECES: [&str; 16] = [
        "null",
        "[]",
        "{}",
        "\"\"",
        "- ",
        ": ",
        "\n",
        "*x",
        "&x ",
        "<<: ",
        "!!int ",
        "$patch: delete",
        "-1",
        "\u{0}",
        "'",
        "~",
    ];
    for _ in 0..rng.usize(1..4) {
        if content.is_empty() {
            return;
        }
        let at = rng.usize(..content.len());
        match rng.u8(..4) {
            0 => drop(content.remove(at)),
            1 => {
                let piece = PIECES[rng.usize(..PIECES.len())];
                content.splice(at..at, piece.bytes());
            }
            2 => {
                let end = (at + rng.usize(1..40)).min(content.len());
                content.drain(at..end);
            }
            _ => {
                // A line twice, somewhere else.
                let text = String::from_utf8_lossy(content).into_owned();
                let lines: Vec<&str> = text.lines().collect();
                if !lines.is_empty() {
                    let line = format!("{}\n", lines[rng.usize(..lines.len())]);
                    content.splice(at..at, line.bytes());
                }
            }
        }
    }
}
