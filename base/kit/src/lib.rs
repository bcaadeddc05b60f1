//! How a controller runs.
//!
//! A controller is three steps: `observe` reads the caches, `plan` decides (synchronous, total, no clock, no client), and
//! [`execute`] acts, the same code for every controller. What a controller may look at is its `World`; what it wants is
//! its [`Plan`]. So plans are tested as data ([`cases`]), and the rules that must never be forgotten live in one place:
//! every delete carries the uid that was seen, every read-modify-write its resourceVersion, every status is written only
//! when it says something new, every failure backs off.
//!
//! Read in this order: [`plan`], [`controller`], [`execute`], [`view`], [`cache`].
//!
//! Deliberately absent: effects outside the Kubernetes API (what knows of them stands in [`outside`]), leader election,
//! anything that knows a particular kind.

pub mod cache;
pub mod cases;
pub mod clock;
pub mod controller;
pub mod covers;
pub mod error;
pub mod execute;
pub mod health;
pub mod metrics;
pub mod outside;
pub mod owned;
pub mod plan;
pub mod planted;
pub mod queue;
pub mod supervise;
pub mod view;

pub use cache::{Caches, Key, Kind};
pub use clock::Clock;
pub use controller::{Context, Controller, Engine, Watches, run};
pub use covers::covers;
pub use error::{Error, chain};
pub use health::Health;
pub use outside::Outside;
pub use owned::Owned;
pub use plan::{Action, Object, Plan, Target};
pub use supervise::Supervisor;
pub use view::{Objects, View};
