//! `dodai build` and `dodai lint` in a pipe: what people and programs read, whole.

use crate::support::Project;

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  template:\n    spec:\n      \
                   containers:\n      - name: web\n        image: nginx:1.7\n";

fn project() -> Project {
    let project = Project::new();
    project.write("base/web.yaml", WEB);
    project.write("base/kustomization.yaml", "resources: [web.yaml]\ncommonLabels:\n  app: web\n");
    project.write(
        "envs/prod/kustomization.yaml",
        "resources:\n- ../../base\nnamePrefix: prod-\nimages:\n- name: nginx\n  newTag: \"1.9\"\nreplicas:\n- name: web\n  count: 3\n",
    );
    project.write("envs/test/kustomization.yaml", "resources:\n- ../../base\nnameSufix: -test\n");
    project
}

/// Exit code, standard output, standard error.
fn run(project: &Project, args: &[&str]) -> (i32, String, String) {
    let output = project.command(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

const PROD: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app: web
  name: prod-web
spec:
  replicas: 3
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - image: nginx:1.9
        name: web
";

const WARNING: &str = "# Warning: 'commonLabels' is deprecated. Please use 'labels' instead. Run 'kustomize edit fix' to update your \
                       Kustomization automatically.\n";

#[test]
fn build_prints_objects_on_stdout_and_warnings_on_stderr() {
    let project = project();
    assert_eq!(run(&project, &["build", "envs/prod"]), (0, PROD.to_owned(), WARNING.to_owned()));
    let (code, out, error) = run(&project, &["build", "--quiet", "envs/*"]);
    assert_eq!((code, out), (2, format!("# envs/prod\n{PROD}")));
    assert_eq!(
        error,
        "envs/test/kustomization.yaml:3:1: error: unknown field `nameSufix`\n  |\n3 | nameSufix: -test\n  | ^^^^^^^^^ did you mean \
         `nameSuffix`?\n"
    );
    let (code, out, error) = run(&project, &["build", "gone"]);
    assert_eq!((code, out.as_str(), error.as_str()), (2, "", "error: `gone` does not exist\n"));
}

#[test]
fn build_as_json_says_what_was_read_and_what_failed() {
    let project = project();
    let (code, out, _) = run(&project, &["build", "-o", "json", "envs/prod", "envs/test"]);
    assert_eq!(code, 2);
    let builds: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(builds["builds"][0]["folder"], "envs/prod");
    assert_eq!(builds["builds"][0]["objects"][0]["metadata"]["name"], "prod-web");
    assert_eq!(
        builds["builds"][0]["reads"],
        serde_json::json!({
            "files": ["base/kustomization.yaml", "base/web.yaml", "envs/prod/kustomization.yaml"],
            "folders": ["base", "envs/prod"],
            "links": [],
            "absent": ["base/Kustomization", "base/kustomization.yml", "envs/prod/Kustomization", "envs/prod/kustomization.yml"],
        })
    );
    let error = &builds["builds"][1]["error"];
    assert_eq!(error["message"], "unknown field `nameSufix`");
    assert_eq!((&error["file"], &error["line"]), (&"envs/test/kustomization.yaml".into(), &3.into()));
}

#[test]
fn explain_names_the_step_that_gave_a_field_its_value() {
    let project = project();
    let (code, out, _) = run(&project, &["build", "--explain", "envs/prod/Deployment/prod-web"]);
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "Deployment prod-web
  base/web.yaml:1  read
  base/kustomization.yaml  commonLabels
      metadata.labels  + {\"app\":\"web\"}
      spec.selector  + {\"matchLabels\":{\"app\":\"web\"}}
      spec.template.metadata  + {\"labels\":{\"app\":\"web\"}}
  envs/prod/kustomization.yaml  namePrefix
      metadata.name  \"web\" -> \"prod-web\"
  envs/prod/kustomization.yaml  replicas[0]
      spec.replicas  1 -> 3
  envs/prod/kustomization.yaml  images[0]
      spec.template.spec.containers[0].image  \"nginx:1.7\" -> \"nginx:1.9\"
"
    );
    let (_, out, _) = run(&project, &["build", "--explain", "envs/prod/Deployment/prod-web:spec.replicas"]);
    assert_eq!(
        out,
        "Deployment prod-web
  base/web.yaml:1  read
  envs/prod/kustomization.yaml  replicas[0]
      spec.replicas  1 -> 3
"
    );
    let (code, _, error) = run(&project, &["build", "--explain", "envs/prod/Deployment/web"]);
    assert_eq!(code, 2);
    assert_eq!(error, "error: the build has no Deployment `web`\nhint: there are: prod-web\n");
}

#[test]
fn lint_names_what_is_odd_and_repairs_only_deprecated_lines() {
    let project = project();
    let (code, out, error) = run(&project, &["lint"]);
    assert_eq!(code, 1);
    assert_eq!(
        out,
        "base/kustomization.yaml:2:1: deprecated: `commonLabels` is deprecated, use `labels` (commonLabels)
envs/test/kustomization.yaml:3:1: broken: unknown field `nameSufix`
"
    );
    assert_eq!(error, "1 broken, 1 deprecated; `--fix` repairs deprecated fields\n");
    let (code, out, _) = run(&project, &["lint", "--fix", "-o", "json"]);
    assert_eq!(code, 1);
    let findings: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(findings["findings"].as_array().unwrap().len(), 1);
    let fixed = std::fs::read_to_string(project.path().join("base/kustomization.yaml")).unwrap();
    assert_eq!(fixed, "resources: [web.yaml]\nlabels:\n- includeSelectors: true\n  pairs:\n    app: web\n");
    assert_eq!(run(&project, &["build", "envs/prod"]), (0, PROD.to_owned(), String::new()));
}
