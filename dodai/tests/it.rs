//! Tests of the whole: the architecture's rules, the command line, and the real binary with a real project, real kubectl
//! and real signals.

#[path = "it/bad_input.rs"]
mod bad_input;
#[path = "it/build.rs"]
mod build;
#[path = "it/conversation.rs"]
mod conversation;
#[path = "it/http.rs"]
mod http;
#[path = "it/kills.rs"]
mod kills;
#[path = "it/kubectl.rs"]
mod kubectl;
#[path = "it/limits.rs"]
mod limits;
#[path = "it/mini.rs"]
mod mini;
#[path = "it/releases.rs"]
mod releases;
#[path = "it/roll_outs.rs"]
mod roll_outs;
#[path = "it/secret_more.rs"]
mod secret_more;
#[path = "it/secrets.rs"]
mod secrets;
#[path = "it/shop.rs"]
mod shop;
#[path = "it/streams.rs"]
mod streams;
#[path = "it/support.rs"]
mod support;
#[path = "it/tidy.rs"]
mod tidy;
#[path = "it/verbs.rs"]
mod verbs;
