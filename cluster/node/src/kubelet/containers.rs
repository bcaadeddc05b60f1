//! Puts together what a container is started with: image, environment, command, mounts, user.

use std::net::SocketAddr;
use std::path::PathBuf;

use dodai_api::names::ANNOTATION_COMMIT_IMAGE;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use super::build::HOME;
use super::env::{Env, add_declared};
use super::{Shared, volumes};
use crate::error::{Error, Result};
use crate::images::{APP_DIR, ImageRef};
use crate::interpreters::Interpreter;
use crate::logs::log_path;
use crate::runtime::process::remove_tree;
use crate::runtime::{ContainerStart, Mount, PodHandle};

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the tree of a source lies while a container runs on it.
pub(crate) fn tree_folder(handle: &dyn PodHandle, container: &str) -> PathBuf {
    handle.folder().join("trees").join(container)
}

/// Everything for one run. Unpacks sources, makes folders of volumes.
pub(crate) async fn assemble(
    shared: &Shared,
    pod: &Pod,
    spec: &Spec,
    handle: &dyn PodHandle,
    attempt: u32,
) -> Result<ContainerStart> {
    refuse_unsupported(spec)?;
    let image = ImageRef::parse(spec.image.as_deref().unwrap_or_default())?;
    let mut env = Env::default();
    let mut mounts = Vec::new();
    let mut path = Vec::new();
    env.set("HOME", HOME.to_string());
    env.set("HOSTNAME", pod.metadata.name.clone().unwrap_or_default());
    if let Some(port) = handle.config().port {
        env.set("PORT", port.to_string());
    }
    if let Some(api) = shared.api {
        add_api(&mut env, api);
    }
    let (interpreters, command, working_dir) = match &image {
        ImageRef::Build(hex) => {
            let image = shared.images.get(hex)?;
            for variable in &image.config.env {
                match variable.split_once('=') {
                    Some(("PATH", value)) => path.push(value.to_string()),
                    Some((name, value)) => env.set(name, value.to_string()),
                    None => {}
                }
            }
            for (source, target) in image.entries {
                mounts.push(Mount::Bind { source, target, read_only: true });
            }
            (image.config.interpreters, image.config.cmd, image.config.working_dir)
        }
        ImageRef::Source(hex) => {
            let tree = unpack(shared, hex, tree_folder(handle, &spec.name)).await?;
            mounts.push(Mount::Bind { source: tree, target: APP_DIR.to_string(), read_only: false });
            (shared.interpreters.clone(), Vec::new(), APP_DIR.to_string())
        }
    };
    add_interpreters(&interpreters, &mut mounts, &mut path);
    let is_build =
        pod.metadata.annotations.as_ref().is_some_and(|notes| notes.contains_key(ANNOTATION_COMMIT_IMAGE));
    if is_build {
        let cache = shared.data.join("cache");
        std::fs::create_dir_all(&cache).map_err(Error::file("make", &cache))?;
        shared.build_settings.add(&mut env, &mut mounts, &cache);
    }
    add_declared(&mut env, pod, spec, shared.lookup.as_ref()).await?;
    if env.get("PATH").is_none() {
        path.push(PATH_DEFAULT.to_string());
        env.set("PATH", path.join(":"));
    }
    let places = volumes::Places { pod_dir: handle.folder(), claims: &shared.data.join("volumes") };
    mounts.extend(volumes::mounts(pod, spec, &places, &env, shared.lookup.as_ref()).await?);
    let (run_as_user, run_as_group) = user(pod, spec)?;
    Ok(ContainerStart {
        name: spec.name.clone(),
        attempt,
        command: command_line(spec, command, &env)?,
        working_dir: match &spec.working_dir {
            Some(folder) if !folder.is_empty() => folder.clone(),
            _ if working_dir.is_empty() => "/".to_string(),
            _ => working_dir,
        },
        env: env.into_pairs(),
        run_as_user,
        run_as_group,
        mounts,
        log_path: log_path(
            &shared.data,
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pod.metadata.name.as_deref().unwrap_or_default(),
            &spec.name,
        ),
        termination_message_path: Some(
            spec.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_string()),
        ),
        message_from_log: true,
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        tty: spec.tty == Some(true),
    })
}

