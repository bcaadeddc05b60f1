//! OpenAPI definitions of built-in kinds, from k8s-openapi's `schemars` feature, joined with the fact tables.
//!
//! Made when first needed: the whole of it would cost a start hundreds of milliseconds.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

const FIELDS: &str = include_str!("../../data/fields.tsv");
const REF: &str = "#/components/schemas/";

/// Types of a CRD's schema that hold any JSON; Kubernetes publishes them without a type, k8s-openapi as objects.
const ANY_JSON: [&str; 4] =
    [".JSON", ".JSONSchemaPropsOrArray", ".JSONSchemaPropsOrBool", ".JSONSchemaPropsOrStringArray"];

/// Definitions by name, with references in the form of OpenAPI v3.
pub(crate) type Definitions = BTreeMap<String, Value>;

/// The definition of a type and of everything that it refers to; empty for an unknown name.
pub(crate) fn definitions<'a>(names: impl IntoIterator<Item = &'a str>) -> Definitions {
    let settings = SchemaSettings::openapi3().with(|settings| settings.transforms.clear());
    let mut generator = settings.into_generator();
    for name in names {
        request(&mut generator, name);
    }
    let mut definitions = Definitions::new();
    for (name, mut definition) in generator.take_definitions(false) {
        rewrite(&mut definition);
        if ANY_JSON.iter().any(|suffix| name.ends_with(suffix))
            && let Value::Object(definition) = &mut definition
        {
            definition.remove("type");
            definition.remove("oneOf");
        }
        join_facts(&name, &mut definition);
        definitions.insert(name, definition);
    }
    definitions
}

/// Schemars adds what OpenAPI of Kubernetes does not have; a `$ref` with siblings becomes a one-element `allOf`.
fn rewrite(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let described = map.contains_key("$ref") && map.len() > 1;
            if described && let Some(reference) = map.remove("$ref") {
                map.insert("allOf".into(), json!([{ "$ref": reference }]));
            }
            for (key, child) in map.iter_mut() {
                match child {
                    // Names of members, which may be called as a keyword is: a CRD's schema has members `$ref` and `allOf`.
                    Value::Object(members) if key == "properties" => members.values_mut().for_each(rewrite),
                    child => rewrite(child),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        _ => {}
    }
}

/// The facts of one type: path -> facts.
pub(crate) fn facts(name: &str) -> Option<&'static Map<String, Value>> {
    static TABLE: LazyLock<BTreeMap<&'static str, &'static str>> =
        LazyLock::new(|| FIELDS.lines().filter_map(|line| line.split_once('\t')).collect());
    static PARSED: LazyLock<std::sync::Mutex<BTreeMap<String, &'static Map<String, Value>>>> =
        LazyLock::new(Default::default);
    let text = TABLE.get(name)?;
    let mut parsed = PARSED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(found) = parsed.get(name) {
        return Some(found);
    }
    // Parsed once per type and kept for the life of the process.
    let map: Map<String, Value> = serde_json::from_str(text).expect("the table of fields is sound");
    let leaked: &'static Map<String, Value> = Box::leak(Box::new(map));
    parsed.insert(name.to_owned(), leaked);
    Some(leaked)
}

fn join_facts(name: &str, definition: &mut Value) {
    for (path, facts) in facts(name).into_iter().flatten() {
        let target = match path.as_str() {
            "" => Some(&mut *definition),
            path => match path.strip_suffix("[]").or_else(|| path.strip_suffix("{}")) {
                Some(field) => {
                    let inner = if path.ends_with("[]") { "items" } else { "additionalProperties" };
                    definition.pointer_mut(&format!("/properties/{field}/{inner}"))
                }
                None => definition.get_mut("properties").and_then(|properties| properties.get_mut(path)),
            },
        };
        let Some(Value::Object(target)) = target else { continue };
        for (fact, value) in facts.as_object().into_iter().flatten() {
            let key = match fact.as_str() {
                "listType" => "x-kubernetes-list-type",
                "listMapKeys" => "x-kubernetes-list-map-keys",
                "mapType" => "x-kubernetes-map-type",
                "patchStrategy" => "x-kubernetes-patch-strategy",
                "patchMergeKey" => "x-kubernetes-patch-merge-key",
                "preserveUnknownFields" => "x-kubernetes-preserve-unknown-fields",
                "intOrString" => continue,
                other => other,
            };
            target.insert(key.into(), value.clone());
        }
    }
}

/// The name inside a reference.
pub(crate) fn referred(schema: &Value) -> Option<&str> {
    let reference = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    reference.as_str()?.strip_prefix(REF)
}

