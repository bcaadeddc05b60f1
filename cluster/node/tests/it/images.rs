//! The image store: sources in, images out, hostile archives, collection.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use dodai_node::images::{ImageRef, ImageStore, Policy};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Entries of a tar: kind, path, link target or content.
pub type Entries<'a> = &'a [(EntryType, &'a str, &'a str)];

/// Writes a tar without the checks of the library that makes it.
pub fn archive(entries: Entries<'_>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, text) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let content = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
        if content.is_empty() && !text.is_empty() {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Puts a source into a data folder; its hash.
pub fn add_source(data: &Path, entries: Entries<'_>) -> String {
    let bytes = archive(entries);
    let hex = hex::encode(Sha256::digest(&bytes));
    std::fs::create_dir_all(data.join("sources")).unwrap();
    std::fs::write(data.join("sources").join(format!("{hex}.tar")), bytes).unwrap();
    hex
}

#[test]
fn references_are_read_and_others_refused_with_kubernetes_words() {
    let hex = "0".repeat(64);
    assert_eq!(
        ImageRef::parse(&format!("dodai.local/source@sha256:{hex}")).unwrap(),
        ImageRef::Source(hex.clone())
    );
    assert_eq!(ImageRef::parse(&format!("dodai.local/build@sha256:{hex}")).unwrap(), ImageRef::Build(hex));
    for (image, reason) in [
        ("", "InvalidImageName"),
        ("dodai.local/build@sha256:../x", "InvalidImageName"),
        ("nginx:1.27", "ErrImagePull"),
    ] {
        let error = ImageRef::parse(image).unwrap_err();
        assert!(
            matches!(&error, dodai_node::Error::Image { reason: told, .. } if *told == reason),
            "{error}"
        );
    }
}

#[test]
fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
    use EntryType as E;
    let cases: &[(&str, Entries<'_>)] = &[
        ("`../x` leads out", &[(E::Regular, "../x", "x")]),
        ("`a/../../x` leads out", &[(E::Regular, "a/../../x", "x")]),
        ("`/tmp/x` leads out", &[(E::Regular, "/tmp/x", "x")]),
        ("`l` leads out", &[(E::Symlink, "l", "/etc")]),
        ("`l` leads out", &[(E::Symlink, "l", "..")]),
        ("`d/l` leads out", &[(E::Directory, "d/", ""), (E::Symlink, "d/l", "../../x")]),
        ("`e` leads out", &[(E::Symlink, "x", "."), (E::Symlink, "e", "x/../y")]),
        (
            "`l/x` is below a file or link",
            &[(E::Directory, "d/", ""), (E::Symlink, "l", "d"), (E::Regular, "l/x", "x")],
        ),
        ("`h` leads out", &[(E::Link, "h", "/etc/passwd")]),
        (
            "`h` is below a file or link",
            &[(E::Directory, "d/", ""), (E::Symlink, "l", "d"), (E::Link, "h", "l/x")],
        ),
        ("`p` is neither", &[(E::Fifo, "p", "")]),
        ("`c` is neither", &[(E::Char, "c", "")]),
    ];
    for (want, entries) in cases {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let hex = add_source(folder.path(), entries);
        let error = store.unpack_source(&hex, &folder.path().join("deep/tree")).unwrap_err();
        assert!(error.to_string().contains(want), "{error} instead of {want}");
        assert!(!folder.path().join("deep/x").exists() && !folder.path().join("x").exists());
    }
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(folder.path()).unwrap();
    let wrong = "1".repeat(64);
    std::fs::write(store.source_path(&wrong), archive(&[(E::Regular, "a", "b")])).unwrap();
    let error = store.unpack_source(&wrong, &folder.path().join("tree")).unwrap_err();
    assert!(error.to_string().contains("is not what its name says"), "{error}");
}

#[test]
fn a_tree_becomes_an_image_at_once_and_stays_as_it_is() {
    use EntryType as E;
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(folder.path()).unwrap();
    let hex = add_source(
        folder.path(),
        &[
            (E::Directory, ".venv/bin/", ""),
            (E::Regular, ".venv/bin/tool", "x"),
            (E::Symlink, "here", ".venv/bin/tool"),
        ],
    );
    let tree = folder.path().join("tree");
    store.unpack_source(&hex, &tree).unwrap();
    let name = "a".repeat(64);
    store.commit(&tree, &name, &[]).unwrap();
    assert!(!tree.exists());
    let image = store.get(&name).unwrap();
    assert_eq!(
        (image.config.working_dir.as_str(), image.config.env.as_slice()),
        ("/app", &["PATH=/app/.venv/bin".to_string()][..])
    );
    assert_eq!(image.entries.len(), 1);
    assert_eq!(image.entries[0].1, "/app");
    assert_eq!(std::fs::read_to_string(image.entries[0].0.join("here")).unwrap(), "x");
    // A second commit of the same name changes nothing.
    std::fs::create_dir(&tree).unwrap();
    store.commit(&tree, &name, &[]).unwrap();
    assert!(tree.exists());
    let missing = store.get(&"b".repeat(64)).unwrap_err();
    assert!(missing.to_string().contains("is not in this node's store"), "{missing}");
    // What an interrupted commit left is gone after the next start.
    std::fs::create_dir_all(folder.path().join("images/.new-x/root")).unwrap();
    ImageStore::open(folder.path()).unwrap();
    assert!(!folder.path().join("images/.new-x").exists());
}

#[test]
fn images_are_collected_by_age_and_size_but_never_when_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(folder.path()).unwrap();
    let now = SystemTime::now();
    let names: Vec<String> = ["a", "b", "c", "d"].iter().map(|letter| letter.repeat(64)).collect();
    for (age, name) in names.iter().enumerate() {
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("file"), vec![0; 1000]).unwrap();
        store.commit(&tree, name, &[]).unwrap();
        let file = std::fs::File::open(folder.path().join("images").join(name).join("image.json")).unwrap();
        file.set_modified(now - Duration::from_secs(86_400 * (age as u64 + 1))).unwrap();
    }
    let day = |days: u64| Duration::from_secs(86_400 * days);
    let left = || names.iter().filter(|name| store.has(name)).map(|name| &name[..1]).collect::<String>();
    let keep = |names: &[&String]| {
        names.iter().map(|name| ImageRef::Build(name.to_string())).collect::<BTreeSet<_>>()
    };
    let policy = Policy { unused_max: day(30), size_bytes_max: 1 << 30, young_max: day(0) };
    assert_eq!(store.collect(&BTreeSet::new(), &policy, now).unwrap().removed, []);
    let old = Policy { unused_max: day(3), ..policy };
    assert_eq!(store.collect(&keep(&[&names[3]]), &old, now).unwrap().size_bytes, 1000);
    assert_eq!(left(), "abd", "c was old; d was older, and named");
    let large = Policy { size_bytes_max: 1500, ..policy };
    store.collect(&keep(&[&names[3]]), &large, now).unwrap();
    assert_eq!(left(), "d", "only a named one stays over the size");
    let young = Policy { size_bytes_max: 0, young_max: day(10), ..policy };
    store.collect(&BTreeSet::new(), &young, now).unwrap();
    assert_eq!(left(), "d", "what is young is left alone");
}
