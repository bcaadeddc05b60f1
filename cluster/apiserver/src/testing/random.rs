//! Randomness of a thread from a seed, so that a run can be had again.
//!
//! `HashMap`, uuids and keys take theirs from the C function `getrandom`. A test binary that defines it with
//! [`seeded_getrandom!`](crate::seeded_getrandom) gets the same bytes on every thread that was given the same seed;
//! other threads get the machine's. Left out: systems other than Linux.

use std::cell::Cell;
use std::hash::BuildHasher;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Seeds what this thread draws from now on: `getrandom`, where the binary defines it, and `fastrand`.
///
/// A `HashMap` made earlier on this thread has already drawn: seed a thread before anything else.
pub fn seed_thread(seed: u64) {
    STATE.set(Some(seed));
    fastrand::seed(seed);
}

/// Whether this binary's `getrandom` follows [`seed_thread`].
pub fn is_seedable() -> bool {
    let draw = || {
        let thread = std::thread::spawn(|| {
            seed_thread(1);
            std::hash::RandomState::new().hash_one(1)
        });
        thread.join().ok()
    };
    draw() == draw()
}

/// The next number of this thread's seed (splitmix64).
fn next() -> Option<u64> {
    let state = STATE.try_with(Cell::get).ok()??.wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(mixed ^ (mixed >> 31))
}

/// What [`seeded_getrandom!`](crate::seeded_getrandom) calls.
///
/// # Safety
/// As for `getrandom(2)`: `len` bytes at `buffer` may be written.
#[doc(hidden)]
pub unsafe fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
    let mut at = 0;
    while at < len {
        let Some(number) = next() else {
            // SAFETY: the caller's promise is the kernel's condition.
            return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as isize };
        };
        for byte in number.to_le_bytes().into_iter().take(len - at) {
            // SAFETY: `at < len`, and the caller gave `len` bytes.
            unsafe { buffer.add(at).write(byte) };
            at += 1;
        }
    }
    len as isize
}

/// Defines the C function `getrandom` for a test binary, so that threads can be seeded. Once per binary, Linux only.
///
/// ```
/// dodai_apiserver::seeded_getrandom!();
///
/// # fn main() {
/// assert!(dodai_apiserver::testing::random::is_seedable());
/// # }
/// ```
#[macro_export]
macro_rules! seeded_getrandom {
    () => {
        /// As the C library's, but from the thread's seed if it has one.
        ///
        /// # Safety
        /// As for `getrandom(2)`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
            // SAFETY: handed on to whoever calls this.
            unsafe { $crate::testing::random::getrandom(buffer, len, flags) }
        }
    };
}
