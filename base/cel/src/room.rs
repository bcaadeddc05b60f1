//! Room on the stack: deep expressions are walked on a thread with a large stack, so that any caller's will do.

use std::thread::{Builder, scope};

/// Stack of the thread, in bytes; deeper expressions than `DEPTH_MAX` do not come here.
const STACK_SIZE: usize = 64 << 20;

/// Runs `work`, on a thread of its own if `deep`; `None` if there can be no thread.
pub(crate) fn with_room<T: Send>(deep: bool, work: impl FnOnce() -> T + Send) -> Option<T> {
    if !deep {
        return Some(work());
    }
    scope(|scope| {
        let thread = Builder::new().stack_size(STACK_SIZE).spawn_scoped(scope, work).ok()?;
        match thread.join() {
            Ok(result) => Some(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
