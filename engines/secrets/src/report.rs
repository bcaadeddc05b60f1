//! How encrypted secrets stand, from their statuses: for `dodai secret status`, the hint of `dodai status`, and metrics.
//!
//! Pure: what was read from the API goes in. No value is in a status, so none is here.

use std::fmt::Write;

use dodai_api::dodai::condition::{self, Condition};
use dodai_api::{EncryptedSecret, SealedSecret, SopsSecret};
use jiff::Timestamp;
use kube::ResourceExt;

/// One encrypted secret of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `EncryptedSecret`, `SopsSecret`, `SealedSecret`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Whether what the spec says now is in the Secret.
    pub ready: bool,
    /// The word of the condition; `Pending` where nothing was said about this spec yet.
    pub reason: String,
    /// What a person needs to know.
    pub message: String,
    /// When the first value is due for a new one, if `rotateAfter` says so.
    pub rotation_due: Option<Timestamp>,
    /// Whether that has passed, and in which words.
    pub due: Option<String>,
}

/// The word for an object that no controller has looked at.
const PENDING: &str = "Pending";

impl Line {
    fn new(
        kind: &'static str,
        object: &impl ResourceExt,
        observed: Option<i64>,
        conditions: &[Condition],
    ) -> Line {
        let current = observed >= object.meta().generation;
        let ready = condition::find(conditions, "Ready").filter(|_| current);
        Line {
            kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            ready: ready.is_some_and(Condition::is_true),
            reason: ready.map_or(PENDING, |ready| ready.reason.as_str()).to_owned(),
            message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
            rotation_due: None,
            due: None,
        }
    }

    /// How an EncryptedSecret stands. What is due is told by the clock, so that it is true while no controller runs.
    pub fn encrypted(object: &EncryptedSecret, now: Timestamp) -> Line {
        let status = object.status.clone().unwrap_or_default();
        let mut line = Line::new("EncryptedSecret", object, status.observed_generation, &status.conditions);
        line.rotation_due = status.rotation_due.and_then(|time| time.parse().ok());
        if line.rotation_due.is_some_and(|due| due <= now) {
            let told = condition::find(&status.conditions, "RotationDue").filter(|told| told.is_true());
            line.due = Some(match told {
                Some(told) => told.message.clone(),
                None => "a value is older than `rotateAfter`".to_owned(),
            });
        }
        line
    }

    /// How a SopsSecret stands.
    pub fn sops(object: &SopsSecret) -> Line {
        let status = object.status.clone().unwrap_or_default();
        Line::new("SopsSecret", object, status.observed_generation, &status.conditions)
    }

    /// How a SealedSecret stands.
    pub fn sealed(object: &SealedSecret) -> Line {
        let status = object.status.clone().unwrap_or_default();
        Line::new("SealedSecret", object, status.observed_generation, &status.conditions)
    }
}

/// A metric: name, kind of number, help, and its value for a secret that has one.
type Metric = (&'static str, &'static str, fn(&Line) -> Option<i64>);

/// The Prometheus text format, version 0.0.4.
pub fn metrics(lines: &[Line]) -> String {
    let all: [Metric; 3] = [
        ("dodai_secrets_ready", "Whether the Secret is what the encrypted one says.", |line| {
            Some(i64::from(line.ready))
        }),
        ("dodai_secrets_rotation_due", "Whether a value is older than rotateAfter.", |line| {
            line.rotation_due.map(|_| i64::from(line.due.is_some()))
        }),
        (
            "dodai_secrets_rotation_due_timestamp_seconds",
            "When the first value is older than rotateAfter, seconds since 1970.",
            |line| line.rotation_due.map(Timestamp::as_second),
        ),
    ];
    let mut text = String::new();
    for (name, help, value) in all {
        // Writing to a String cannot fail. Names of Kubernetes need no escapes.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for line in lines {
            let Some(value) = value(line) else { continue };
            let Line { kind, namespace, name: secret, .. } = line;
            let _ = writeln!(
                text,
                "{name}{{kind=\"{kind}\",namespace=\"{namespace}\",name=\"{secret}\"}} {value}"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(status: serde_json::Value) -> EncryptedSecret {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "dodai.dev/v1alpha1", "kind": "EncryptedSecret",
            "metadata": {"name": "payments", "namespace": "shop", "generation": 2},
            "spec": {"rotateAfter": "90d"}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_due_is_told_by_the_clock_and_what_is_ready_by_the_generation() {
        let good = object(serde_json::json!({
            "observedGeneration": 2, "rotationDue": "2026-12-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Written", "message": ""}],
        }));
        let before = Line::encrypted(&good, "2026-11-30T23:59:59Z".parse().unwrap());
        assert!(before.ready && before.due.is_none());
        let after = Line::encrypted(&good, "2026-12-01T00:00:00Z".parse().unwrap());
        assert!(after.ready && after.due.is_some());
        let old = object(serde_json::json!({
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Written", "message": ""}],
        }));
        let old = Line::encrypted(&old, Timestamp::UNIX_EPOCH);
        assert_eq!((old.ready, old.reason.as_str()), (false, "Pending"));
        let text = metrics(&[before, after, old]);
        let labels = "{kind=\"EncryptedSecret\",namespace=\"shop\",name=\"payments\"}";
        for line in [
            format!("dodai_secrets_ready{labels} 1"),
            format!("dodai_secrets_ready{labels} 0"),
            format!("dodai_secrets_rotation_due{labels} 0"),
            format!("dodai_secrets_rotation_due{labels} 1"),
            format!("dodai_secrets_rotation_due_timestamp_seconds{labels} 1796083200"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("dodai_secrets_rotation_due{")).count(), 2);
    }
}
