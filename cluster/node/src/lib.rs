//! Runs workloads on one machine: what kubelet and kube-proxy are in a cluster.
//!
//! [`Node`] is all of it. `kubelet` decides what each Pod needs (a pure plan) and does it through a [`runtime`];
//! the first one runs host processes, each Pod under a [`supervisor`] process that outlives dodai. `images` is the
//! store of what builds leave, `forwarder` answers Services, `kubelet_api` serves logs and exec in-process, `doctor`
//! says whether this machine allows all that. [`controllers`] are the workload controllers and the scheduler; they and
//! the node meet only in objects.
//!
//! Deliberately absent: pulling OCI images, an address per Pod, limits of CPU and memory, port-forward and attach.

pub mod controllers;
pub mod doctor;
mod error;
pub mod forwarder;
pub mod images;
pub mod interpreters;
mod kubelet;
mod kubelet_api;
pub mod logs;
mod node;
pub mod runtime;
mod spdy;
pub mod supervisor;

pub use error::Error;
pub use kubelet::build::BuildSettings;
pub use kubelet_api::{Body, KubeletService};
pub use node::{Node, NodeConfig, PinnedImages, SUPERVISOR_ARGUMENT};
pub use supervisor::supervisor_main;
