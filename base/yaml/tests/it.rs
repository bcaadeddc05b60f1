//! All integration tests of the crate, one binary.

mod it {
    mod kubernetes;
    mod reading;
}
