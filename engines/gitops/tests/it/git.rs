//! Building a commit straight from the objects of a repository gives what its work tree gives.

use std::path::Path;
use std::process::Command;

use dodai_gitops::render::{Folder, GitError, GitTree, Options, render};

fn git(folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output();
    output.is_ok_and(|output| output.status.success())
}

fn write(folder: &Path, replicas: u32) {
    std::fs::create_dir_all(folder.join("base")).unwrap();
    std::fs::create_dir_all(folder.join("app")).unwrap();
    let object = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: {replicas}\n"
    );
    std::fs::write(folder.join("base/web.yaml"), object).unwrap();
    std::fs::write(folder.join("base/kustomization.yaml"), "resources: [web.yaml]\n").unwrap();
    std::fs::write(folder.join("app/kustomization.yaml"), "resources: [../base]\nnamePrefix: p-\n").unwrap();
}

#[test]
fn a_commit_builds_without_a_work_tree() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, 1);
    if !git(root, &["init", "-q"]) {
        println!("skipped: git not found");
        return;
    }
    let commit =
        |message: &str| assert!(git(root, &["add", "-A"]) && git(root, &["commit", "-q", "-m", message]));
    commit("one");
    assert!(git(root, &["tag", "-a", "v1", "-m", "first"]));
    let first = render(&Folder::new(root), "app", &Options::default()).unwrap().to_yaml();
    write(root, 2);
    commit("two");
    let second = render(&Folder::new(root), "app", &Options::default()).unwrap().to_yaml();
    assert_ne!(first, second);
    let built = |revision: &str| {
        let tree = GitTree::open(root, revision).unwrap();
        render(&tree, "app", &Options::default()).unwrap().to_yaml()
    };
    let all = |stage: &str| {
        let id = GitTree::open(root, "HEAD").unwrap().commit();
        for revision in ["HEAD", "main", "refs/heads/main", "@", &id, &id[..8]] {
            assert_eq!(built(revision), second, "{stage}: {revision}");
        }
        for revision in ["v1", "HEAD~1", "main^", "HEAD~", "@^1"] {
            assert_eq!(built(revision), first, "{stage}: {revision}");
        }
    };
    all("loose objects");
    assert!(git(root, &["gc", "-q"]) && git(root, &["pack-refs", "--all"]));
    all("packs");
    // A change of the work tree is not seen.
    write(root, 3);
    assert_eq!(built("HEAD"), second);
    let missing = GitTree::open(root, "no-such-branch").err();
    assert!(matches!(missing, Some(GitError::NoRevision { .. })), "{missing:?}");
    let missing = GitTree::open(root, "../../etc/passwd").err();
    assert!(matches!(missing, Some(GitError::NoRevision { .. })), "{missing:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(matches!(GitTree::open(elsewhere.path(), "HEAD").err(), Some(GitError::NoRepository { .. })));
}
