//! Tests of the API server through `kube::Client`, in process and over HTTPS.

mod it {
    mod basics;
}
