//! Mistakes that a simulation must find: each invariant is shown to be able to fail by one that breaks it.

/// Makes `pub enum Bug` with these mistakes, `plant` for tests, and `is` for the places where a mistake is made.
///
/// All is compiled only with the feature `planted-bugs` of the crate that says this, which its own tests switch on; without
/// it `is` is a constant `false`. A mistake is planted for what runs on one thread, as a run of a simulation does.
///
/// ```
/// mod planted {
///     dodai_kit::planted_bugs! {
///         /// It does not wait.
///         DoesNotWait,
///     }
/// }
/// ```
#[macro_export]
macro_rules! planted_bugs {
    ($($(#[$about:meta])* $bug:ident,)+) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$about])* $bug,)+
        }

        #[cfg(feature = "planted-bugs")]
        ::std::thread_local! {
            static PLANTED: ::std::cell::Cell<Option<Bug>> = const { ::std::cell::Cell::new(None) };
        }

        /// Plants a mistake for what runs on this thread, or takes it away.
        #[cfg(feature = "planted-bugs")]
        pub fn plant(bug: Option<Bug>) {
            PLANTED.set(bug);
        }

        #[cfg(feature = "planted-bugs")]
        pub(crate) fn is(bug: Bug) -> bool {
            PLANTED.get() == Some(bug)
        }

        /// Nothing is planted in what people run.
        #[cfg(not(feature = "planted-bugs"))]
        pub(crate) const fn is(_: Bug) -> bool {
            false
        }
    };
}
