//! The kinds that are played with: where they live, and a valid object of each to start from.

use serde_json::{Value, json};

pub struct Kind {
    pub kind: &'static str,
    /// Group and version as in a URL: `api/v1`, `apis/apps/v1`.
    pub prefix: &'static str,
    pub plural: &'static str,
    pub status: bool,
    pub scale: bool,
    /// Custom resources know no strategic merge patch, and want a resourceVersion with PUT.
    pub custom: bool,
    pub base: fn() -> Value,
}

impl Kind {
    pub fn api_version(&self) -> &'static str {
        self.prefix.trim_start_matches("apis/").trim_start_matches("api/")
    }
}

const fn kind(
    kind: &'static str,
    prefix: &'static str,
    plural: &'static str,
    status: bool,
    base: fn() -> Value,
) -> Kind {
    Kind { kind, prefix, plural, status, scale: false, custom: false, base }
}

const fn scaled(mut kind: Kind) -> Kind {
    kind.scale = true;
    kind
}

const fn custom(mut kind: Kind) -> Kind {
    kind.custom = true;
    kind
}

pub static KINDS: &[Kind] = &[
    kind("ConfigMap", "api/v1", "configmaps", false, config_map),
    kind("Secret", "api/v1", "secrets", false, secret),
    kind("Service", "api/v1", "services", true, service),
    kind("ServiceAccount", "api/v1", "serviceaccounts", false, service_account),
    kind("Pod", "api/v1", "pods", true, pod),
    kind("PersistentVolumeClaim", "api/v1", "persistentvolumeclaims", true, claim),
    kind("LimitRange", "api/v1", "limitranges", false, limit_range),
    scaled(kind("Deployment", "apis/apps/v1", "deployments", true, deployment)),
    scaled(kind("ReplicaSet", "apis/apps/v1", "replicasets", true, replica_set)),
    scaled(kind("StatefulSet", "apis/apps/v1", "statefulsets", true, stateful_set)),
    kind("DaemonSet", "apis/apps/v1", "daemonsets", true, daemon_set),
    kind("Job", "apis/batch/v1", "jobs", true, job),
    kind("CronJob", "apis/batch/v1", "cronjobs", true, cron_job),
    kind("Ingress", "apis/networking.k8s.io/v1", "ingresses", true, ingress),
    kind("NetworkPolicy", "apis/networking.k8s.io/v1", "networkpolicies", false, network_policy),
    kind("Role", "apis/rbac.authorization.k8s.io/v1", "roles", false, role),
    kind("RoleBinding", "apis/rbac.authorization.k8s.io/v1", "rolebindings", false, role_binding),
    kind("PodDisruptionBudget", "apis/policy/v1", "poddisruptionbudgets", true, budget),
    kind("HorizontalPodAutoscaler", "apis/autoscaling/v2", "horizontalpodautoscalers", true, autoscaler),
    kind("Lease", "apis/coordination.k8s.io/v1", "leases", false, lease),
    kind("EndpointSlice", "apis/discovery.k8s.io/v1", "endpointslices", false, endpoint_slice),
    scaled(custom(kind("Widget", "apis/differential.dodai.dev/v1", "widgets", true, widget))),
];

/// What a namespace needs before the kinds can be created in it.
pub fn preparation() -> Vec<(&'static str, Value)> {
    vec![(
        "serviceaccounts",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}, "automountServiceAccountToken": false}),
    )]
}

fn config_map() -> Value {
    json!({"data": {"color": "red", "size": "12"}, "binaryData": {"blob": "AAEC"}})
}

fn secret() -> Value {
    json!({"type": "Opaque", "data": {"password": "c2VjcmV0"}, "stringData": {"user": "anna"}})
}

fn service() -> Value {
    json!({"spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}})
}

fn service_account() -> Value {
    json!({"automountServiceAccountToken": true, "imagePullSecrets": [{"name": "registry"}]})
}

fn pod_spec() -> Value {
    json!({
        "containers": [
            {"name": "web", "image": "example.com/web:1", "ports": [{"containerPort": 8080, "name": "http"}],
             "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
             "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
             "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
             "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}]},
            {"name": "side", "image": "example.com/side", "command": ["run"], "securityContext": {"runAsNonRoot": true}}],
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings", "optional": true}}],
        "tolerations": [{"key": "a", "operator": "Exists"}]
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()})
}

fn pod() -> Value {
    json!({"spec": pod_spec()})
}

fn claim() -> Value {
    json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "local"}})
}

fn limit_range() -> Value {
    json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "900Gi"}, "min": {"storage": "1"}}]}})
}

fn deployment() -> Value {
    json!({"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template(),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}}})
}

fn replica_set() -> Value {
    json!({"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template()}})
}

fn stateful_set() -> Value {
    json!({"spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, "template": template(),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim()["spec"]}]}})
}

fn daemon_set() -> Value {
    json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()}})
}

fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("Never");
    template
}

fn job() -> Value {
    json!({"spec": {"backoffLimit": 2, "completions": 3, "parallelism": 2, "template": job_template()}})
}

fn cron_job() -> Value {
    json!({"spec": {"schedule": "*/5 * * * *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": {"template": job_template()}}}})
}

fn ingress() -> Value {
    json!({"spec": {"ingressClassName": "dodai", "tls": [{"hosts": ["a.example.com"], "secretName": "tls"}],
        "rules": [{"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
}

fn network_policy() -> Value {
    json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}}], "ports": [{"port": 80}]}]}})
}

fn role() -> Value {
    json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"], "resourceNames": ["a"]}]})
}

fn role_binding() -> Value {
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default"}, {"kind": "User", "name": "anna", "apiGroup": "rbac.authorization.k8s.io"}]})
}

fn budget() -> Value {
    json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}})
}

fn autoscaler() -> Value {
    json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}})
}

fn lease() -> Value {
    json!({"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0}})
}

fn endpoint_slice() -> Value {
    json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true}}]})
}

fn widget() -> Value {
    json!({"spec": {"size": 3, "color": "red", "port": "http", "tags": ["a", "b"], "parts": [{"name": "wheel", "count": 2}],
        "settings": {"a": "1"}, "free": {"x": {"y": [1, 2]}}}})
}

/// The definition of Widget: one of each thing that a schema can ask for.
pub fn definition() -> Value {
    dodai_yaml::from_str_json(include_str!("widget.yaml")).expect("the file beside this one is YAML")
}
