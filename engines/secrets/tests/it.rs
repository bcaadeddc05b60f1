//! Tests of the crate as others use it.

mod it {
    mod files;
    mod live;
    mod plans;
    mod random_files;
    mod support;
}
