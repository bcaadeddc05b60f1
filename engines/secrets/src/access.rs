//! Who may read a Secret: `readers` as a Role for that one name, and its binding.

use dodai_api::EncryptedSecret;
use dodai_kit::plan::controller_reference;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

/// The Role and the RoleBinding of an object's readers.
pub(crate) fn readers(object: &EncryptedSecret, name: &str) -> (Role, RoleBinding) {
    let namespace = object.namespace();
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.clone(),
        owner_references: Some(vec![controller_reference(object)]),
        ..ObjectMeta::default()
    };
    let role = Role {
        metadata: metadata.clone(),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["secrets".to_owned()]),
            resource_names: Some(vec![object.name_any()]),
            // `list` and `watch` with a field selector of this one name.
            verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
            ..PolicyRule::default()
        }]),
    };
    let mut accounts: Vec<&str> =
        object.spec.readers.iter().map(|reader| reader.service_account.as_str()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let subjects = accounts.into_iter().map(|account| Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: namespace.clone(),
        ..Subject::default()
    });
    let binding = RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: name.to_owned(),
        },
        subjects: Some(subjects.collect()),
    };
    (role, binding)
}
