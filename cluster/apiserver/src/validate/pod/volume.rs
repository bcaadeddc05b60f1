//! Volumes of a Pod: each kind of source.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::container::{field_selector, resource_selector};
use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;
use crate::validate::at::At;
use crate::validate::{claim, selector};

const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Sources in the order in which they are looked at. Texts that may not be empty; the rest is in `source`.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &[]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &[]),
    ("quobyte", &["volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &[]),
    ("ephemeral", &[]),
    ("image", &[]),
];

/// Checks the volumes of a Pod spec and gives back the sound ones. `pod_name`: of a Pod, not of a template.
pub(super) fn volumes<'a>(
    spec: &At<'a>,
    pod_name: Option<&str>,
    causes: &mut Vec<Cause>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut sound = BTreeMap::new();
    for volume in spec.items("volumes") {
        let before = causes.len();
        sources(&volume, pod_name, causes);
        let name = volume.text("name");
        match name {
            "" => volume.get("name").required("", causes),
            _ => volume.get("name").label(causes),
        }
        if sound.contains_key(name) {
            volume.get("name").duplicate(causes);
        }
        if causes.len() == before {
            sound.insert(name, volume.value);
        }
    }
    sound
}

fn sources(volume: &At<'_>, pod_name: Option<&str>, causes: &mut Vec<Cause>) {
    let mut found = 0;
    for (kind, required) in SOURCES {
        let source = volume.get(kind);
        if !source.is_set() {
            continue;
        }
        found += 1;
        if found > 1 {
            // Two of these places have slips of the pen, which are part of the answer.
            let shown = match *kind {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                other => other,
            };
            volume.get_as(kind, shown).forbidden("may not specify more than 1 volume type", causes);
            continue;
        }
        let source =
            if *kind == "gcePersistentDisk" { volume.get_as(kind, "persistentDisk") } else { source };
        for field in *required {
            source.get(field).not_empty(causes);
        }
        check_source(kind, &source, volume, pod_name, causes);
    }
    if found == 0 {
        volume.required("must specify a volume type", causes);
    }
}

fn check_source(
    kind: &str,
    source: &At<'_>,
    volume: &At<'_>,
    pod_name: Option<&str>,
    causes: &mut Vec<Cause>,
) {
    match kind {
        "emptyDir" => {
            let limit = source.text("sizeLimit");
            if Quantity::parse(limit).is_some_and(|limit| limit.is_negative()) {
                let detail = "SizeLimit field must be a valid resource quantity";
                source.get("sizeLimit").forbidden(detail, causes);
            }
        }
        "hostPath" => {
            if source.text("path").is_empty() {
                return source.get("path").required("", causes);
            }
            source.get("path").no_backsteps(causes);
            source.get("type").one_of_if_set(HOST_PATH_TYPES, causes);
        }
        "gitRepo" => source.get("directory").descending(causes),
        "gcePersistentDisk" | "awsElasticBlockStore"
            if !(0..=255).contains(&source.int("partition").unwrap_or(0)) =>
        {
            source.get("partition").invalid("must be between 1 and 255, inclusive", causes);
        }
        "secret" | "configMap" => {
            mode(&source.get("defaultMode"), causes);
            for item in source.items("items") {
                key_to_path(&item, causes);
            }
        }
        "nfs" if !source.text("path").starts_with('/') => {
            source.get("path").all(["must be an absolute path".to_owned()], causes);
        }
        "iscsi" => iscsi(source, volume, causes),
        "flocker" => flocker(source, causes),
        "rbd" | "cephfs" if source.items("monitors").is_empty() => {
            source.get("monitors").required("", causes);
        }
        "cinder" | "storageos" => {
            if source.has("secretRef") {
                source.get("secretRef").get("name").not_empty(causes);
            }
            for field in ["volumeName", "volumeNamespace"].iter().filter(|_| kind == "storageos") {
                if !source.text(field).is_empty() {
                    source.get(field).label(causes);
                }
            }
        }
        "quobyte" => quobyte(source, causes),
        "downwardAPI" => {
            mode(&source.get("defaultMode"), causes);
            for file in source.items("items") {
                // The position is not told.
                downward_file(&file.moved(&source.path), causes);
            }
        }
        "fc" => fibre(source, causes),
        "flexVolume" => {
            for (key, option) in source.get("options").entries() {
                let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
                let normal = format!(".{}", namespace.to_lowercase());
                if normal.ends_with(".kubernetes.io") || normal.ends_with(".k8s.io") {
                    option.invalid_as(key, "kubernetes.io and k8s.io namespaces are reserved", causes);
                }
            }
        }
        "azureDisk" => azure_disk(source, causes),
        "projected" => {
            mode(&source.get("defaultMode"), causes);
            projected(source, causes);
        }
        "csi" => csi(source, causes),
        "ephemeral" => ephemeral(source, volume, pod_name, causes),
        "image" => {
            if pod_name.is_some() {
                source.get("reference").not_empty(causes);
            }
            source.get("pullPolicy").one_of_required(&["Always", "IfNotPresent", "Never"], causes);
        }
        _ => {}
    }
}

