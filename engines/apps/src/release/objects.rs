//! The standard objects that a Release is made of: Jobs, Deployments, Services, claims, the App's Lease.
//!
//! Names follow from the App's name, the Release's number and the attempt, so that making one twice finds the name taken.

use std::collections::BTreeMap;

use dodai_api::dodai::app::{Port, Process, Volume as AppVolume};
use dodai_api::names::{
    ANNOTATION_COMMIT_IMAGE, ANNOTATION_RUN_TO_COMPLETION, LABEL_APP, LABEL_CONFIG, LABEL_PROCESS,
    LABEL_RELEASE, LABEL_ROLE, SOURCE_IMAGE_PREFIX,
};
use dodai_api::{App, Release, duration};
use dodai_kit::plan::controller_reference;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Probe, Service, ServicePort, ServiceSpec,
    TCPSocketAction, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, MicroTime, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::identity;

/// Time that a release command may take where the App does not say, seconds.
const COMMAND_TIMEOUT_S: u64 = 3600;
/// Time that a build may take, seconds.
const BUILD_TIMEOUT_S: i64 = 3600;
/// Time that a roll-out may stand still where the App does not say, seconds.
const PROGRESS_DEADLINE_S: u64 = 600;
/// Old ReplicaSets that a Deployment keeps; going back is a Release of its own.
const REVISION_HISTORY_LIMIT: i32 = 2;
/// The port inside a container that `web` gets where the App names none.
const WEB_PORT: i32 = 8000;

/// Name of the Lease that lets one Release of an App be on its way at a time.
pub fn lease_name(app: &str) -> String {
    format!("{app}-release")
}

/// What the Lease's holder is called: a retry is a new holder, so that an old view of the Lease is seen to be old.
pub fn lease_holder(release: &Release, attempt: u32) -> String {
    format!("{}/{attempt}/{}", release.name_any(), release.uid().unwrap_or_default())
}

/// The Lease, held by this attempt of the Release.
pub fn lease(
    release: &Release,
    app: &App,
    attempt: u32,
    seen: Option<&Lease>,
    now: jiff::Timestamp,
) -> Lease {
    let mut lease = seen.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(lease_name(&release.spec.app)),
            namespace: release.namespace(),
            labels: Some(labels(&[(LABEL_APP, &release.spec.app)])),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    lease.metadata.owner_references = Some(vec![controller_reference(app)]);
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(lease_holder(release, attempt)),
        acquire_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions + i32::from(seen.is_some())),
        ..LeaseSpec::default()
    });
    lease
}

fn suffix(attempt: u32) -> String {
    if attempt > 1 { format!("-{attempt}") } else { String::new() }
}

/// Name of the Job that builds the image.
pub fn build_job_name(release: &Release, attempt: u32) -> String {
    format!("{}-build{}", release.name_any(), suffix(attempt))
}

/// Name of the Job that runs the release command.
pub fn command_job_name(release: &Release, attempt: u32) -> String {
    format!("{}-release{}", release.name_any(), suffix(attempt))
}

/// The Job that turns the sources into the Release's image; without a build command the folder is taken as it is.
pub fn build_job(release: &Release, attempt: u32) -> Option<Job> {
    let source = release.spec.source.as_ref()?;
    let digest = source.digest.strip_prefix("sha256:").unwrap_or(&source.digest);
    let build = source.build.as_ref();
    let container = Container {
        name: "build".to_owned(),
        image: Some(format!("{SOURCE_IMAGE_PREFIX}{digest}")),
        command: Some(build.map_or_else(|| vec!["true".to_owned()], |build| build.command.clone())),
        env: build.map(|build| build.env.clone()).filter(|env| !env.is_empty()),
        ..Container::default()
    };
    let annotations = [(ANNOTATION_COMMIT_IMAGE.to_owned(), release.spec.image.clone())].into();
    Some(job(
        release,
        &build_job_name(release, attempt),
        "build",
        container,
        annotations,
        BUILD_TIMEOUT_S,
        Vec::new(),
    ))
}

