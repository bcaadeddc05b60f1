//! The transcripts of the area `controllers`, recorded from a real kube-controller-manager, played against an API server
//! with these controllers, where they are on the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use dodai_apiserver::{ApiServer, Config, Pki, User};
use dodai_kit::{Clock, Context};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/testdata/kube-api");
const PLAYER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/tools/apireplay.py");

/// The cases that are not passed, each with its reason.
fn skipped() -> BTreeSet<String> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/kube-api-controllers/skip.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('"'));
    lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transcripts_of_the_real_controllers_play_as_recorded() {
    let python = Command::new("python3").args(["-c", "import yaml"]).output();
    if !Path::new(CASES).exists() || !python.is_ok_and(|output| output.status.success()) {
        println!("skipped: needs {CASES} and python3 with PyYAML");
        return;
    }
    let mut alice = User::new("alice", &["dev"]);
    alice.uid = "2".into();
    let tokens = [("admin-token".to_owned(), User::admin("admin")), ("alice-token".to_owned(), alice)];
    let config = Config { tokens: tokens.into(), ..Config::default() };
    let server = ApiServer::open(config).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let serving = server.serve(listener, &Pki::open(folder.path()).unwrap()).await.unwrap();
    let url = serving.url();
    let (_stop, stopped) = watch::channel(false);
    let context = Context::new(server.client(User::admin("controllers")), Clock::system());
    let mut running = JoinSet::new();
    for (_, run) in dodai_node::controllers::engine().controllers {
        running.spawn(run(context.clone(), stopped.clone()));
    }
    let filter = std::env::var("DODAI_TRANSCRIPT").unwrap_or("controllers/*".to_owned());
    let (passed, mut failed, mut text) = play(&url, &["--jobs", "4", "--filter", &filter]).await;
    assert!(passed.len() + failed.len() >= 27 || filter != "controllers/*", "it did not play:\n{text}");
    let known = skipped();
    let fixed: Vec<&String> = known.intersection(&passed).collect();
    assert!(fixed.is_empty(), "pass, take them out of skip.toml: {fixed:?}");
    failed.retain(|case| !known.contains(case));
    if !failed.is_empty() {
        // The player's limits are real time, which a busy machine may exceed: once more, alone.
        let filters: Vec<&str> = failed.iter().flat_map(|case| ["--filter", case]).collect();
        (_, failed, text) = play(&url, &[&filters[..], &["--verbose"]].concat()).await;
    }
    assert!(failed.is_empty(), "no longer pass: {failed:?}\n{text}");
}

/// Cases that passed, cases that failed, and what was printed.
async fn play(url: &str, options: &[&str]) -> (BTreeSet<String>, BTreeSet<String>, String) {
    let mut player = Command::new("python3");
    player.args([PLAYER, "play", CASES, "--server", url, "--controllers-server", url, "--insecure"]);
    player.args(["--token", "admin-token", "--user-token", "alice-token"]).args(options);
    let output = tokio::task::spawn_blocking(move || player.output()).await.unwrap().unwrap();
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    let cases = |mark: &str| -> BTreeSet<String> {
        // Cases that end at the same time may share a line.
        let words: Vec<&str> = text.split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| pair[0].ends_with(mark) && pair[1].contains('/'));
        pairs.map(|pair| pair[1].trim_end_matches(':').to_owned()).collect()
    };
    (cases("ok"), cases("FAIL"), text)
}
