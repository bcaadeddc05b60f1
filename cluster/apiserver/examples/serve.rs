//! Serves the API over HTTPS, for kubectl and the transcript player.
//!
//! `serve [--listen 127.0.0.1:6443] [--data DIR] [--tokens FILE] [--kubeconfig FILE] [--no-controllers]`
//!
//! Each line of the token file is `token,user,uid,group|group`.

use std::collections::HashMap;
use std::path::PathBuf;

use dodai_apiserver::{ApiServer, Config, Pki, Storage, User};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config { service_account_tokens: true, ..Config::default() };
    let mut listen = "127.0.0.1:6443".to_owned();
    let mut kubeconfig = None;
    let mut pki_folder = std::env::temp_dir().join(format!("dodai-serve-{}", std::process::id()));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--listen" => listen = value()?,
            "--data" => {
                let data = PathBuf::from(value()?);
                pki_folder = data.join("pki");
                config.storage = Storage::Disk(data.join("state"));
            }
            "--tokens" => config.tokens = tokens(&std::fs::read_to_string(value()?)?),
            "--kubeconfig" => kubeconfig = Some(PathBuf::from(value()?)),
            "--no-controllers" => config.controllers = false,
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    let server = ApiServer::open(config).await?;
    let pki = Pki::open(&pki_folder)?;
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let serving = server.serve(listener, &pki).await?;
    if let Some(path) = kubeconfig {
        pki.write_kubeconfig(&path, &serving.url())?;
    }
    println!("serving on {}", serving.url());
    tokio::signal::ctrl_c().await?;
    serving.stop().await;
    server.shutdown().await?;
    Ok(())
}

fn tokens(text: &str) -> HashMap<String, User> {
    let mut tokens = HashMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let parts: Vec<&str> = line.split(',').map(str::trim).collect();
        let groups: Vec<&str> = parts.get(3).map(|groups| groups.split('|').collect()).unwrap_or_default();
        let mut user = User::new(parts.get(1).unwrap_or(&""), &groups);
        user.uid = parts.get(2).unwrap_or(&"").to_string();
        tokens.insert(parts[0].to_owned(), user);
    }
    tokens
}
