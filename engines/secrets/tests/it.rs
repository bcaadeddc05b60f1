//! Tests of the crate as others use it.

// A third of a simulation's time is memory that comes and goes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod it {
    mod age_vectors;
    mod credentials;
    mod faults;
    mod files;
    mod hostile;
    mod kms;
    mod kms_states;
    mod live;
    mod moto;
    mod others;
    mod plans;
    mod policy;
    mod random_files;
    mod scenario;
    mod sops;
    mod support;
}
