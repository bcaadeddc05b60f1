//! Releases of a running App: rolled out under load, refused, retried, skipped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::http::Client;
use crate::mini::{Mini, assert_one_row_each, rows};
use crate::support::{Project, eventually, have, text};

fn ready() -> bool {
    let namespaces = crate::support::namespaces();
    let python = std::process::Command::new("python3")
        .arg("-c")
        .arg("import venv")
        .status()
        .is_ok_and(|s| s.success());
    have("namespaces", namespaces) && have("python3", python)
}

#[test]
fn a_roll_out_under_load_fails_no_request() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");

    // Fresh and kept connections, two-second GETs, and POSTs.
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (url, stop, sent) = (url.clone(), stop.clone(), sent.clone());
            std::thread::spawn(move || {
                let mut client = Client::new(&url, number % 2 == 0);
                let mut orders = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = match (number / 2, orders % 2) {
                        (0, _) => client.get("/slow"),
                        (1, _) => client.get("/"),
                        (_, 0) => client.get("/"),
                        _ => client.post("/order", "product=1"),
                    };
                    let answer = answer.unwrap_or_else(|error| panic!("client {number}: {error}"));
                    assert!(matches!(answer.code, 200 | 201), "client {number}: {answer:?}");
                    sent.fetch_add(1, Ordering::Relaxed);
                    orders += 1;
                }
            })
        })
        .collect();
    eventually("load", || (sent.load(Ordering::Relaxed) > 50).then_some(()));
    for text in ["two", "three"] {
        Mini { text, ..Mini::default() }.write(&project);
        project.ok(&["apply", "."]);
        assert_eq!(
            Client::new(&url, false).get("/").unwrap().body,
            text,
            "after the apply only the new version answers"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request failed");
    }
    println!("{} requests over two roll-outs", sent.load(Ordering::Relaxed));
    assert_one_row_each(&project, 3);
    assert_eq!(project.stop(), 0);
    project.assert_nothing_is_left();
}

#[test]
fn a_broken_migration_leaves_the_old_version_and_says_why() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    Mini { text: "two", migrate_code: 4, ..Mini::default() }.write(&project);
    let output = project.run(&["apply", "."]);
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("release command `python3 release.py`: exit code 4"), "{printed}");
    assert!(printed.contains("| no such table: orders"), "{printed}");
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one", "the old version still answers");
    let status = project.status();
    assert_eq!(status["target"]["state"], "Failed");
    assert_eq!(status["reason"], "MigrationFailed");
    assert!(status["message"].as_str().unwrap().contains("exit code 4"));
    assert_eq!(
        status["target"]["failure"]["log"].as_array().unwrap().last().unwrap(),
        "no such table: orders"
    );
    assert_eq!(status["current"]["number"], 1);
    let why = project.run(&["why", "shop"]);
    assert!(text(&why.stdout).contains("no such table: orders"), "{}", text(&why.stdout));
    // A retry is a person's decision, and runs it once more.
    assert_eq!(project.run(&["retry", "shop"]).status.code(), Some(1));
    assert_eq!(rows(&project), ["shop-v1", "shop-v2", "shop-v2"]);
    Mini { text: "three", ..Mini::default() }.write(&project);
    project.ok(&["apply", "."]);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "three");
    assert_eq!(rows(&project), ["shop-v1", "shop-v2", "shop-v2", "shop-v3"]);
}

#[test]
fn a_process_that_exits_is_told_at_once_and_the_old_one_serves() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    Mini { text: "two", trouble: "exit", ..Mini::default() }.write(&project);
    let output = project.run(&["apply", "."]);
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("process `web` ended before it was available: exit code 3"), "{printed}");
    let lines = printed.lines().filter(|line| line.trim_start().starts_with("| trouble line")).count();
    assert!((1..=20).contains(&lines) && printed.contains("trouble line 29"), "{printed}");
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");
    eventually("the old release is put back whole", || {
        let status = project.status();
        (status["processes"][0]["available"] == 2 && status["target"]["state"] == "Failed").then_some(())
    });
}

#[test]
fn an_unchanged_second_up_neither_builds_nor_migrates_and_keeps_its_url() {
    if !ready() {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    assert_eq!(Client::new(&url, false).post("/order", "product=7").unwrap().code, 201);
    assert_eq!(project.stop(), 0);
    project.assert_nothing_is_left();
    let again = project.up(&["--no-logs"]);
    assert_eq!(again, url);
    assert_eq!(Client::new(&url, false).get("/").unwrap().body, "one");
    assert!(project.log().contains("up to date"), "{}", project.log());
    assert_one_row_each(&project, 1);
    assert_eq!(project.status()["target"]["number"], 1);
    // Only the number of replicas changes: no build, no command, no restart of what runs.
    let before = Client::new(&url, false).get("/pid").unwrap().body;
    Mini { replicas: 1, ..Mini::default() }.write(&project);
    let _ = before;
    project.ok(&["apply", "."]);
    assert_eq!(project.status()["target"]["migration"], "Skipped");
    assert_one_row_each(&project, 1);
}
