//! Kustomize's own cases, and kustomizations of public repositories with the output of `kubectl kustomize`: every byte.

use std::path::Path;

use dodai_gitops::render::{Folder, LoadRestrictor, Memory, Options, Order, render};

use super::support::{Judge, difference, json, suite};

fn options(case: &serde_json::Value, order: Order) -> Options {
    let load_restrictor = match case["loadRestrictor"].as_str() {
        Some("none") => LoadRestrictor::None,
        _ => LoadRestrictor::RootOnly,
    };
    Options { load_restrictor, order, ..Options::default() }
}

fn wanted() -> Option<String> {
    std::env::var("DODAI_KUSTOMIZE_CASE").ok()
}

fn compare(expected: &Path, tree: &Folder, folder: &str, options: &Options) -> Result<(), String> {
    let expected = std::fs::read_to_string(expected).map_err(|error| error.to_string())?;
    let output =
        render(tree, folder, options).map_err(|error| format!("fails: {}", error.render(str::to_owned)))?;
    let got = output.to_yaml();
    if got == expected { Ok(()) } else { Err(difference(&expected, &got)) }
}

fn krusty_case(folder: &Path) -> Result<(), String> {
    let case = json(&folder.join("case.json"));
    let tree = Folder::new(folder.join("input"));
    let path = case["path"].as_str().unwrap_or("");
    let order = match case["order"].as_str() {
        Some("none") => Order::None,
        _ => Order::Legacy,
    };
    if case["mustFail"].as_bool() == Some(true) {
        let result = render(&tree, path, &options(&case, order));
        let theirs = std::fs::read_to_string(folder.join("expected-error.txt")).unwrap_or_default();
        return match result {
            Ok(_) => Err("must fail".to_owned()),
            Err(error) => {
                let ours = error.render(str::to_owned);
                // The same reason, by a part of each text.
                match REASONS.iter().chain([&VAR]).find(|(part, _)| theirs.contains(part)) {
                    Some((_, wanted)) if ours.contains(wanted) => Ok(()),
                    _ => Err(format!("fails for another reason: {ours}\ntheirs: {theirs}")),
                }
            }
        };
    }
    compare(&folder.join("expected.yaml"), &tree, path, &options(&case, order))?;
    let legacy = folder.join("expected-legacy.yaml");
    let sorts = legacy.exists() || case["kubectl58"] == "equal";
    let expected = if legacy.exists() { legacy } else { folder.join("expected.yaml") };
    if sorts { compare(&expected, &tree, path, &options(&case, Order::Legacy)) } else { Ok(()) }
}

/// Parts of upstream's errors, and of ours for the same reason.
const REASONS: [(&str, &str); 21] = [
    ("deployment.yaml' doesn't exist", "`deployment.yaml` does not exist"),
    ("Found multiple kustomization files", "more than one kustomization file"),
    ("security; file '/shared/deployment-patch.yaml'", "security: file `shared/deployment-patch.yaml`"),
    (
        "did not find expected key in File: service.yaml",
        "service.yaml:11:7: error: while parsing a block mapping, did not find expected key",
    ),
    ("namespace is blank", "the namespace of a subject is not text"),
    ("may not add resource with an already registered id", "is defined twice"),
    ("expected kind != 'Component'", "is a Component"),
    ("expected kind 'Component'", "is no Component"),
    ("file is not directory", "is a file, a component is a folder"),
    ("apiVersion for Component should be", "`apiVersion` of a `Component` must be"),
    ("mapping key \"env\" already defined", "the key `env` is given twice"),
    ("behavior must be merge or replace", "exists already"),
    ("patch appears to be empty", "there is no patch in any of the files"),
    ("found multiple possible referrals", "may be each of"),
    ("found 2 resId matches for var", "fits 2 objects"),
    ("'/mycrd_schema.json' doesn't exist", "`mycrd_schema.json` does not exist"),
    ("OpenAPI version is not built in", "this version is not built in"),
    ("multiple matches for Id", "the patch fits 2 objects"),
    ("the selected sort order is 'fifo', not 'legacy'", "the order is `fifo`, not `legacy`"),
    ("must be one of [fifo, legacy]", "must be `fifo` or `legacy`"),
    (
        "unable to load builtin SortOrderTransformer",
        "there is no built-in transformer `SortOrderTransformer`",
    ),
];
/// A var that is there already.
const VAR: (&str, &str) = ("already encountered", "is defined twice");

#[test]
fn kustomizes_own_cases_give_its_bytes() {
    let Some(suite) = suite("kustomize-krusty") else { return };
    let mut judge = Judge::new("krusty");
    let mut folders: Vec<_> = std::fs::read_dir(&suite).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if wanted().is_none_or(|wanted| name.contains(&wanted)) {
            judge.case(&name, krusty_case(&folder));
        }
    }
    judge.finish(2);
}

#[test]
fn real_kustomizations_give_the_bytes_of_kubectl() {
    let Some(suite) = suite("kustomize-real") else { return };
    let mut judge = Judge::new("real");
    for case in json(&suite.join("cases.json")).as_array().unwrap() {
        let text = |field: &str| case[field].as_str().unwrap();
        if wanted().is_some_and(|wanted| !text("name").contains(&wanted)) {
            continue;
        }
        let tree = Folder::new(suite.join("input").join(text("repo")));
        judge.case(
            text("name"),
            compare(&suite.join(text("expected")), &tree, text("path"), &Options::default()),
        );
    }
    judge.finish(2);
}

/// What was printed, as the only resource of a kustomization, is printed alike.
#[test]
fn what_is_printed_builds_to_itself() {
    let Some(suite) = suite("kustomize-real") else { return };
    let mut wrong = Vec::new();
    for case in json(&suite.join("cases.json")).as_array().unwrap() {
        let text = |field: &str| case[field].as_str().unwrap();
        let printed = std::fs::read(suite.join(text("expected"))).unwrap();
        let mut tree = Memory::default();
        tree.insert("kustomization.yaml", b"resources: [all.yaml]\n".to_vec());
        tree.insert("all.yaml", printed.clone());
        match render(&tree, "", &Options::default()) {
            Ok(output) if output.to_yaml().as_bytes() == printed => {}
            Ok(output) => {
                let printed = String::from_utf8(printed).unwrap();
                wrong.push(format!("{}: {}", text("name"), difference(&printed, &output.to_yaml())));
            }
            Err(error) => wrong.push(format!("{}: {}", text("name"), error.render(str::to_owned))),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
