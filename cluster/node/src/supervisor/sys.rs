//! The system calls that nix does not wrap. All `unsafe` of the supervisor is here and in the two forks.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Forks into new namespaces. `None` in the child, which is the first process of its PID namespace.
///
/// # Safety
/// The process must have one thread, and the child must not return into code that expects its parent.
pub(crate) unsafe fn fork_into(namespaces: libc::c_int) -> io::Result<Option<libc::pid_t>> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // Safety: as fork(2), since no stack is given; the caller vouches for the single thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid as libc::pid_t)),
    }
}

/// The namespaces of a container.
pub(crate) fn container_namespaces(user_namespace: bool) -> libc::c_int {
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if user_namespace { own | libc::CLONE_NEWUSER } else { own }
}

/// Sets and clears attributes of the mount at `path`, and of all mounts below it if `recursive`.
pub(crate) fn mount_setattr(path: &CString, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // Safety: both pointers live over the call and the size is that of the struct.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from 3 on that is not in `keep`.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<libc::c_uint> =
        keep.iter().filter(|fd| **fd > 2).map(|fd| *fd as libc::c_uint).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().chain([libc::c_uint::MAX]) {
        if first < fd {
            // Safety: nothing in this process uses the descriptors after this; it forked for that.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd.saturating_add(1);
    }
}

/// Makes the descriptor survive exec, as number `target`.
pub(crate) fn dup_to(fd: RawFd, target: RawFd) -> io::Result<()> {
    // Safety: plain system call on numbers.
    let result =
        unsafe { if fd == target { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, target) } };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A pipe whose ends are closed on exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from)
}

/// A pseudo-terminal whose ends are closed on exec: the one to hold, and the one for a command.
pub(crate) fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = nix::pty::posix_openpt(flags)?;
    nix::pty::unlockpt(&master)?;
    let name = nix::pty::ptsname_r(&master)?;
    let slave = open(name.as_str(), flags, nix::sys::stat::Mode::empty())?;
    // Safety: the descriptor was just opened and nobody else owns it.
    let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
    Ok((master, slave))
}

/// Sets columns and rows of a terminal; one that is gone needs no size.
pub(crate) fn resize(terminal: RawFd, columns: u16, rows: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // Safety: the pointer lives over the call.
    unsafe { libc::ioctl(terminal, libc::TIOCSWINSZ, &size) };
}

pub(crate) fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // Safety: plain system calls on a descriptor that the caller owns.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Kills this process when its parent dies. Cleared by the kernel whenever credentials change: call it after.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // Safety: plain system call.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })
}

pub(crate) fn no_new_privileges() -> io::Result<()> {
    // Safety: plain system call.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Capabilities that the first user of a container keeps, by number: those that package installers and servers
/// need within their own files (chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, sys_chroot, setfcap). No mknod, no raw network, no administration.
const CAPABILITIES_KEPT: &[libc::c_ulong] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31];
const CAPABILITY_NUMBER_MAX: libc::c_ulong = 63;

/// Gives up, for this process and all it will execute, every capability that is not kept.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // Safety: plain system calls.
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        for capability in 0..=CAPABILITY_NUMBER_MAX {
            if CAPABILITIES_KEPT.contains(&capability) {
                continue;
            }
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINVAL) => return Ok(()), // Past the last one that this kernel knows.
                    Some(libc::EPERM) if libc::geteuid() != 0 => return Ok(()), // None to lose at exec.
                    _ => return Err(error),
                }
            }
        }
    }
    Ok(())
}

/// Whether this process may create namespaces without a user namespace.
pub(crate) fn has_sys_admin() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    bits & (1 << CAP_SYS_ADMIN) != 0
}

/// Undoes what the supervisor set for itself: every signal has its default again and none is blocked.
pub(crate) fn reset_signals() {
    // Safety: plain system calls; the sets are initialised by sigemptyset.
    unsafe {
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Sends `line` with file descriptors attached to its first byte, waiting until all is sent.
pub(crate) fn send_with_fds(socket: RawFd, line: &[u8], fds: &[RawFd]) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let control = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &control };
    let sent = sendmsg::<()>(socket, &[io::IoSlice::new(line)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut rest = &line[sent..];
    while !rest.is_empty() {
        // Safety: the descriptor is open for the whole call.
        let borrowed = unsafe { BorrowedFd::borrow_raw(socket) };
        let sent = nix::unistd::write(borrowed, rest)?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// Reads up to `buffer.len()` bytes and the file descriptors that came with them.
pub(crate) fn receive_with_fds(socket: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // Safety: the kernel just made these for us.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends a process that was just forked, without running what belongs to the one it was forked from.
pub(crate) fn exit_now() -> ! {
    // Safety: plain system call.
    unsafe { libc::_exit(1) }
}
