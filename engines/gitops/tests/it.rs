//! Tests of the renderer.

mod it {
    mod suites;
    mod support;
}
