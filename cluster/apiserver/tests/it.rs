//! Tests of the API server through `kube::Client`, in process and over HTTPS.

mod it {
    mod admission;
    mod basics;
    mod collection;
    mod crds;
    mod definitions;
    mod disk;
    mod facts;
    mod hostile;
    mod kubectl;
    mod kubelet;
    mod limits;
    mod policies;
    mod rbac;
    mod store;
    mod testing;
    mod transcripts;
    mod watching;
    mod webhooks;
}
