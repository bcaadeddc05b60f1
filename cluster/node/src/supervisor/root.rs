//! Assembles the root of one container and enters it. Runs as the first process of new mount and PID namespaces.
//!
//! The root is a tmpfs over an empty folder of ours, which only this mount namespace sees; the system's folders are
//! bound read-only from the host. A mount point that is missing in a read-only tree (an image) is made by putting a
//! tmpfs over the folder and binding its entries again one by one: nothing is ever created on the host's file system.
//! Needs Linux 5.12 (`mount_setattr`), because only that makes whole trees read-only without touching locked flags.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::protocol::{FileEntry, Mount};
use super::sys;

/// What failed, in words for a person: `cannot mount \`/data\`: Permission denied`.
pub(crate) type Failure = String;

/// Folders of the host that every container sees, where they exist.
const SYSTEM_FOLDERS: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu"];
/// Entries of `/etc` that programs need to resolve names, load libraries, check certificates and tell the time.
/// Nothing with keys or passwords: no shadow, no sudoers, no private keys of the host.
const ETC_ENTRIES: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "profile",
    "protocols",
    "resolv.conf",
    "rpc",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "static",
    "terminfo",
    "timezone",
];
/// Configuration of language runtimes that distributions keep in `/etc`.
const ETC_PREFIXES: &[&str] = &["java-", "python", "ruby", "php"];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of /proc that can change or read the whole machine; only matters for root.
const PROC_READ_ONLY: &[&str] = &["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi"];
const PROC_HIDDEN: &[&str] = &["kcore", "keys", "timer_list", "latency_stats", "sched_debug"];
/// Entries of a folder that can be bound again one by one.
const EXPLODED_ENTRIES_MAX: usize = 4096;

/// What to assemble.
pub(crate) struct RootSpec<'a> {
    /// An empty folder of ours over which the root is mounted.
    pub(crate) over: &'a Path,
    pub(crate) mounts: &'a [Mount],
    pub(crate) host_name: &'a str,
    /// The user is root of the machine, whose files in /proc obey it even without capabilities and in a user namespace
    /// of its own: hide what it could use.
    pub(crate) privileged: bool,
}

/// Makes this user known in a user namespace of its own, as itself.
pub(crate) fn map_own_user(uid: u32, gid: u32) -> Result<(), Failure> {
    let write = |name: &str, text: String| {
        std::fs::write(format!("/proc/self/{name}"), text)
            .map_err(|error| format!("cannot write `{name}` of the user namespace: {error}"))
    };
    write("setgroups", "deny".to_string())?;
    write("uid_map", format!("{uid} {uid} 1\n"))?;
    write("gid_map", format!("{gid} {gid} 1\n"))
}

/// Does all of it over `over` and nothing after: for finding out whether it can be done here. `user` is given if there
/// is a new user namespace.
pub(crate) fn try_to_enter(over: &Path, user: Option<(u32, u32)>) -> Result<(), Failure> {
    if let Some((uid, gid)) = user {
        map_own_user(uid, gid)?;
    }
    assemble_and_enter(&RootSpec {
        over,
        mounts: &[],
        host_name: "doctor",
        privileged: user.is_none_or(|(uid, _)| uid == 0),
    })
}

