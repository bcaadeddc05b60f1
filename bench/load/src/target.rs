//! Where the load goes.

use anyhow::Context;
use dodai_apiserver::{ApiServer, Config as ServerConfig, User};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

/// A server to load.
pub(crate) enum Target {
    /// Over HTTPS, as the kubeconfig says.
    Kubeconfig(String),
    /// In this process.
    InProcess(ApiServer),
}

impl Target {
    /// Opens what the argument names.
    pub(crate) async fn open(argument: &str) -> anyhow::Result<Target> {
        match argument {
            "in-process" => {
                let server = ApiServer::open(ServerConfig::default()).await;
                Ok(Target::InProcess(server.context("cannot open a server in this process")?))
            }
            file => Ok(Target::Kubeconfig(file.to_owned())),
        }
    }

    pub(crate) fn is_in_process(&self) -> bool {
        matches!(self, Target::InProcess(_))
    }

    /// A client with connections of its own.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        match self {
            Target::InProcess(server) => Ok(server.client(User::admin("bench"))),
            Target::Kubeconfig(file) => {
                let kubeconfig = Kubeconfig::read_from(file)?;
                let config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
                Ok(Client::try_from(config)?)
            }
        }
    }

    /// Makes a namespace for one phase.
    pub(crate) async fn namespace(&self, phase: &str) -> anyhow::Result<String> {
        let name = format!("bench-{phase}-{}", std::process::id());
        let object = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        let api: Api<Namespace> = Api::all(self.client().await?);
        api.create(&PostParams::default(), &object).await.context("cannot create the namespace")?;
        Ok(name)
    }
}
