//! `dodai apiserver`: only the Kubernetes API server, as a test server for any language.

use std::collections::HashMap;
use std::path::Path;

use dodai_apiserver::{ApiServer, Config, KeyPlace, Pki, Storage, User};
use dodai_kit::controller::Context as Controllers;
use dodai_kit::{Clock, Supervisor};
use tokio::net::TcpListener;

use crate::cli::{Apiserver, Global};
use crate::failure::{Context, Failure, Result};
use crate::{limits, platform, watchdog};

pub(crate) async fn run(global: &Global, args: &Apiserver) -> Result<()> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::invalid(format!("`--listen {}` is not a loopback address", args.listen)));
    }
    let folder = match (&global.data, args.in_memory) {
        (Some(_), true) => return Err(Failure::invalid("`--data` and `--in-memory` cannot both be given")),
        (Some(data), false) => Some(data.clone()),
        (None, true) if args.key_file.is_some() => {
            return Err(Failure::invalid("`--in-memory` keeps nothing: `--key-file` has no use"));
        }
        (None, true) => None,
        (None, false) => {
            return Err(Failure::invalid("where to keep state: give `--data DIR`, or `--in-memory`"));
        }
    };
    limits::raise_open_files();
    watchdog::start(tokio::runtime::Handle::current());
    let storage = folder.as_ref().map_or(Storage::Memory, |data| Storage::Disk(data.join("state")));
    let tokens = args.token_file.as_deref().map(tokens).transpose()?.unwrap_or_default();
    // As upstream's server does: Pods get a volume with a token. `up` leaves it out, since the node fills no such volume yet.
    let config = Config {
        storage,
        keys: args.key_file.clone().map(KeyPlace::File),
        controllers: args.controllers,
        tokens,
        service_account_tokens: true,
        ..Config::default()
    };
    let server =
        ApiServer::open(config).await.map_err(|error| Failure::from_error("cannot open the API", &error))?;
    server.notices().iter().for_each(|notice| eprintln!("warning: {notice}"));
    let listener =
        TcpListener::bind(args.listen).await.context(format!("cannot listen on `{}`", args.listen))?;
    let address = listener.local_addr().context("cannot listen")?;
    // Without a data folder the certificates last as long as the process.
    let scratch = std::env::temp_dir().join(format!("dodai-apiserver-{}", std::process::id()));
    let pki = Pki::open(&folder.as_deref().unwrap_or(&scratch).join("pki"));
    let _ = std::fs::remove_dir_all(&scratch);
    let pki = pki.map_err(|error| Failure::from_error("cannot make the certificates", &error))?;
    if let Some(file) = &args.kubeconfig_out {
        pki.write_kubeconfig(file, &format!("https://{address}"))
            .map_err(|error| Failure::from_error("cannot write the kubeconfig", &error))?;
    }
    let serving = server
        .serve(listener, &pki)
        .await
        .map_err(|error| Failure::from_error("cannot serve the API", &error))?;
    let context = Controllers::new(server.client(User::admin("dodai-controllers")), Clock::system());
    platform::tell(&server, &context);
    let mut running = Supervisor::new(context);
    if args.controllers {
        running.start(dodai_node::controllers::engine());
    }
    eprintln!("serving the Kubernetes API on https://{address}");
    wait_for_end().await?;
    running.stop(platform::ENGINES_STOP_MAX).await;
    serving.stop().await;
    server.shutdown().await.context("cannot close the store")
}

async fn wait_for_end() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// `token,user,uid,"group1,group2"`, one a line, as kube-apiserver's `--token-auth-file`. Tokens never reach an error.
fn tokens(file: &Path) -> Result<HashMap<String, User>> {
    let text = std::fs::read_to_string(file).context(format!("cannot read `{}`", file.display()))?;
    let mut tokens = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields = fields(line);
        let [token, user, uid, rest @ ..] = fields.as_slice() else {
            let place = format!("{}:{}", file.display(), index + 1);
            return Err(Failure::invalid(format!(
                "{place}: a line needs a token, a user name and a uid, separated by commas"
            )));
        };
        let mut groups: Vec<&str> =
            rest.first().map(|groups| groups.split(',').map(str::trim).collect()).unwrap_or_default();
        groups.retain(|group| !group.is_empty());
        groups.push("system:authenticated");
        tokens.insert(token.clone(), User { uid: uid.clone(), ..User::new(user, &groups) });
    }
    Ok(tokens)
}

/// The fields of a line of CSV; one in double quotes may hold commas, and `""` is a quote in it.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.trim().chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always a field");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn a_quoted_field_holds_commas() {
        assert_eq!(fields(r#"secret,alice,7,"dev,ops""#), ["secret", "alice", "7", "dev,ops"]);
        assert_eq!(fields(r#"a,"b ""c""",d"#), ["a", r#"b "c""#, "d"]);
    }
}
