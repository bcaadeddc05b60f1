//! The workload controllers: plan cases as data, seeded simulations, and the controllers on the in-process API server.

// A third of a simulation's time is memory that comes and goes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod controllers {
    mod cases;
    mod jobs;
    mod live;
    mod planted;
    mod roll_outs;
    mod services;
    mod sim;
    mod transcripts;
    mod workloads;
    mod world;
}
