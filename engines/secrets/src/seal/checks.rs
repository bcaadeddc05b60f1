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
    static OFF: std::cell::Cell<Option<Check>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn on(check: Check) -> bool {
    OFF.get() != Some(check)
}

/// Runs `attack` without one check.
#[cfg(test)]
pub(crate) fn without<T>(check: Check, attack: impl FnOnce() -> T) -> T {
    OFF.set(Some(check));
    let result = attack();
    OFF.set(None);
    result
}
