//! Damage to files that were written and synced: every flipped bit is found or harmless, also in the last group and before
//! the log is sealed; larger damage once it is sealed; files that are missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_apiserver::store::disk::Disk;
use dodai_apiserver::store::seal::SealKey;
use dodai_apiserver::store::{Change, Key, LogError, Steps, Store, StoreError};
use futures::FutureExt;
use serde_json::{Value, json};

use super::crash::{Checked, chain, setup};
use super::sim_disk::{Image, SimDisk};

struct Sample {
    image: Image,
    state: BTreeMap<Key, Value>,
}

fn write(store: &Store, steps: &mut Steps, name: &str, len: usize) {
    let key = Key::new(&"core/configmaps".into(), "default", name);
    let value = json!({ "metadata": { "name": name }, "data": { "k": "v".repeat(len) } });
    let mut write = Box::pin(store.write(&key, |_, _| Ok::<_, StoreError>(Change::Put(value))));
    assert!(write.as_mut().now_or_never().is_none());
    steps.step();
    write.now_or_never().expect("it was written").unwrap();
}

fn state(store: &Store) -> BTreeMap<Key, Value> {
    store.all().into_iter().map(|(key, object)| (key, object.value())).collect()
}

/// Without a seal, sealed, with a snapshot and a log behind it.
fn samples(keys: &[SealKey]) -> [Sample; 3] {
    let disk: SimDisk = SimDisk::default();
    let (store, mut steps) = Store::open_in_steps(Arc::new(disk.clone()), &setup(keys)).unwrap();
    let sample = |disk: &SimDisk, state| {
        let mut image = disk.live();
        image.remove("reserve");
        Sample { image, state }
    };
    for n in 0..3 {
        write(&store, &mut steps, &format!("m{n}"), 10 + 300 * n);
    }
    let unsealed = sample(&disk, state(&store));
    steps.step();
    let sealed = sample(&disk, state(&store));
    for n in 0..4 {
        write(&store, &mut steps, &format!("m{n}"), 900);
    }
    write(&store, &mut steps, "last", 700);
    write(&store, &mut steps, "last", 100);
    steps.close();
    let with_snapshot = sample(&disk, state(&store));
    assert!(with_snapshot.image.contains_key("snapshot") && with_snapshot.image["log"].len() > 300);
    [unsealed, sealed, with_snapshot]
}

/// Opens a damaged image: refused with the file, or the whole state is there.
fn look(image: &Image, sample: &Sample, keys: &[SealKey], what: &dyn Fn() -> String) -> Checked<bool> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::<()>::of(image));
    match Store::open_in_steps(disk, &setup(keys)) {
        Err(LogError::Corrupt { .. } | LogError::Version { .. }) => Ok(true),
        Err(other) => Err(format!("{}: {}", what(), chain(&other))),
        Ok((store, _)) if state(&store) == sample.state => Ok(false),
        Ok((store, _)) => Err(format!(
            "{}: it opens with {} objects at revision {}",
            what(),
            store.all().len(),
            store.revision()
        )),
    }
}

/// How much damage was tried and how much of it was found; all bits of every `step`th byte.
pub(crate) fn damage(step: usize) -> Checked<(usize, usize)> {
    let keys = [SealKey::generate()];
    let (mut n_tried, mut n_found) = (0, 0);
    let samples = samples(&keys);
    for (which, sample) in samples.iter().enumerate() {
        for (file, content) in &sample.image {
            for at in (0..content.len()).step_by(step) {
                for bit in 0..8 {
                    let mut damaged = content.to_vec();
                    damaged[at] ^= 1 << bit;
                    let mut image = sample.image.clone();
                    image.insert(file.clone(), Arc::new(damaged));
                    let what = || format!("sample {which}: bit {bit} of byte {at} of `{file}` flipped");
                    n_found += usize::from(look(&image, sample, &keys, &what)?);
                    n_tried += 1;
                }
            }
            if which == 0 {
                continue;
            }
            for at in (0..content.len().saturating_sub(16)).step_by(16 * step) {
                let mut damaged = content.to_vec();
                damaged[at..at + 16].fill(0x6b);
                let mut image = sample.image.clone();
                image.insert(file.clone(), Arc::new(damaged));
                let what = || format!("sample {which}: 16 bytes at {at} of `{file}` smeared");
                n_found += usize::from(look(&image, sample, &keys, &what)?);
                n_tried += 1;
            }
        }
    }
    let last = &samples[2];
    for file in last.image.keys() {
        let mut image = last.image.clone();
        image.remove(file);
        let what = || match &**file {
            "snapshot" => "the log without its snapshot".to_owned(),
            other => format!("without `{other}`"),
        };
        if !look(&image, last, &keys, &what)? {
            return Err(format!("{}: nobody noticed", what()));
        }
        n_found += 1;
        n_tried += 1;
    }
    Ok((n_tried, n_found))
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let started = std::time::Instant::now();
    let (n_tried, n_found) = damage(1).unwrap();
    println!("{n_tried} damages, {n_found} found, {:?}", started.elapsed());
    assert!(n_found > 50_000 && n_tried > n_found);
}
