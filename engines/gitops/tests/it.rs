//! Tests of the renderer.

mod it {
    mod git;
    mod hostile;
    mod lint;
    mod reads;
    mod suites;
    mod support;
    mod values;
}