/// Where the API server is, as clients in a Pod look for it.
fn add_api(env: &mut Env, api: SocketAddr) {
    let (host, port) = (api.ip().to_string(), api.port().to_string());
    let url = format!("tcp://{api}");
    for (name, value) in [
        ("KUBERNETES_SERVICE_HOST", &host),
        ("KUBERNETES_SERVICE_PORT", &port),
        ("KUBERNETES_SERVICE_PORT_HTTPS", &port),
        ("KUBERNETES_PORT", &url),
    ] {
        env.set(name, value.clone());
    }
}

fn refuse(message: &str) -> Error {
    Error::Config { reason: "CreateContainerConfigError", message: message.to_string() }
}

/// What would be ignored silently otherwise.
fn refuse_unsupported(spec: &Spec) -> Result<()> {
    if spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some()) {
        return Err(refuse("`lifecycle.postStart` is not supported by the process runtime"));
    }
    if spec.restart_policy.is_some() {
        return Err(refuse(
            "`restartPolicy` of a container (a sidecar) is not supported by the process runtime",
        ));
    }
    if spec.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(refuse("`volumeDevices` are not supported by the process runtime"));
    }
    if spec.security_context.as_ref().is_some_and(|context| context.privileged == Some(true)) {
        return Err(refuse("privileged containers are not supported by the process runtime"));
    }
    Ok(())
}

async fn unpack(shared: &Shared, hex: &str, folder: PathBuf) -> Result<PathBuf> {
    let (images, hex) = (shared.images.clone(), hex.to_string());
    let tree = folder.join("app");
    let target = tree.clone();
    let work = move || {
        remove_tree(&folder).map_err(Error::file("remove", &folder))?;
        images.unpack_source(&hex, &target)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| refuse(&error.to_string()))??;
    Ok(tree)
}

fn add_interpreters(interpreters: &[Interpreter], mounts: &mut Vec<Mount>, path: &mut Vec<String>) {
    for interpreter in interpreters.iter().filter(|interpreter| !interpreter.prefix.starts_with("/usr")) {
        let target = interpreter.prefix.to_string_lossy().into_owned();
        path.push(format!("{target}/bin"));
        if !mounts.iter().any(|mount| matches!(mount, Mount::Bind { target: taken, .. } if *taken == target))
        {
            mounts.push(Mount::Bind { source: interpreter.prefix.clone(), target, read_only: true });
        }
    }
}

fn command_line(spec: &Spec, image: Vec<String>, env: &Env) -> Result<Vec<String>> {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let command = match (given(&spec.command), given(&spec.args)) {
        (Some(command), arguments) => command.into_iter().chain(arguments.into_iter().flatten()).collect(),
        (None, Some(arguments)) => arguments,
        (None, None) => image,
    };
    if command.is_empty() {
        return Err(refuse("no command specified: neither the container nor its image names one"));
    }
    Ok(command.iter().map(|part| env.expand(part)).collect())
}

fn user(pod: &Pod, spec: &Spec) -> Result<(Option<u32>, Option<u32>)> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = spec.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|pod| pod.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(of_pod.and_then(|pod| pod.run_as_group));
    let non_root = own.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|pod| pod.run_as_non_root));
    let number = |id: Option<i64>| {
        id.map(|id| u32::try_from(id).map_err(|_| refuse(&format!("{id} is no user or group id"))))
            .transpose()
    };
    let (user, group) = (number(user)?, number(group)?);
    let effective = user.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    if non_root == Some(true) && effective == 0 {
        return Err(refuse("container has runAsNonRoot and would run as root; set runAsUser"));
    }
    Ok((user, group))
}
