//! The recorded transcripts of a real kube-apiserver, played against this one, where they are on the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use dodai_apiserver::{ApiServer, Config, Pki, User};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/testdata/kube-api");
const PLAYER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/tools/apireplay.py");

/// The cases that are not passed, each with its reason.
fn skipped() -> BTreeSet<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/kube-api/skip.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('"'));
    lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_of_a_real_server_play_as_recorded() {
    let python = Command::new("python3").args(["-c", "import yaml"]).output();
    if !Path::new(CASES).exists() || !python.is_ok_and(|output| output.status.success()) {
        println!("skipped: needs {CASES} and python3 with PyYAML");
        return;
    }
    let mut alice = User::new("alice", &["dev"]);
    alice.uid = "2".into();
    let tokens = [("admin-token".to_owned(), User::admin("admin")), ("alice-token".to_owned(), alice)];
    let config = Config {
        controllers: false,
        service_account_tokens: true,
        tokens: tokens.into(),
        ..Config::default()
    };
    let server = ApiServer::open(config).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = server.serve(listener, &Pki::open(folder.path()).unwrap()).await.unwrap();
    let url = serving.url();
    let first = play(&url, &["--jobs", "6"]).await;
    assert!(first.passed.len() > 300, "the player did not play:\n{}", first.text);
    let known = skipped();
    let mut new: BTreeSet<String> = first.failed.difference(&known).cloned().collect();
    let mut text = first.text;
    if !new.is_empty() {
        // The player's limits are real time, which a busy machine may exceed: once more, alone.
        let filters: Vec<&str> = new.iter().flat_map(|case| ["--filter", case]).collect();
        let second = play(&url, &filters).await;
        (new, text) = (second.failed, second.text);
    }
    serving.stop().await;
    assert!(new.is_empty(), "no longer pass: {new:?}\n{text}");
    let fixed: Vec<&String> = known.difference(&first.failed).collect();
    assert!(fixed.is_empty(), "pass, take them out of skip.toml: {fixed:?}");
}

struct Played {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    text: String,
}

async fn play(url: &str, options: &[&str]) -> Played {
    let mut player = Command::new("python3");
    player.args([PLAYER, "play", CASES, "--server", url, "--insecure", "--skip-needs", "controllers"]);
    player.args(["--token", "admin-token", "--user-token", "alice-token"]).args(options);
    let output = tokio::task::spawn_blocking(move || player.output()).await.unwrap().unwrap();
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    // Cases that end at the same time may share a line.
    let cases = |mark: &str| -> BTreeSet<String> {
        let pattern = regex::Regex::new(&format!("{mark} +([a-z]+/[a-z0-9-]+)")).unwrap();
        pattern.captures_iter(&text).map(|found| found[1].to_owned()).collect()
    };
    Played { passed: cases("ok"), failed: cases("FAIL"), text }
}
