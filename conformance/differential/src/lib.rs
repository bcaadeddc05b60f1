//! Differential test of dodai's API server: the same seeded random requests go to a real kube-apiserver and to ours; status, body and
//! watch events are compared, and a difference is made small and becomes a case that is replayed without the real one.

pub mod case;
pub mod generate;
pub mod kinds;
pub mod mutate;
pub mod normal;
pub mod op;
pub mod play;
pub mod probe;
pub mod schema;
pub mod server;
pub mod shrink;