fn mode(place: &At<'_>, causes: &mut Vec<Cause>) {
    if place.value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        place.invalid(FILE_MODE, causes);
    }
}

fn key_to_path(item: &At<'_>, causes: &mut Vec<Cause>) {
    item.get("key").not_empty(causes);
    item.get("path").not_empty(causes);
    item.get("path").not_reserved(causes);
    mode(&item.get("mode"), causes);
}

fn downward_file(file: &At<'_>, causes: &mut Vec<Cause>) {
    file.get("path").not_empty(causes);
    file.get("path").not_reserved(causes);
    match (file.has("fieldRef"), file.has("resourceFieldRef")) {
        (true, both) => {
            field_selector(&file.get("fieldRef"), VOLUME_FIELDS, causes);
            if both {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                file.invalid_as("resource", detail, causes);
            }
        }
        (false, true) => resource_selector(&file.get("resourceFieldRef"), true, causes),
        (false, false) => file.required("one of fieldRef and resourceFieldRef is required", causes),
    }
    mode(&file.get("mode"), causes);
}

fn iscsi(source: &At<'_>, volume: &At<'_>, causes: &mut Vec<Cause>) {
    const START: &str = "must be valid format starting with iqn, eui, or naa";
    let name = |place: At<'_>, causes: &mut Vec<Cause>| {
        let text = place.own_text();
        let hex = |rest: &str, lengths: &[usize]| {
            lengths.contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let fine = match text.get(..3) {
            Some("iqn") => {
                let rest = text.strip_prefix("iqn.").unwrap_or_default();
                let (date, authority) = rest.split_at_checked(7).unwrap_or_default();
                let dated = date.len() == 7
                    && date
                        .bytes()
                        .enumerate()
                        .all(|(at, b)| if at == 4 { b == b'-' } else { b.is_ascii_digit() });
                dated && authority.starts_with('.') && authority.len() > 1
            }
            Some("eui") => text.strip_prefix("eui.").is_some_and(|rest| hex(rest, &[16])),
            Some("naa") => text.strip_prefix("naa.").is_some_and(|rest| hex(rest, &[16, 32])),
            _ => return place.all([START.to_owned()], causes),
        };
        if !fine {
            place.invalid("must be valid format", causes);
        }
    };
    match source.text("iqn") {
        "" => source.get("iqn").required("", causes),
        _ => name(source.get("iqn"), causes),
    }
    source.get("lun").in_range(0, 255, causes);
    if (source.flag("chapAuthDiscovery") || source.flag("chapAuthSession")) && !source.has("secretRef") {
        source.get("secretRef").required("", causes);
    }
    if source.has("initiatorName") {
        name(source.get_as("initiatorName", "initiatorname"), causes);
        if volume.text("name").len() + 1 + source.text("targetPortal").len() > 64 {
            let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
            volume.get("name").invalid(detail, causes);
        }
    }
}

fn flocker(source: &At<'_>, causes: &mut Vec<Cause>) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        source.required("one of datasetName and datasetUUID is required", causes);
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        source.invalid_as("resource", detail, causes);
    }
    if name.contains('/') {
        source.get("datasetName").invalid("must not contain '/'", causes);
    }
}

