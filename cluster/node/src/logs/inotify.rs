//! Waits for a change in a folder without looking again and again.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Changes of the files in a folder.
pub(crate) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    pub(crate) fn of(folder: &Path) -> io::Result<Changes> {
        let path = CString::new(folder.as_os_str().as_bytes())?;
        // Safety: plain system calls; the descriptor is owned by what is made of it at once.
        let fd = unsafe {
            let fd = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mask = libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVED_TO;
        // Safety: the path lives over the call.
        if unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), mask) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // Safety: the descriptor is owned by the value that is registered with it, and is closed only with it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Changes(fd.map_err(io::Error::from)?))
    }

    /// Waits until something changed since the last call. What changed is for the caller to see.
    pub(crate) async fn next(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|fd| nix::unistd::read(fd.get_ref(), &mut buffer).map_err(io::Error::from)) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
