//! Tries what running a Pod needs, for real, and says what to do where it is forbidden.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::error::{Error, Result};
use crate::supervisor::{root, sys};

/// First version of Linux that can run Pods.
const KERNEL_MIN: (u32, u32) = (5, 12);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do if it is not well.
    pub hint: Option<String>,
}

/// Looks at everything.
pub fn check() -> Vec<Check> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_string();
    let kernel_ok = version(&release).is_none_or(|version| version >= KERNEL_MIN);
    let kernel = Check {
        name: "kernel",
        ok: kernel_ok,
        detail: format!("Linux {release}"),
        hint: (!kernel_ok).then(|| format!("Linux {}.{} or newer is needed", KERNEL_MIN.0, KERNEL_MIN.1)),
    };
    let machine = Machine::look();
    let namespaces = match try_container() {
        Ok(()) => {
            let how = if sys::has_sys_admin() { "as root" } else { "in a user namespace" };
            let detail = format!("a Pod can have its own files and processes, {how}");
            Check { name: "namespaces", ok: true, detail, hint: None }
        }
        Err(problem) => {
            let hint = Some(hints(&problem, &machine).join("; "));
            Check { name: "namespaces", ok: false, detail: problem, hint }
        }
    };
    vec![kernel, namespaces]
}

/// An error that says what to do, if Pods cannot run on this machine.
pub fn require() -> Result<()> {
    try_container().map_err(|problem| Error::Machine { hints: hints(&problem, &Machine::look()), problem })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Assembles the root of a container and enters it, in processes of their own that end at once. The mounts are over
/// `/tmp` of a namespace that nobody else sees.
fn try_container() -> std::result::Result<(), String> {
    let (read, write) = sys::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    // Safety: the child only makes system calls and allocates, which the C library allows after a fork, and leaves
    // without running anything of its parent.
    let child = match unsafe { fork() }.map_err(|error| format!("cannot fork: {error}"))? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let told =
                std::panic::catch_unwind(in_namespaces).unwrap_or_else(|_| Err("it panicked".to_string()));
            if let Err(problem) = told {
                let _ = File::from(write).write_all(problem.as_bytes());
            }
            // Safety: as above.
            unsafe { libc::_exit(0) }
        }
    };
    drop(write);
    let mut problem = String::new();
    let read = File::from(read).read_to_string(&mut problem);
    let _ = waitpid(child, None);
    match read {
        Ok(_) if problem.is_empty() => Ok(()),
        Ok(_) => Err(problem),
        Err(error) => Err(format!("cannot read what was found: {error}")),
    }
}

fn in_namespaces() -> std::result::Result<(), String> {
    let (read, write) = sys::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let user_namespace = !sys::has_sys_admin();
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    // Safety: this process was just forked, so it has one thread; the child leaves it here.
    let child = unsafe { sys::fork_into(sys::container_namespaces(user_namespace)) };
    let child = child.map_err(|error| format!("cannot make namespaces: {error}"))?;
    let Some(child) = child else {
        let entered = root::try_to_enter(Path::new("/tmp"), user_namespace.then_some((uid, gid)));
        if let Err(problem) = entered {
            let _ = File::from(write).write_all(problem.as_bytes());
        }
        // Safety: as above.
        unsafe { libc::_exit(0) }
    };
    drop(write);
    let mut problem = String::new();
    File::from(read).read_to_string(&mut problem).map_err(|error| error.to_string())?;
    let _ = waitpid(nix::unistd::Pid::from_raw(child), None);
    if problem.is_empty() { Ok(()) } else { Err(problem) }
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
    fn this_machine_is_looked_at() {
        let checks = check();
        assert_eq!(require().is_ok(), checks[1].ok, "{checks:?}");
        assert_eq!(version("6.18.44-fc-v769"), Some((6, 18)));
    }

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
