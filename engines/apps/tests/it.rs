//! Tests of the engine: plan cases as data, and a simulation of its two controllers in a world of objects.

#[path = "it/cluster.rs"]
mod cluster;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/scenario.rs"]
mod scenario;
#[path = "it/sim.rs"]
mod sim;
#[path = "it/world.rs"]
mod world;

use std::path::Path;

// A third of a simulation's time is memory that comes and goes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn plans_of_apps() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan/app");
    assert!(dodai_kit::cases::run::<dodai_apps::app::AppController>(&folder) > 0);
}

#[test]
fn plans_of_releases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan/release");
    assert!(dodai_kit::cases::run::<dodai_apps::release::ReleaseController>(&folder) > 0);
}
