//! `kill -9` of dodai at each stage, then started again, or not.

use crate::http::Client;
use crate::mini::{Mini, assert_one_row_each, rows};
use crate::support::{Project, eventually, have};

fn ready() -> bool {
    have("namespaces", crate::support::namespaces())
}

/// Who answers: host name and start time of the process.
fn identities(url: &str) -> Vec<String> {
    let mut found: Vec<String> = (0..20).map(|_| Client::new(url, false).get("/pid").unwrap().body).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn killed_when_idle_its_pods_are_adopted() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    let before = identities(&url);
    assert_eq!(before.len(), 2, "{before:?}");
    project.kill();
    assert!(!project.processes().is_empty(), "Pods outlive dodai");
    assert_eq!(project.up(&["--no-logs"]), url);
    assert_eq!(identities(&url), before, "the same processes serve, none was restarted");
    let pods = project.status()["pods"].clone();
    assert!(pods.as_array().unwrap().iter().all(|pod| pod["restarts"] == 0), "{pods}");
    assert_one_row_each(&project, 1);
}

#[test]
fn killed_during_a_build_the_next_start_ends_it() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini { build_s: 3.0, ..Mini::default() }.write(&project);
    project.start(&["--no-logs"]);
    eventually("the build runs", || (project.processes().len() > 1).then_some(()));
    project.kill();
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");
    assert_one_row_each(&project, 1);
}

#[test]
fn killed_during_a_migration_it_runs_once() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini { migrate_s: 3.0, ..Mini::default() }.write(&project);
    project.start(&["--no-logs"]);
    eventually("the release command has started", || (!rows(&project).is_empty()).then_some(()));
    project.kill();
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");
    assert_one_row_each(&project, 1);
}

#[test]
fn killed_during_a_roll_out_it_goes_on() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    Mini { text: "two", start_s: 3.0, ..Mini::default() }.write(&project);
    project.ok(&["apply", ".", "--no-wait"]);
    eventually("the roll-out has begun", || {
        (project.status()["target"]["state"] == "RollingOut").then_some(())
    });
    project.kill();
    assert_eq!(project.up(&["--no-logs"]), url);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "two");
    assert_one_row_each(&project, 2);
}

#[test]
fn killed_and_not_started_again_nothing_is_left_and_the_command_ran_to_its_end() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    project.up(&["--no-logs", "--orphan-grace", "1s"]);
    Mini { text: "two", migrate_s: 4.0, ..Mini::default() }.write(&project);
    project.ok(&["apply", ".", "--no-wait"]);
    eventually("the second release command has started", || (rows(&project).len() == 2).then_some(()));
    project.kill();
    eventually("all processes have ended", || project.processes().is_empty().then_some(()));
    let ended = std::fs::read_to_string(project.data().join("volumes/default/shop-data/ended")).unwrap();
    assert_eq!(ended, "shop-v1\nshop-v2\n", "the release command was not cut off");
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "two", "its record was found");
    assert_one_row_each(&project, 2);
}

#[test]
fn stopped_during_a_build_the_next_start_builds_again() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini { build_s: 3.0, ..Mini::default() }.write(&project);
    project.start(&["--no-logs"]);
    eventually("the build runs", || (project.processes().len() > 1).then_some(()));
    assert_eq!(project.stop(), 0);
    project.assert_nothing_is_left();
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");
    assert_one_row_each(&project, 1);
}

#[test]
fn stopped_during_a_migration_dodai_waits_for_its_end() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini { migrate_s: 3.0, ..Mini::default() }.write(&project);
    project.start(&["--no-logs"]);
    eventually("the release command has started", || (!rows(&project).is_empty()).then_some(()));
    assert_eq!(project.stop(), 0);
    let ended = std::fs::read_to_string(project.data().join("volumes/default/shop-data/ended")).unwrap();
    assert_eq!(ended, "shop-v1\n", "the command had ended before dodai did");
    project.assert_nothing_is_left();
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");
    assert_one_row_each(&project, 1);
}
