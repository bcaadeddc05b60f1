//! The admission policy for Pods: a Secret whose EncryptedSecret names `readers` can be mounted or referenced only by Pods of
//! those ServiceAccounts. The same objects work on the embedded cluster and on any other (Kubernetes 1.30 and later).
//!
//! An EncryptedSecret without `readers` restricts nothing. A parameter is every EncryptedSecret of the Pod's namespace.

use serde_json::{Value, json};

/// Name of the policy and of its binding.
pub const NAME: &str = "secret-readers.dodai.dev";

/// The ValidatingAdmissionPolicy and its binding.
pub fn objects() -> Vec<Value> {
    let account = "has(object.spec.serviceAccountName) && object.spec.serviceAccountName != '' ? object.spec.serviceAccountName : 'default'";
    // Every way in which a Pod names a Secret of its namespace.
    let volumes = "(has(object.spec.volumes) ? object.spec.volumes : [])";
    let containers = "((has(object.spec.containers) ? object.spec.containers : []) + \
                      (has(object.spec.initContainers) ? object.spec.initContainers : []))";
    let mounted = format!(
        "{volumes}.exists(v, (has(v.secret) && has(v.secret.secretName) && v.secret.secretName == params.metadata.name) || \
         (has(v.projected) && has(v.projected.sources) && v.projected.sources.exists(s, \
         has(s.secret) && has(s.secret.name) && s.secret.name == params.metadata.name)) || \
         (has(v.csi) && has(v.csi.nodePublishSecretRef) && v.csi.nodePublishSecretRef.name == params.metadata.name))"
    );
    let in_environment = |containers: &str| {
        format!(
            "{containers}.exists(c, (has(c.env) && c.env.exists(e, has(e.valueFrom) && has(e.valueFrom.secretKeyRef) && \
             e.valueFrom.secretKeyRef.name == params.metadata.name)) || (has(c.envFrom) && c.envFrom.exists(e, \
             has(e.secretRef) && e.secretRef.name == params.metadata.name)))"
        )
    };
    let pulled = "(has(object.spec.imagePullSecrets) && object.spec.imagePullSecrets.exists(s, has(s.name) && s.name == params.metadata.name))";
    let ephemeral = "(has(object.spec.ephemeralContainers) ? object.spec.ephemeralContainers : [])";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "paramKind": {"apiVersion": "dodai.dev/v1alpha1", "kind": "EncryptedSecret"},
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["pods", "pods/ephemeralcontainers"],
            }]},
            "variables": [
                {"name": "account", "expression": account},
                {"name": "names", "expression": format!(
                    "{mounted} || {} || {} || {pulled}", in_environment(containers), in_environment(ephemeral))},
            ],
            "validations": [{
                "expression": "!has(params.spec.readers) || size(params.spec.readers) == 0 || !variables.names || \
                               params.spec.readers.exists(r, r.serviceAccount == variables.account)",
                "messageExpression": "'ServiceAccount ' + variables.account + ' is not a reader of Secret ' + params.metadata.name",
                "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {
            "policyName": NAME,
            "validationActions": ["Deny"],
            // Without a namespace: those of the Pod's.
            "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"},
        },
    });
    vec![policy, binding]
}
