//! Tests of the crate as others use it.

mod it {
    mod age_vectors;
    mod credentials;
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
    mod sops;
    mod support;
}