/// Builds the root and makes it `/` of this mount namespace.
pub(crate) fn assemble_and_enter(spec: &RootSpec<'_>) -> Result<(), Failure> {
    // Safety: this process has one thread.
    unsafe { libc::umask(0o022) };
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| format!("cannot make mounts private: {error}"))?;
    let mut root = Root { path: spec.over.to_path_buf(), exploded: Vec::new(), staged: 0 };
    tmpfs(&root.path, "mode=0755,size=64m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
        .map_err(|error| format!("cannot mount a tmpfs for the root: {error}"))?;
    root.system_folders()?;
    root.etc(spec.host_name)?;
    root.devices()?;
    root.proc(spec.privileged)?;
    for folder in ["run", "tmp", "var"] {
        make_folder(&root.path.join(folder), 0o755)?;
    }
    tmpfs(&root.path.join("run"), "mode=0755,size=16m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
        .map_err(|error| format!("cannot mount `/run`: {error}"))?;
    symlink("/tmp", root.path.join("var/tmp")).map_err(|error| format!("cannot make `/var/tmp`: {error}"))?;
    for entry in spec.mounts {
        root.mount(entry).map_err(|failure| format!("cannot mount `{}`: {failure}", entry.target()))?;
    }
    root.finish()?;
    enter(&root.path)
}

struct Root {
    path: PathBuf,
    /// Folders of read-only trees that were put on a tmpfs; read-only themselves at the end.
    exploded: Vec<PathBuf>,
    staged: usize,
}

impl Root {
    /// The place of an absolute path of the container while the root is not entered yet.
    fn inside(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    fn system_folders(&self) -> Result<(), Failure> {
        for folder in SYSTEM_FOLDERS {
            let host = Path::new(folder);
            let Ok(metadata) = fs::symlink_metadata(host) else { continue };
            let target = self.inside(folder);
            if metadata.is_symlink() {
                if let Some(parent) = target.parent() {
                    make_folders(parent)?;
                }
                let to = fs::read_link(host).map_err(|error| format!("cannot read `{folder}`: {error}"))?;
                symlink(to, &target).map_err(|error| format!("cannot link `{folder}`: {error}"))?;
            } else if metadata.is_dir() {
                make_folders(&target)?;
                bind(host, &target, true).map_err(|failure| format!("cannot mount `{folder}`: {failure}"))?;
            }
        }
        Ok(())
    }

    fn etc(&self, host_name: &str) -> Result<(), Failure> {
        let etc = self.inside("/etc");
        make_folder(&etc, 0o755)?;
        let mut names: Vec<String> = ETC_ENTRIES.iter().map(|name| name.to_string()).collect();
        for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                names.push(name);
            }
        }
        for name in names {
            self.etc_entry(&etc, &name)
                .map_err(|failure| format!("cannot mount `/etc/{name}`: {failure}"))?;
        }
        let mut hosts =
            fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1 localhost\n".to_string());
        if !hosts.ends_with('\n') {
            hosts.push('\n');
        }
        hosts.push_str(&format!("127.0.0.1 {host_name}\n"));
        write_file(&etc.join("hosts"), hosts.as_bytes(), 0o644)?;
        write_file(&etc.join("hostname"), format!("{host_name}\n").as_bytes(), 0o644)?;
        symlink("/proc/self/mounts", etc.join("mtab")).map_err(|error| error.to_string())
    }

    fn etc_entry(&self, etc: &Path, name: &str) -> Result<(), Failure> {
        let host = Path::new("/etc").join(name);
        let Ok(metadata) = fs::symlink_metadata(&host) else { return Ok(()) };
        let target = etc.join(name);
        if let Some(parent) = target.parent() {
            make_folders(parent)?;
        }
        if metadata.is_symlink() {
            let to = fs::read_link(&host).map_err(|error| error.to_string())?;
            let points_into_usr = to.starts_with("/usr") || to.starts_with("../usr");
            if points_into_usr {
                return symlink(to, &target).map_err(|error| error.to_string());
            }
        }
        // What cannot be read on the host (a dangling link, another user's file) is not there in the container.
        let Ok(source) = fs::canonicalize(&host) else { return Ok(()) };
        if source.is_dir() {
            make_folders(&target)?;
        } else if File::open(&source).is_ok() {
            write_file(&target, b"", 0o644)?;
        } else {
            return Ok(());
        }
        bind(&source, &target, true)
    }

    fn devices(&self) -> Result<(), Failure> {
        let dev = self.inside("/dev");
        make_folder(&dev, 0o755)?;
        let fail = |what: &str, error: &dyn std::fmt::Display| format!("cannot make `/dev/{what}`: {error}");
        tmpfs(&dev, "mode=0755,size=4m", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
            .map_err(|e| fail("", &e))?;
        for name in DEVICES {
            write_file(&dev.join(name), b"", 0o666)?;
            let source = Path::new("/dev").join(name);
            mount(Some(&source), &dev.join(name), None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|error| fail(name, &error))?;
        }
        make_folder(&dev.join("pts"), 0o755)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(
            Some("devpts"),
            &dev.join("pts"),
            Some("devpts"),
            flags,
            Some("newinstance,ptmxmode=0666,mode=0620"),
        )
        .map_err(|error| fail("pts", &error))?;
        make_folder(&dev.join("shm"), 0o777)?;
        tmpfs(&dev.join("shm"), "mode=1777,size=64m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
            .map_err(|error| fail("shm", &error))?;
        let links = [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ];
        for (name, to) in links {
            symlink(to, dev.join(name)).map_err(|error| fail(name, &error))?;
        }
        write_file(&dev.join("termination-log"), b"", 0o666)
    }

    fn proc(&self, privileged: bool) -> Result<(), Failure> {
        let proc = self.inside("/proc");
        make_folder(&proc, 0o555)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>)
            .map_err(|error| format!("cannot mount `/proc`: {error}"))?;
        if !privileged {
            return Ok(());
        }
        for name in PROC_READ_ONLY {
            let path = proc.join(name);
            if path.exists() {
                bind(&path, &path, true)
                    .map_err(|failure| format!("cannot protect `/proc/{name}`: {failure}"))?;
            }
        }
        for name in PROC_HIDDEN {
            let path = proc.join(name);
            if path.exists() {
                mount(Some("/dev/null"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                    .map_err(|error| format!("cannot hide `/proc/{name}`: {error}"))?;
            }
        }
        Ok(())
    }

    fn mount(&mut self, entry: &Mount) -> Result<(), Failure> {
        match entry {
            Mount::Bind { source, target, read_only } => {
                let metadata =
                    fs::metadata(source).map_err(|error| format!("`{}`: {error}", source.display()))?;
                let point = self.mount_point(target, metadata.is_dir())?;
                bind(source, &point, *read_only)
            }
            Mount::Memory { target, size_bytes } => {
                let point = self.mount_point(target, true)?;
                let options = match size_bytes {
                    Some(size) => format!("mode=0777,size={size}"),
                    None => "mode=0777".to_string(),
                };
                tmpfs(&point, &options, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
                    .map_err(|error| error.to_string())
            }
            Mount::Files { target, sub_path: None, files, .. } => {
                let point = self.mount_point(target, true)?;
                tmpfs(&point, "mode=0755,size=32m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
                    .map_err(|error| error.to_string())?;
                write_generation(&point, files)?;
                set_read_only(&point, false)
            }
            Mount::Files { target, sub_path: Some(sub_path), files, .. } => {
                self.mount_part(target, sub_path, files)
            }
        }
    }

    /// One file or folder of a volume in memory: filled aside, then only that part is bound.
    fn mount_part(&mut self, target: &str, sub_path: &str, files: &[FileEntry]) -> Result<(), Failure> {
        self.staged += 1;
        let stage = self.path.join(format!(".stage-{}", self.staged));
        make_folder(&stage, 0o700)?;
        tmpfs(&stage, "mode=0755,size=32m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
            .map_err(|error| error.to_string())?;
        write_tree(&stage, files)?;
        let source = stage.join(clean_relative(sub_path)?);
        let metadata =
            fs::symlink_metadata(&source).map_err(|error| format!("subPath `{sub_path}`: {error}"))?;
        let point = self.mount_point(target, metadata.is_dir())?;
        bind(&source, &point, true)?;
        umount2(&stage, MntFlags::MNT_DETACH).map_err(|error| error.to_string())?;
        fs::remove_dir(&stage).map_err(|error| error.to_string())
    }

    /// Makes sure that there is a file or folder to mount over, without following links out of the root.
    fn mount_point(&mut self, target: &str, folder: bool) -> Result<PathBuf, Failure> {
        let relative = clean_relative(target)?;
        if relative.as_os_str().is_empty() {
            return Err("the root itself cannot be replaced".to_string());
        }
        let names: Vec<_> = relative.components().collect();
        let mut path = self.path.clone();
        for (number, name) in names.iter().enumerate() {
            let parent = path.clone();
            path.push(name);
            let last = number + 1 == names.len();
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(format!("`{}` is a symbolic link", self.shown(&path)));
                }
                Ok(metadata) if last && metadata.is_dir() != folder => {
                    let (is, needed) = if folder { ("a file", "a folder") } else { ("a folder", "a file") };
                    return Err(format!("`{}` is {is}, the volume is {needed}", self.shown(&path)));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.create_point(&parent, &path, !last || folder)?;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(path)
    }

    fn create_point(&mut self, parent: &Path, path: &Path, folder: bool) -> Result<(), Failure> {
        match create(path, folder) {
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
                self.explode(parent)?;
                create(path, folder).map_err(|error| error.to_string())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }

    /// Puts a tmpfs over a read-only folder and binds the folder's entries into it, so that new ones can be added.
    fn explode(&mut self, folder: &Path) -> Result<(), Failure> {
        let shown = self.shown(folder);
        if SYSTEM_FOLDERS.iter().any(|system| shown == *system) || shown.starts_with("/usr/") {
            return Err(format!("`{shown}` belongs to the system and is read-only"));
        }
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(folder)
            .map_err(|error| format!("`{shown}`: {error}"))?;
        let covered = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let mut entries = Vec::new();
        for entry in fs::read_dir(&covered).map_err(|error| error.to_string())? {
            entries.push(entry.map_err(|error| error.to_string())?.file_name());
            if entries.len() > EXPLODED_ENTRIES_MAX {
                return Err(format!("`{shown}` has more than {EXPLODED_ENTRIES_MAX} entries"));
            }
        }
        tmpfs(folder, "mode=0755,size=8m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
            .map_err(|e| e.to_string())?;
        for name in entries {
            let (source, target) = (covered.join(&name), folder.join(&name));
            let metadata = fs::symlink_metadata(&source).map_err(|error| error.to_string())?;
            if metadata.is_symlink() {
                let to = fs::read_link(&source).map_err(|error| error.to_string())?;
                symlink(to, &target).map_err(|error| error.to_string())?;
            } else {
                create(&target, metadata.is_dir()).map_err(|error| error.to_string())?;
                bind(&source, &target, true)?;
            }
        }
        self.exploded.push(folder.to_path_buf());
        Ok(())
    }

    fn finish(&self) -> Result<(), Failure> {
        for folder in &self.exploded {
            set_read_only(folder, false)?;
        }
        set_read_only(&self.path, false)
    }

    fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(&self.path) {
            Ok(relative) => format!("/{}", relative.display()),
            Err(_) => path.display().to_string(),
        }
    }
}

/// Replaces the files of a volume in the mount namespace that this process is in.
pub(crate) fn replace_files(target: &str, files: &[FileEntry]) -> Result<(), Failure> {
    let point = PathBuf::from(target);
    let path = to_c(&point);
    sys::mount_setattr(&path, 0, libc::MOUNT_ATTR_RDONLY, false).map_err(|error| error.to_string())?;
    let written = write_generation(&point, files);
    set_read_only(&point, false)?;
    written
}

/// Writes the files into a new hidden folder and switches the link `..data` to it at once, as Kubernetes does.
fn write_generation(point: &Path, files: &[FileEntry]) -> Result<(), Failure> {
    let old = fs::read_link(point.join("..data")).ok();
    let number = old
        .as_ref()
        .and_then(|name| name.to_string_lossy().strip_prefix("..gen-").and_then(|n| n.parse::<u64>().ok()))
        .map_or(1, |number| number + 1);
    let generation = format!("..gen-{number}");
    let folder = point.join(&generation);
    make_folder(&folder, 0o755)?;
    write_tree(&folder, files)?;
    let fresh = point.join("..data_tmp");
    let _ = fs::remove_file(&fresh);
    symlink(&generation, &fresh).map_err(|error| error.to_string())?;
    fs::rename(&fresh, point.join("..data")).map_err(|error| error.to_string())?;
    let mut wanted = Vec::new();
    for file in files {
        let relative = clean_relative(&file.path)?;
        let Some(Component::Normal(first)) = relative.components().next() else { continue };
        if !wanted.contains(&first.to_os_string()) {
            wanted.push(first.to_os_string());
            let link = point.join(first);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(first), &link).map_err(|error| error.to_string())?;
            }
        }
    }
    for entry in fs::read_dir(point).map_err(|error| error.to_string())?.flatten() {
        let name = entry.file_name();
        if !name.as_bytes().starts_with(b"..") && !wanted.contains(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    if let Some(old) = old {
        let _ = fs::remove_dir_all(point.join(old));
    }
    Ok(())
}

fn write_tree(folder: &Path, files: &[FileEntry]) -> Result<(), Failure> {
    for file in files {
        let path = folder.join(clean_relative(&file.path)?);
        if let Some(parent) = path.parent() {
            make_folders(parent)?;
        }
        let content = base64::engine::general_purpose::STANDARD
            .decode(&file.data)
            .map_err(|_| format!("`{}` is not base64", file.path))?;
        write_file(&path, &content, file.mode)?;
    }
    Ok(())
}

/// A path without its leading `/`, refused if it could leave the folder it is joined to.
fn clean_relative(path: &str) -> Result<PathBuf, Failure> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(format!("`{path}` has `..` in it")),
        }
    }
    Ok(clean)
}

fn enter(root: &Path) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot enter the root: {error}");
    std::env::set_current_dir(root).map_err(|error| fail(&error))?;
    // The old root lands under the new one at the same place and is then taken away.
    nix::unistd::pivot_root(".", ".").map_err(|error| fail(&error))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(|error| fail(&error))?;
    std::env::set_current_dir("/").map_err(|error| fail(&error))
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Result<(), Failure> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| error.to_string())?;
    let mut set = libc::MOUNT_ATTR_NOSUID;
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::mount_setattr(&to_c(target), set, 0, true).map_err(|error| explain_setattr(&error))
}

fn set_read_only(path: &Path, recursive: bool) -> Result<(), Failure> {
    sys::mount_setattr(&to_c(path), libc::MOUNT_ATTR_RDONLY, 0, recursive)
        .map_err(|error| explain_setattr(&error))
}

fn explain_setattr(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no mount_setattr, Linux 5.12 or newer is needed".to_string(),
        _ => format!("cannot make it read-only: {error}"),
    }
}

fn tmpfs(target: &Path, options: &str, flags: MsFlags) -> nix::Result<()> {
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
}

fn create(path: &Path, folder: bool) -> io::Result<()> {
    if folder {
        fs::create_dir(path)
    } else {
        OpenOptions::new().write(true).create_new(true).open(path).map(drop)
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| format!("cannot make folder `{}`: {error}", path.display()))
}

fn make_folders(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| format!("cannot make folder `{}`: {error}", path.display()))
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

fn to_c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("paths of mounts were checked to hold no zero byte")
}