#[rustfmt::skip]
fn request(generator: &mut SchemaGenerator, name: &str) {
    let _ = match name {
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy>(),
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding>(),
        "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration>(),
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy>(),
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>(),
        "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration>(),
        "io.k8s.api.apps.v1.ControllerRevision" => generator.subschema_for::<k8s_openapi::api::apps::v1::ControllerRevision>(),
        "io.k8s.api.apps.v1.DaemonSet" => generator.subschema_for::<k8s_openapi::api::apps::v1::DaemonSet>(),
        "io.k8s.api.apps.v1.Deployment" => generator.subschema_for::<k8s_openapi::api::apps::v1::Deployment>(),
        "io.k8s.api.apps.v1.ReplicaSet" => generator.subschema_for::<k8s_openapi::api::apps::v1::ReplicaSet>(),
        "io.k8s.api.apps.v1.StatefulSet" => generator.subschema_for::<k8s_openapi::api::apps::v1::StatefulSet>(),
        "io.k8s.api.authentication.v1.SelfSubjectReview" => generator.subschema_for::<k8s_openapi::api::authentication::v1::SelfSubjectReview>(),
        "io.k8s.api.authentication.v1.TokenRequest" => generator.subschema_for::<k8s_openapi::api::authentication::v1::TokenRequest>(),
        "io.k8s.api.authentication.v1.TokenReview" => generator.subschema_for::<k8s_openapi::api::authentication::v1::TokenReview>(),
        "io.k8s.api.authorization.v1.LocalSubjectAccessReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::LocalSubjectAccessReview>(),
        "io.k8s.api.authorization.v1.SelfSubjectAccessReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::SelfSubjectAccessReview>(),
        "io.k8s.api.authorization.v1.SelfSubjectRulesReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::SelfSubjectRulesReview>(),
        "io.k8s.api.authorization.v1.SubjectAccessReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::SubjectAccessReview>(),
        "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler" => generator.subschema_for::<k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler>(),
        "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta" => generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta>(),
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList" => generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList>(),
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions" => generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>(),
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status" => generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>(),
        "io.k8s.api.autoscaling.v1.Scale" => generator.subschema_for::<k8s_openapi::api::autoscaling::v1::Scale>(),
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler" => generator.subschema_for::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>(),
        "io.k8s.api.batch.v1.CronJob" => generator.subschema_for::<k8s_openapi::api::batch::v1::CronJob>(),
        "io.k8s.api.batch.v1.Job" => generator.subschema_for::<k8s_openapi::api::batch::v1::Job>(),
        "io.k8s.api.certificates.v1.CertificateSigningRequest" => generator.subschema_for::<k8s_openapi::api::certificates::v1::CertificateSigningRequest>(),
        "io.k8s.api.coordination.v1.Lease" => generator.subschema_for::<k8s_openapi::api::coordination::v1::Lease>(),
        "io.k8s.api.core.v1.Binding" => generator.subschema_for::<k8s_openapi::api::core::v1::Binding>(),
        "io.k8s.api.core.v1.ComponentStatus" => generator.subschema_for::<k8s_openapi::api::core::v1::ComponentStatus>(),
        "io.k8s.api.core.v1.ConfigMap" => generator.subschema_for::<k8s_openapi::api::core::v1::ConfigMap>(),
        "io.k8s.api.core.v1.Endpoints" => generator.subschema_for::<k8s_openapi::api::core::v1::Endpoints>(),
        "io.k8s.api.core.v1.Event" => generator.subschema_for::<k8s_openapi::api::core::v1::Event>(),
        "io.k8s.api.core.v1.LimitRange" => generator.subschema_for::<k8s_openapi::api::core::v1::LimitRange>(),
        "io.k8s.api.core.v1.Namespace" => generator.subschema_for::<k8s_openapi::api::core::v1::Namespace>(),
        "io.k8s.api.core.v1.Node" => generator.subschema_for::<k8s_openapi::api::core::v1::Node>(),
        "io.k8s.api.core.v1.PersistentVolume" => generator.subschema_for::<k8s_openapi::api::core::v1::PersistentVolume>(),
        "io.k8s.api.core.v1.PersistentVolumeClaim" => generator.subschema_for::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(),
        "io.k8s.api.core.v1.Pod" => generator.subschema_for::<k8s_openapi::api::core::v1::Pod>(),
        "io.k8s.api.core.v1.PodTemplate" => generator.subschema_for::<k8s_openapi::api::core::v1::PodTemplate>(),
        "io.k8s.api.core.v1.ReplicationController" => generator.subschema_for::<k8s_openapi::api::core::v1::ReplicationController>(),
        "io.k8s.api.core.v1.ResourceQuota" => generator.subschema_for::<k8s_openapi::api::core::v1::ResourceQuota>(),
        "io.k8s.api.core.v1.Secret" => generator.subschema_for::<k8s_openapi::api::core::v1::Secret>(),
        "io.k8s.api.core.v1.Service" => generator.subschema_for::<k8s_openapi::api::core::v1::Service>(),
        "io.k8s.api.core.v1.ServiceAccount" => generator.subschema_for::<k8s_openapi::api::core::v1::ServiceAccount>(),
        "io.k8s.api.discovery.v1.EndpointSlice" => generator.subschema_for::<k8s_openapi::api::discovery::v1::EndpointSlice>(),
        "io.k8s.api.events.v1.Event" => generator.subschema_for::<k8s_openapi::api::events::v1::Event>(),
        "io.k8s.api.flowcontrol.v1.FlowSchema" => generator.subschema_for::<k8s_openapi::api::flowcontrol::v1::FlowSchema>(),
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration" => generator.subschema_for::<k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration>(),
        "io.k8s.api.networking.v1.IPAddress" => generator.subschema_for::<k8s_openapi::api::networking::v1::IPAddress>(),
        "io.k8s.api.networking.v1.Ingress" => generator.subschema_for::<k8s_openapi::api::networking::v1::Ingress>(),
        "io.k8s.api.networking.v1.IngressClass" => generator.subschema_for::<k8s_openapi::api::networking::v1::IngressClass>(),
        "io.k8s.api.networking.v1.NetworkPolicy" => generator.subschema_for::<k8s_openapi::api::networking::v1::NetworkPolicy>(),
        "io.k8s.api.networking.v1.ServiceCIDR" => generator.subschema_for::<k8s_openapi::api::networking::v1::ServiceCIDR>(),
        "io.k8s.api.node.v1.RuntimeClass" => generator.subschema_for::<k8s_openapi::api::node::v1::RuntimeClass>(),
        "io.k8s.api.policy.v1.Eviction" => generator.subschema_for::<k8s_openapi::api::policy::v1::Eviction>(),
        "io.k8s.api.policy.v1.PodDisruptionBudget" => generator.subschema_for::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(),
        "io.k8s.api.rbac.v1.ClusterRole" => generator.subschema_for::<k8s_openapi::api::rbac::v1::ClusterRole>(),
        "io.k8s.api.rbac.v1.ClusterRoleBinding" => generator.subschema_for::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>(),
        "io.k8s.api.rbac.v1.Role" => generator.subschema_for::<k8s_openapi::api::rbac::v1::Role>(),
        "io.k8s.api.rbac.v1.RoleBinding" => generator.subschema_for::<k8s_openapi::api::rbac::v1::RoleBinding>(),
        "io.k8s.api.resource.v1.DeviceClass" => generator.subschema_for::<k8s_openapi::api::resource::v1::DeviceClass>(),
        "io.k8s.api.resource.v1.ResourceClaim" => generator.subschema_for::<k8s_openapi::api::resource::v1::ResourceClaim>(),
        "io.k8s.api.resource.v1.ResourceClaimTemplate" => generator.subschema_for::<k8s_openapi::api::resource::v1::ResourceClaimTemplate>(),
        "io.k8s.api.resource.v1.ResourceSlice" => generator.subschema_for::<k8s_openapi::api::resource::v1::ResourceSlice>(),
        "io.k8s.api.scheduling.v1.PriorityClass" => generator.subschema_for::<k8s_openapi::api::scheduling::v1::PriorityClass>(),
        "io.k8s.api.storage.v1.CSIDriver" => generator.subschema_for::<k8s_openapi::api::storage::v1::CSIDriver>(),
        "io.k8s.api.storage.v1.CSINode" => generator.subschema_for::<k8s_openapi::api::storage::v1::CSINode>(),
        "io.k8s.api.storage.v1.CSIStorageCapacity" => generator.subschema_for::<k8s_openapi::api::storage::v1::CSIStorageCapacity>(),
        "io.k8s.api.storage.v1.StorageClass" => generator.subschema_for::<k8s_openapi::api::storage::v1::StorageClass>(),
        "io.k8s.api.storage.v1.VolumeAttachment" => generator.subschema_for::<k8s_openapi::api::storage::v1::VolumeAttachment>(),
        "io.k8s.api.storage.v1.VolumeAttributesClass" => generator.subschema_for::<k8s_openapi::api::storage::v1::VolumeAttributesClass>(),
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition" => generator.subschema_for::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>(),
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService" => generator.subschema_for::<k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService>(),
        _ => return,
    };
}
