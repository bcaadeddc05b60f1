//! The Pod supervisor as a program of its own, for the tests of this crate. In dodai the one binary re-executes
//! itself instead; both only call `supervisor_main`.

fn main() {
    dodai_node::supervisor_main(std::env::args_os().collect())
}
