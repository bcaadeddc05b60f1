//! All integration tests of the crate, one binary.

mod it {
    mod bounds;
    mod corpus;
    mod kubernetes;
    mod random;
    mod reading;
    mod showing;
    mod splicing;
    mod writing;
}
