//! Which checks are on. Outside this crate's unit tests: all, and the compiler knows it.
//!
//! The attack tests switch one check off at a time and show that the attack then succeeds, so that no check can be lost
//! unseen and none is there for show.

/// One thing that is checked or bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    BindNamespace,
    BindName,
    BindKey,
    BindType,
    BindScope,
    BindKeyId,
    Commitment,
    RecipientsMac,
    KmsContext,
    LengthPrefix,
    Tag,
    NewDataKey,
    OldKeysGo,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_check: Check) -> bool {
    true
}

#[cfg(test)]
thread_local! {
    /// A bit for each check that is off.
    static OFF: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
pub(crate) fn on(check: Check) -> bool {
    OFF.get() & (1 << check as u32) == 0
}

/// Runs `attack` without one check, and those that are off already.
#[cfg(test)]
pub(crate) fn without<T>(check: Check, attack: impl FnOnce() -> T) -> T {
    let before = OFF.get();
    OFF.set(before | 1 << check as u32);
    let result = attack();
    OFF.set(before);
    result
}
