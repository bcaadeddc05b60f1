//! The Node object and its Lease: what this machine has, that it is alive, and which interpreters it offers.

use std::time::Duration;

use dodai_api::names::{ANNOTATION_INTERPRETERS, NODE_NAME};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::Shared;
use super::status::time;
use crate::error::{Error, Result};

/// Pause between two renewals of the Lease, as upstream's.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_NAMESPACE: &str = "kube-node-lease";
const MANAGER: &str = "dodai-node";
const PODS_MAX: u32 = 110;

/// Writes the Node as it is now.
pub(crate) async fn register(shared: &Shared) -> Result<()> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let interpreters = serde_json::to_string(&shared.interpreters).unwrap_or_default();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE_NAME,
            "labels": {
                "kubernetes.io/hostname": NODE_NAME,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture(),
            },
            "annotations": { ANNOTATION_INTERPRETERS: interpreters },
        },
    });
    api.patch(NODE_NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
        .await
        .map_err(Error::api("write the Node"))?;
    let status = json!({ "status": status() });
    api.patch_status(NODE_NAME, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map_err(Error::api("write the Node's status"))?;
    Ok(())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status() -> Value {
    let cpu = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory_kib();
    let resources = json!({
        "cpu": cpu.to_string(), "memory": format!("{memory}Ki"), "pods": PODS_MAX.to_string(),
    });
    let now = time(Timestamp::now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os =
        os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": NODE_NAME},
        ],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "the process runtime is ready"),
        ],
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": text("/proc/sys/kernel/random/boot_id"),
            "containerRuntimeVersion": concat!("process://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": text("/proc/sys/kernel/osrelease"),
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v1.36.0-dodai.", env!("CARGO_PKG_VERSION")),
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": os,
            "systemUUID": "",
        },
    })
}

fn memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Renews the Lease for as long as the node lives.
pub(crate) async fn heartbeat(client: Client) {
    let mut failed = false;
    loop {
        match renew(&client).await {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(error = %crate::error::chain(&error), "cannot renew the node's lease");
            }
            Err(_) => {}
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

async fn renew(client: &Client) -> Result<()> {
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE_NAME, "namespace": LEASE_NAMESPACE},
        "spec": {
            "holderIdentity": NODE_NAME,
            "leaseDurationSeconds": 40,
            "renewTime": format!("{:.6}", Timestamp::now()),
        },
    });
    let params = PatchParams::apply(MANAGER).force();
    match api.patch(NODE_NAME, &params, &Patch::Apply(&lease)).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(Error::api("renew the Lease")(error)),
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": LEASE_NAMESPACE}}))
        .expect("a Namespace with a name is a Namespace");
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(Error::api("make the namespace of Leases")(error)),
    }
    api.patch(NODE_NAME, &params, &Patch::Apply(&lease)).await.map_err(Error::api("renew the Lease"))?;
    Ok(())
}

/// A Kubernetes quantity as a number: `250m` is 0.25, `1Ki` is 1024.
pub(crate) fn quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        _ => {
            return suffix
                .strip_prefix(['e', 'E'])?
                .parse::<i32>()
                .ok()
                .map(|power| number * 10_f64.powi(power));
        }
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, want) in
            [("250m", 0.25), ("1Ki", 1024.0), ("2", 2.0), ("1.5Gi", 1_610_612_736.0), ("1e3", 1000.0)]
        {
            assert_eq!(super::quantity(text), Some(want), "{text}");
        }
        assert_eq!(super::quantity("many"), None);
    }
}
