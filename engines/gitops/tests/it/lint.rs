//! Lint: what is found, and that repairs change the text and nothing else.

use dodai_gitops::render::lint::{fix, lint};
use dodai_gitops::render::{Folder, Memory, Options, render};

use super::support::{json, suite};

#[test]
fn odd_things_are_found_at_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let object = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n";
    write("base/kustomization.yaml", "resources: [web.yaml]\n");
    write("base/web.yaml", object);
    write("base/old.yaml", object);
    write(
        "app/kustomization.yaml",
        "bases:\n- ../base\npatches:\n- target: {name: nothing}\n  patch: |-\n    - op: remove\n      path: /spec\nimages:\n- name: \
         gone\n  newTag: v1\nconfigMapGenerator:\n- name: c\n  literals:\n  - DB_PASSWORD=hunter22\n  - A=b\n",
    );
    write("broken/kustomization.yaml", "resources:\n- gone.yaml\n");
    let findings = lint(&Folder::new(folder.path()), "").unwrap();
    let shown: Vec<String> = findings
        .iter()
        .map(|finding| {
            let at = finding.position.map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
            format!("{}{at} {} {}", finding.file, finding.rule.name(), finding.message)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "app/kustomization.yaml:1:1 deprecated `bases` is deprecated, use `resources`",
            "app/kustomization.yaml:4:3 matches-nothing matches nothing",
            "app/kustomization.yaml:9:3 matches-nothing matches nothing",
            "app/kustomization.yaml:14:5 secret `DB_PASSWORD` looks like a secret; a ConfigMap is not the place for it",
            "base/old.yaml unused no kustomization reads this file",
            "broken/kustomization.yaml:2:3 broken `broken/gone.yaml` does not exist",
        ]
    );
}

#[test]
fn a_repair_touches_only_the_lines_of_its_field() {
    let text = "# head\nresources:   # kept\n- a.yaml\ncommonLabels:\n  app: web # why\n  tier: x\n\npatchesStrategicMerge:\n- p.yaml\n- \
                |-\n  kind: Deployment\n  metadata:\n    name: web\nimageTags:\n- name: a\n";
    let wanted = "# head\nresources:   # kept\n- a.yaml\nlabels:\n- includeSelectors: true\n  pairs:\n    app: web # why\n    \
                  tier: x\n\npatches:\n- path: p.yaml\n- patch: |-\n    kind: Deployment\n    metadata:\n      name: web\nimages:\n- \
                  name: a\n";
    let fixed = fix(text);
    assert_eq!(fixed.text, wanted);
    assert_eq!(fixed.fixed, ["imageTags", "commonLabels", "patchesStrategicMerge"]);
    assert_eq!(fix(&fixed.text).text, fixed.text, "a second repair finds nothing");
}

#[test]
fn repairs_of_real_kustomizations_build_to_the_same_bytes() {
    let Some(suite) = suite("kustomize-real") else { return };
    let (mut repaired, mut same) = (0, 0);
    for case in json(&suite.join("cases.json")).as_array().unwrap() {
        let folder = case["path"].as_str().unwrap();
        let root = suite.join("input").join(case["repo"].as_str().unwrap());
        let file = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
            .iter()
            .map(|name| root.join(folder).join(name))
            .find(|path| path.is_file())
            .unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let fixed = fix(&text);
        if fixed.fixed.is_empty() {
            continue;
        }
        repaired += 1;
        let before = render(&Folder::new(&root), folder, &Options::default()).unwrap();
        let mut tree = Memory::default();
        for path in &before.reads.files {
            tree.insert(path.clone(), std::fs::read(root.join(path)).unwrap());
        }
        tree.insert(file.strip_prefix(&root).unwrap().to_str().unwrap(), fixed.text.into_bytes());
        let after =
            render(&tree, folder, &Options::default()).unwrap_or_else(|error| panic!("{folder}: {error}"));
        same += usize::from(after.to_yaml() == before.to_yaml());
    }
    println!("{repaired} repaired, {same} build to the same bytes");
    assert_eq!(repaired, same);
}
