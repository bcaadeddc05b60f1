//! The kept cases: each found a difference that has been mended since.

use std::path::{Path, PathBuf};

use dodai_apiserver::{ApiServer, Config, User};
use dodai_differential::case::Case;
use dodai_differential::play::prepare;
use dodai_differential::server::Server;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = std::fs::read_dir(folder).expect("the folder of cases is beside this crate");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

#[tokio::test]
async fn every_kept_case_is_answered_as_the_real_server_answered_it() {
    // The real server ran without controllers.
    let config = Config { controllers: false, service_account_tokens: true, ..Config::default() };
    let server = ApiServer::open(config).await.expect("a server in memory opens");
    let client = server.client(User::admin("admin").with_agent("unknown"));
    let server = Server::over(client);
    prepare(&server).await.expect("the custom kind is served");
    let files = cases();
    assert!(files.len() >= 60, "only {} cases were found", files.len());
    let mut wrong = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let case = Case::read(file).unwrap();
        let found = case.replay(&server, &format!("case-{number}")).await.unwrap();
        if !found.is_empty() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            wrong.push(format!("{name}: {}\n    {}", case.about, found.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}