/// The Job that runs the release command. It is kept as long as the Release: the record that it ran.
pub fn command_job(release: &Release, attempt: u32) -> Option<Job> {
    let step = release.spec.release.as_ref().filter(|step| !step.command.is_empty())?;
    let timeout =
        step.timeout.as_deref().and_then(duration::parse).map_or(COMMAND_TIMEOUT_S, |time| time.as_secs());
    let mut env = release.spec.env.clone();
    env.push(EnvVar { name: "DODAI_RELEASE".to_owned(), value: Some(release.name_any()), value_from: None });
    let container = Container {
        name: "release".to_owned(),
        image: Some(release.spec.image.clone()),
        command: Some(step.command.clone()),
        env: Some(env),
        volume_mounts: mounts(&release.spec.volumes),
        ..Container::default()
    };
    let annotations = [(ANNOTATION_RUN_TO_COMPLETION.to_owned(), "true".to_owned())].into();
    let volumes = volumes(&release.spec.app, &release.spec.volumes);
    let name = command_job_name(release, attempt);
    Some(job(release, &name, "release", container, annotations, timeout as i64, volumes))
}

fn job(
    release: &Release,
    name: &str,
    role: &str,
    container: Container,
    annotations: BTreeMap<String, String>,
    timeout_s: i64,
    volumes: Vec<Volume>,
) -> Job {
    let labels =
        labels(&[(LABEL_APP, &release.spec.app), (LABEL_ROLE, role), (LABEL_RELEASE, &release.name_any())]);
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: release.namespace(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![controller_reference(release)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(timeout_s),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    containers: vec![container],
                    restart_policy: Some("Never".to_owned()),
                    volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// The claims for the App's volumes. They carry no owner: data outlives the App.
pub fn claims(release: &Release) -> Vec<PersistentVolumeClaim> {
    let claim = |volume: &AppVolume| PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(&release.spec.app, volume)),
            namespace: release.namespace(),
            labels: Some(labels(&[(LABEL_APP, &release.spec.app)])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(
                    [(
                        "storage".to_owned(),
                        Quantity(volume.size.clone().unwrap_or_else(|| "1Gi".to_owned())),
                    )]
                    .into(),
                ),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    };
    release.spec.volumes.iter().map(claim).collect()
}

fn claim_name(app: &str, volume: &AppVolume) -> String {
    format!("{app}-{}", volume.name)
}

fn volumes(app: &str, volumes: &[AppVolume]) -> Vec<Volume> {
    let volume = |volume: &AppVolume| Volume {
        name: volume.name.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(app, volume),
            read_only: None,
        }),
        ..Volume::default()
    };
    volumes.iter().map(volume).collect()
}

fn mounts(volumes: &[AppVolume]) -> Option<Vec<VolumeMount>> {
    let mount = |volume: &AppVolume| VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        ..VolumeMount::default()
    };
    let mounts: Vec<_> = volumes.iter().map(mount).collect();
    Some(mounts).filter(|mounts| !mounts.is_empty())
}

/// The ports of a process: what the App names, and one called `http` for a `web` that names none.
pub fn ports(name: &str, process: &Process) -> Vec<Port> {
    if process.ports.is_empty() && name == "web" {
        return vec![Port { name: "http".to_owned(), container_port: WEB_PORT }];
    }
    process.ports.clone()
}

/// The Deployments of the Release, one per process, owned by the App since they outlive the Release.
pub fn deployments(release: &Release, app: &App, attempt: u32) -> Vec<Deployment> {
    let processes = release.spec.processes.iter();
    processes.map(|(name, process)| deployment(release, app, attempt, name, process)).collect()
}