fn quobyte(source: &At<'_>, causes: &mut Vec<Cause>) {
    const PAIR: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        source.get("registry").required(PAIR, causes);
    } else if source.text("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        source.get("tenant").required(detail, causes);
    } else {
        for pair in registry.split(',') {
            let fine = match pair.rsplit_once(':') {
                Some((host, _)) => !host.contains(':') || host.starts_with('[') && host.ends_with(']'),
                None => false,
            };
            if !fine {
                source.get("registry").invalid(PAIR, causes);
            }
        }
    }
}

fn fibre(source: &At<'_>, causes: &mut Vec<Cause>) {
    let (names, ids) = (source.get("targetWWNs"), source.items("wwids"));
    match (names.elements().is_empty(), ids.is_empty()) {
        (true, true) => names.required("must specify either targetWWNs or wwids, but not both", causes),
        (false, false) => names.invalid("targetWWNs and wwids can not be specified simultaneously", causes),
        _ => {}
    }
    if names.elements().is_empty() {
        return;
    }
    let lun = source.get("lun");
    if lun.is_set() {
        lun.in_range(0, 255, causes);
    } else {
        lun.required("lun is required if targetWWNs is specified", causes);
    }
}

fn azure_disk(source: &At<'_>, causes: &mut Vec<Cause>) {
    source.get("cachingMode").one_of_if_set(&["None", "ReadOnly", "ReadWrite"], causes);
    let (kind, uri) = (source.get("kind"), source.get("diskURI"));
    kind.one_of_if_set(&["Dedicated", "Managed", "Shared"], causes);
    let managed = kind.own_text() == "Managed";
    if managed && !uri.own_text().starts_with("/subscriptions/") {
        uri.unsupported(&["/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"], causes);
    }
    if kind.is_set() && !managed && !uri.own_text().starts_with("https://") {
        uri.unsupported(
            &["https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"],
            causes,
        );
    }
}

fn csi(source: &At<'_>, causes: &mut Vec<Cause>) {
    let (driver, name) = (source.get("driver"), source.text("driver"));
    if name.is_empty() {
        driver.required("", causes);
    } else {
        if name.len() > 63 {
            causes.push(Cause::too_long(driver.path.clone(), 63));
        }
        driver.all(names::subdomain(&name.to_lowercase()), causes);
    }
    let secret = source.get("nodePublishSecretRef");
    if secret.is_set() {
        match secret.text("name") {
            "" => secret.get("name").required("", causes),
            _ => secret.get("name").moved(&source.get("name").path).subdomain(causes),
        }
    }
}

fn ephemeral(source: &At<'_>, volume: &At<'_>, pod_name: Option<&str>, causes: &mut Vec<Cause>) {
    let template = source.get("volumeClaimTemplate");
    if !template.is_set() {
        return template.required("", causes);
    }
    let meta = template.get("metadata");
    super::super::labels(&meta.value["labels"], &meta.get("labels").path, causes);
    super::super::annotations(&meta.value["annotations"], &meta.get("annotations").path, causes);
    for (field, value) in meta.value.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "labels" | "annotations") && !value.is_null() {
            meta.get(field).forbidden("cannot be set", causes);
        }
    }
    claim::spec(&template.get("spec"), causes);
    let name = volume.text("name");
    if let Some(pod_name) = pod_name.filter(|pod_name| !pod_name.is_empty() && !name.is_empty()) {
        let claim_name = format!("{pod_name}-{name}");
        if let Some(detail) = names::subdomain(&claim_name) {
            volume.get("name").invalid(&format!("PVC name \"{claim_name}\": {detail}"), causes);
        }
    }
}

