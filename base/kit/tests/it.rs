//! Controllers of every kind of misbehaviour on the in-process API server.

mod it {
    mod supervise;
}