fn deployment(release: &Release, app: &App, attempt: u32, name: &str, process: &Process) -> Deployment {
    let selector = labels(&[(LABEL_APP, &release.spec.app), (LABEL_PROCESS, name)]);
    let config = identity::of_process(&release.spec, process, attempt);
    let mut pod_labels = selector.clone();
    pod_labels.extend(labels(&[(LABEL_ROLE, "process"), (LABEL_CONFIG, &config)]));
    let step = release.spec.release.as_ref();
    let strategy = step.and_then(|step| step.strategy.clone()).unwrap_or_default();
    let deadline = strategy.progress_deadline.as_deref().and_then(duration::parse);
    let count = |number: Option<u32>, default: u32| {
        IntOrString::Int(i32::try_from(number.unwrap_or(default)).unwrap_or(i32::MAX))
    };
    Deployment {
        metadata: ObjectMeta {
            name: Some(format!("{}-{name}", release.spec.app)),
            namespace: release.namespace(),
            labels: Some(selector.clone()),
            owner_references: Some(vec![controller_reference(app)]),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(
                process.replicas.map_or(1, |replicas| i32::try_from(replicas).unwrap_or(i32::MAX)),
            ),
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(count(strategy.max_surge, 1)),
                    max_unavailable: Some(count(strategy.max_unavailable, 0)),
                }),
            }),
            progress_deadline_seconds: Some(
                deadline.map_or(PROGRESS_DEADLINE_S, |time| time.as_secs()) as i32
            ),
            revision_history_limit: Some(REVISION_HISTORY_LIMIT),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(process_pod(release, name, process)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn process_pod(release: &Release, name: &str, process: &Process) -> PodSpec {
    let ports = ports(name, process);
    let readiness = process.readiness_probe.clone().or_else(|| ports.first().map(tcp_probe));
    let container_ports = ports.iter().map(|port| ContainerPort {
        name: Some(port.name.clone()),
        container_port: port.container_port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    let container = Container {
        name: name.to_owned(),
        image: Some(release.spec.image.clone()),
        command: Some(process.command.clone()),
        env: Some(merged_env(&release.spec.env, &process.env)).filter(|env| !env.is_empty()),
        ports: Some(container_ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        readiness_probe: readiness,
        liveness_probe: process.liveness_probe.clone(),
        resources: process.resources.clone(),
        volume_mounts: mounts(&release.spec.volumes),
        ..Container::default()
    };
    PodSpec {
        containers: vec![container],
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(process.termination_grace_period_seconds.unwrap_or(30)),
        volumes: Some(volumes(&release.spec.app, &release.spec.volumes))
            .filter(|volumes| !volumes.is_empty()),
        ..PodSpec::default()
    }
}

/// A Pod for a one-off command: the Release's image, environment and volumes; the caller sets the command.
pub fn one_off_pod(release: &Release) -> PodSpec {
    let container = Container {
        name: "run".to_owned(),
        image: Some(release.spec.image.clone()),
        env: Some(release.spec.env.clone()).filter(|env| !env.is_empty()),
        volume_mounts: mounts(&release.spec.volumes),
        ..Container::default()
    };
    PodSpec {
        containers: vec![container],
        volumes: Some(volumes(&release.spec.app, &release.spec.volumes))
            .filter(|volumes| !volumes.is_empty()),
        ..PodSpec::default()
    }
}

/// Ready as soon as the port can be connected to, asked every second.
fn tcp_probe(port: &Port) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::String(port.name.clone()), host: None }),
        period_seconds: Some(1),
        ..Probe::default()
    }
}

/// The App's variables with the process's own in their place, or after them.
fn merged_env(app: &[EnvVar], process: &[EnvVar]) -> Vec<EnvVar> {
    let mut env: Vec<EnvVar> = app.to_vec();
    for own in process {
        match env.iter_mut().find(|var| var.name == own.name) {
            Some(var) => *var = own.clone(),
            None => env.push(own.clone()),
        }
    }
    env
}

/// The Services of the Release, one per process with ports. The API server picks the node port once; it stays.
pub fn services(release: &Release, app: &App) -> Vec<Service> {
    let processes = release.spec.processes.iter();
    processes.filter_map(|(name, process)| service(release, app, name, &ports(name, process))).collect()
}

fn service(release: &Release, app: &App, name: &str, ports: &[Port]) -> Option<Service> {
    if ports.is_empty() {
        return None;
    }
    let selector = labels(&[(LABEL_APP, &release.spec.app), (LABEL_PROCESS, name)]);
    let port = |port: &Port| ServicePort {
        name: Some(port.name.clone()),
        port: port.container_port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(port.name.clone())),
        app_protocol: (port.name == "http").then(|| "http".to_owned()),
        ..ServicePort::default()
    };
    Some(Service {
        metadata: ObjectMeta {
            name: Some(format!("{}-{name}", release.spec.app)),
            namespace: release.namespace(),
            labels: Some(selector.clone()),
            owner_references: Some(vec![controller_reference(app)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("NodePort".to_owned()),
            selector: Some(selector),
            ports: Some(ports.iter().map(port).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