fn projected(volume: &At<'_>, causes: &mut Vec<Cause>) {
    let mut paths: HashSet<&str> = HashSet::new();
    let mut once = |path, shown: &str, causes: &mut Vec<Cause>| {
        if !paths.insert(path) {
            volume.invalid_as(shown, "conflicting duplicate paths", causes);
        }
    };
    for source in volume.items("sources") {
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let found = source.get(kind);
            if !found.is_set() {
                continue;
            }
            kinds += 1;
            found.get("name").not_empty(causes);
            for item in found.items("items") {
                key_to_path(&item, causes);
                if !item.text("path").is_empty() {
                    once(item.text("path"), found.text("name"), causes);
                }
            }
        }
        let downward = source.get("downwardAPI");
        kinds += usize::from(downward.is_set());
        for file in downward.items("items") {
            downward_file(&file.moved(&downward.path), causes);
            if !file.text("path").is_empty() {
                once(file.text("path"), file.text("path"), causes);
            }
        }
        let token = source.get("serviceAccountToken");
        if token.is_set() {
            kinds += 1;
            account_token(&token, volume, causes);
        }
        let bundle = source.get("clusterTrustBundle");
        if bundle.is_set() {
            kinds += 1;
            trust_bundle(&bundle, causes);
            once(bundle.text("path"), bundle.text("path"), causes);
        }
        let certificate = source.get("podCertificate");
        if certificate.is_set() {
            kinds += 1;
            let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            let given: Vec<&str> =
                fields.into_iter().filter(|field| !certificate.text(field).is_empty()).collect();
            pod_certificate(&certificate, causes);
            for field in &given {
                certificate.get(field).not_reserved(causes);
                once(certificate.text(field), certificate.text(field), causes);
            }
            if given.is_empty() {
                let detail =
                    "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                certificate.required(detail, causes);
            }
        }
        if kinds > 1 {
            source.forbidden("may not specify more than 1 volume type per source", causes);
        }
    }
}

fn account_token(token: &At<'_>, volume: &At<'_>, causes: &mut Vec<Cause>) {
    let seconds = token.int("expirationSeconds").unwrap_or(0);
    let place = token.get("expirationSeconds");
    if seconds < SECONDS_MIN {
        place.invalid_as(seconds, "may not specify a duration less than 10 minutes", causes);
    }
    if seconds > SECONDS_MAX {
        place.invalid_as(seconds, "may not specify a duration larger than 2^32 seconds", causes);
    }
    // The place is that of the volume.
    let path = token.get("path").moved(&volume.get("path").path);
    match path.own_text() {
        "" => path.required("", causes),
        _ => path.not_reserved(causes),
    }
}

fn trust_bundle(bundle: &At<'_>, causes: &mut Vec<Cause>) {
    let (name, signer, chosen) = (bundle.get("name"), bundle.get("signerName"), bundle.get("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => bundle.invalid("only one of name and signerName may be used", causes),
        (true, false) => {
            if name.own_text().is_empty() {
                name.required("must be a valid object name", causes);
            }
            let detail = names::subdomain(name.own_text());
            name.all(detail.map(|detail| format!("not a valid clustertrustbundlename: {detail}")), causes);
            if chosen.is_set() {
                chosen.invalid("labelSelector must be unset if name is specified", causes);
            }
        }
        (false, true) => {
            if signer.own_text().is_empty() {
                signer.required("must be a valid signer name", causes);
            }
            signer_name(&signer, causes);
            selector::label_selector(&chosen, causes);
        }
        (false, false) => bundle.required("either name or signerName must be specified", causes),
    }
    bundle.get("path").not_empty(causes);
    bundle.get("path").not_reserved(causes);
}

fn signer_name(signer: &At<'_>, causes: &mut Vec<Cause>) {
    let name = signer.own_text();
    if name.is_empty() {
        return signer.required("", causes);
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, path] = &*parts else {
        return signer.invalid(
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            causes,
        );
    };
    signer.all(names::subdomain(domain), causes);
    if !domain.contains('.') {
        signer.invalid("should be a domain with at least two segments separated by dots", causes);
    }
    signer.all(names::subdomain(path), causes);
}

fn pod_certificate(certificate: &At<'_>, causes: &mut Vec<Cause>) {
    const KEYS: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    signer_name(&certificate.get("signerName"), causes);
    certificate.get("keyType").one_of(KEYS, causes);
    let seconds = certificate.get("maxExpirationSeconds");
    let Some(number) = seconds.value.as_i64() else { return };
    if number < 3600 {
        seconds.invalid("if provided, maxExpirationSeconds must be >= 3600", causes);
    }
    let own = certificate.text("signerName").starts_with("kubernetes.io/");
    let most = if own { 86_400 } else { 7_862_400 };
    if number > most {
        seconds.invalid(&format!("if provided, maxExpirationSeconds must be <= {most}"), causes);
    }
}
