//! The CRDs of our own kinds and of the upstream kinds that our engines stand in for, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{App, EncryptedSecret, Release, SealedSecret, SopsSecret};

/// All CRDs, in the order in which they are installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![App::crd(), Release::crd(), EncryptedSecret::crd(), SopsSecret::crd(), SealedSecret::crd()]
}
