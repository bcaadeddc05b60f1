//! Tests of the API server through `kube::Client`, in process and over HTTPS.

mod it {
    mod admission;
    mod basics;
    mod collection;
    mod crash;
    mod crds;
    mod damage;
    mod definitions;
    mod disk;
    mod facts;
    mod format;
    mod history;
    mod hostile;
    mod kubectl;
    mod kubelet;
    mod limits;
    mod linearizable;
    mod metrics;
    mod policies;
    mod rbac;
    mod sealed;
    mod settled;
    mod sim_disk;
    mod store;
    mod testing;
    mod transcripts;
    mod watching;
    mod webhooks;
}
