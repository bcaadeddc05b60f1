//! `who-can-read`: answers from RBAC, from who may create Pods, and from the Pods that use the Secret now.

use dodai_api::EncryptedSecret;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::cli::WhoCanRead;
use crate::cli::{Format, Global};
use crate::failure::{Context, Failure, Result};
use crate::{screen, target};

/// One answer.
struct Reader {
    who: String,
    how: String,
    by: String,
}

pub(crate) async fn run(global: &Global, args: &WhoCanRead) -> Result<()> {
    let client = target::find(global, None).await?.client;
    let (namespace, name) = (global.namespace.as_str(), args.name.as_str());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if secrets.get_metadata_opt(name).await.context("cannot read the Secret")?.is_none() {
        return Err(Failure::invalid(format!("no Secret `{name}` in namespace `{namespace}`")));
    }
    let mut readers = by_rbac(&client, namespace, name).await?;
    readers.extend(by_pods(&client, namespace, name).await?);
    let encrypted: Api<EncryptedSecret> = Api::namespaced(client.clone(), namespace);
    // On a cluster without the kind there is nothing to say about it.
    let restricted = match encrypted.get_opt(name).await {
        Ok(Some(object)) => !object.spec.readers.is_empty(),
        _ => false,
    };
    match args.output {
        Format::Json => {
            let list: Vec<_> = readers
                .iter()
                .map(|reader| json!({"who": reader.who, "how": reader.how, "by": reader.by}))
                .collect();
            let all = json!({"namespace": namespace, "secret": name, "mountsRestricted": restricted, "readers": list});
            println!("{}", serde_json::to_string_pretty(&all).context("cannot print")?);
        }
        Format::Table => {
            let rows: Vec<Vec<String>> =
                readers.into_iter().map(|reader| vec![reader.who, reader.how, reader.by]).collect();
            print!("{}", screen::table(&["WHO", "HOW", "BY"], &rows));
            if !restricted {
                eprintln!(
                    "hint: whoever may create Pods may mount it; `spec.readers` of an EncryptedSecret limits that to Pods of those \
                     ServiceAccounts"
                );
            }
        }
    }
    Ok(())
}

/// What the rules of a role say: reading it, or creating Pods that mount it.
fn ways(rules: &[PolicyRule], name: &str) -> Vec<&'static str> {
    let any = |list: &Option<Vec<String>>, wanted: &[&str]| {
        list.iter().flatten().any(|one| one == "*" || wanted.contains(&one.as_str()))
    };
    let verb = |rule: &PolicyRule, wanted: &[&str]| {
        rule.verbs.iter().any(|one| one == "*" || wanted.contains(&one.as_str()))
    };
    let mut found = Vec::new();
    let reads = |rule: &PolicyRule| {
        let names = rule.resource_names.clone().unwrap_or_default();
        any(&rule.api_groups, &[""])
            && any(&rule.resources, &["secrets"])
            && verb(rule, &["get", "list", "watch"])
            && (names.is_empty() || names.iter().any(|one| one == name))
    };
    if rules.iter().any(reads) {
        found.push("reads it");
    }
    let makes_pods = |rule: &PolicyRule| {
        let direct = any(&rule.api_groups, &[""]) && any(&rule.resources, &["pods"]);
        let through = any(&rule.api_groups, &["apps", "batch"])
            && any(
                &rule.resources,
                &["deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs"],
            );
        // An App becomes Pods too, with whatever Secret it names.
        let app = any(&rule.api_groups, &["dodai.dev"]) && any(&rule.resources, &["apps", "releases"]);
        (direct || through || app) && verb(rule, &["create", "update", "patch"])
    };
    if rules.iter().any(makes_pods) {
        found.push("may run Pods that mount it");
    }
    let enters = |rule: &PolicyRule| {
        let ways = ["pods/exec", "pods/attach", "pods/ephemeralcontainers"];
        // `get` is enough for `exec` over a WebSocket.
        any(&rule.api_groups, &[""])
            && any(&rule.resources, &ways)
            && verb(rule, &["get", "create", "update", "patch"])
    };
    if rules.iter().any(enters) {
        found.push("may enter Pods that have it");
    }
    found
}

async fn by_rbac(client: &Client, namespace: &str, name: &str) -> Result<Vec<Reader>> {
    let all = Default::default();
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let roles = roles.list(&all).await.context("cannot list Roles")?.items;
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let cluster_roles = cluster_roles.list(&all).await.context("cannot list ClusterRoles")?.items;
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let bindings = bindings.list(&all).await.context("cannot list RoleBindings")?.items;
    let cluster_bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let cluster_bindings =
        cluster_bindings.list(&all).await.context("cannot list ClusterRoleBindings")?.items;
    let rules = |reference: &RoleRef| -> Vec<PolicyRule> {
        let found = match reference.kind.as_str() {
            "Role" => roles
                .iter()
                .find(|role| role.name_any() == reference.name)
                .and_then(|role| role.rules.clone()),
            _ => cluster_roles
                .iter()
                .find(|role| role.name_any() == reference.name)
                .and_then(|role| role.rules.clone()),
        };
        found.unwrap_or_default()
    };
    let mut readers = Vec::new();
    let mut add = |kind: &str, binding: String, reference: &RoleRef, subjects: &Option<Vec<Subject>>| {
        for how in ways(&rules(reference), name) {
            for subject in subjects.iter().flatten() {
                readers.push(Reader {
                    who: shown(subject, namespace),
                    how: how.to_owned(),
                    by: format!("{kind} `{binding}`, {} `{}`", reference.kind, reference.name),
                });
            }
        }
    };
    for binding in &bindings {
        add("RoleBinding", binding.name_any(), &binding.role_ref, &binding.subjects);
    }
    for binding in &cluster_bindings {
        add("ClusterRoleBinding", binding.name_any(), &binding.role_ref, &binding.subjects);
    }
    Ok(readers)
}

fn shown(subject: &Subject, namespace: &str) -> String {
    match subject.kind.as_str() {
        "ServiceAccount" => {
            format!("ServiceAccount {}/{}", subject.namespace.as_deref().unwrap_or(namespace), subject.name)
        }
        kind => format!("{kind} {}", subject.name),
    }
}

async fn by_pods(client: &Client, namespace: &str, name: &str) -> Result<Vec<Reader>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&Default::default()).await.context("cannot list Pods")?.items;
    let using = pods.iter().filter(|pod| uses(pod, name)).map(|pod| {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        Reader {
            who: format!("Pod {}", pod.name_any()),
            how: "has it".to_owned(),
            by: format!("ServiceAccount {namespace}/{}", account.unwrap_or_else(|| "default".to_owned())),
        }
    });
    Ok(using.collect())
}

fn uses(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let mounts = spec.volumes.iter().flatten().any(|volume| {
        let direct = volume.secret.as_ref().is_some_and(|secret| secret.secret_name.as_deref() == Some(name));
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        direct || projected.filter_map(|source| source.secret.as_ref()).any(|secret| secret.name == name)
    });
    let reads = |container: &Container| {
        let variables =
            container.env.iter().flatten().filter_map(|one| one.value_from.as_ref()?.secret_key_ref.as_ref());
        let all = container.env_from.iter().flatten().filter_map(|one| one.secret_ref.as_ref());
        variables.map(|one| &one.name).chain(all.map(|one| &one.name)).any(|one| one == name)
    };
    mounts || spec.containers.iter().any(reads) || spec.init_containers.iter().flatten().any(reads)
}
