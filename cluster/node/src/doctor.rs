//! Tries what running a Pod needs, for real, and says what to do where it is forbidden.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::runtime::process::ProcessRuntime;
use crate::runtime::{ContainerStart, ContainerState, PodConfig, Runtime};

/// How long the try may take.
const TRY_MAX: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A container with its own mounts and processes ran.
    Works,
    /// It did not: what failed, and what a person can do about it.
    Fails {
        /// The step and the system's answer.
        problem: String,
        /// What to do, a line each.
        hints: Vec<String>,
    },
}

/// Runs a container in `folder`, which must be writable and is left as it was.
pub async fn check(folder: &Path, supervisor_exe: Vec<std::ffi::OsString>) -> Finding {
    let place = folder.join(format!("doctor-{:016x}", fastrand::u64(..)));
    let outcome = tokio::time::timeout(TRY_MAX, try_container(&place, supervisor_exe)).await;
    let _ = fs::remove_dir_all(&place);
    match outcome {
        Ok(Ok(())) => Finding::Works,
        Ok(Err(problem)) => Finding::Fails { hints: hints(&problem, &Machine::look()), problem },
        Err(_) => Finding::Fails {
            problem: format!("a container did not end within {} s", TRY_MAX.as_secs()),
            hints: Vec::new(),
        },
    }
}

async fn try_container(place: &Path, supervisor_exe: Vec<std::ffi::OsString>) -> Result<(), String> {
    let text = |error: crate::Error| crate::error::chain(&error);
    let runtime = ProcessRuntime::new(place, supervisor_exe).map_err(text)?;
    let config = PodConfig {
        uid: "doctor".to_string(),
        namespace: "default".to_string(),
        name: "doctor".to_string(),
        absent_grace_ms: Some(1000),
        termination_grace_ms: 1000,
        run_to_completion: false,
        port: None,
    };
    let pod = runtime.open(config).await.map_err(text)?;
    let start = ContainerStart {
        name: "try".to_string(),
        command: ["/bin/sh", "-c", "test -e /proc/self/status && ! test -e /home && echo ok >/tmp/ok"]
            .map(str::to_string)
            .to_vec(),
        working_dir: "/".to_string(),
        log_path: place.join("log"),
        message_from_log: true,
        ..ContainerStart::default()
    };
    pod.start(start).await.map_err(text)?;
    let mut state = pod.state();
    let ended = state
        .wait_for(|state| {
            matches!(state.containers.get("try").map(|c| &c.state), Some(ContainerState::Exited(_)))
        })
        .await
        .map_err(|error| error.to_string())?
        .clone();
    let outcome = match ended.containers.get("try").map(|container| &container.state) {
        Some(ContainerState::Exited(ended)) if ended.exit_code == 0 => Ok(()),
        Some(ContainerState::Exited(ended)) => Err(ended.message.clone()),
        _ => Err("the container's end is not known".to_string()),
    };
    pod.remove().await.map_err(text)?;
    outcome
}

/// Settings of the kernel that forbid what is needed.
#[derive(Debug, Default)]
struct Machine {
    root: bool,
    namespaces_max: Option<String>,
    clone_allowed: Option<String>,
    apparmor_restricts: Option<String>,
    in_container: bool,
}

impl Machine {
    fn look() -> Machine {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|text| text.trim().to_string())
        };
        Machine {
            root: nix::unistd::geteuid().is_root(),
            namespaces_max: read("user/max_user_namespaces"),
            clone_allowed: read("kernel/unprivileged_userns_clone"),
            apparmor_restricts: read("kernel/apparmor_restrict_unprivileged_userns"),
            in_container: Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists(),
        }
    }
}

fn hints(problem: &str, machine: &Machine) -> Vec<String> {
    let mut hints = Vec::new();
    if machine.namespaces_max.as_deref() == Some("0") {
        hints
            .push("user namespaces are switched off: sudo sysctl user.max_user_namespaces=15000".to_string());
    }
    if machine.clone_allowed.as_deref() == Some("0") && !machine.root {
        hints.push(
            "users may not make namespaces: sudo sysctl kernel.unprivileged_userns_clone=1".to_string(),
        );
    }
    if machine.apparmor_restricts.as_deref() == Some("1") && !machine.root {
        hints.push(
            "AppArmor forbids it (Ubuntu 23.10 and newer): sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or allow `userns` for dodai in /etc/apparmor.d"
                .to_string(),
        );
    }
    if problem.contains("`/proc`") || machine.in_container {
        hints.push(
            "inside a container: its /proc is masked or mounts are forbidden; start it with --security-opt systempaths=unconfined --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or --privileged"
                .to_string(),
        );
    }
    if problem.contains("mount_setattr") {
        hints.push("the kernel is too old: Linux 5.12 or newer is needed".to_string());
    }
    if hints.is_empty() {
        hints.push("run dodai as root, or allow user namespaces for this user".to_string());
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_forbids_it_has_its_hint() {
        let set = |text: &str| Some(text.to_string());
        let cases = [
            (Machine { namespaces_max: set("0"), ..Machine::default() }, "max_user_namespaces"),
            (Machine { clone_allowed: set("0"), ..Machine::default() }, "unprivileged_userns_clone"),
            (Machine { apparmor_restricts: set("1"), ..Machine::default() }, "apparmor_restrict"),
            (Machine { in_container: true, ..Machine::default() }, "--privileged"),
            (Machine::default(), "as root"),
        ];
        for (machine, want) in cases {
            let hints = hints("cannot make namespaces: EPERM", &machine);
            assert!(hints.len() == 1 && hints[0].contains(want), "{hints:?} for {machine:?}");
        }
    }
}
