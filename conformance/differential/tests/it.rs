//! What the real server was asked and said, replayed against ours, without the real one.

mod it {
    mod cases;
}
