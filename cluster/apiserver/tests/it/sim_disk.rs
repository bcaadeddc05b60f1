//! A disk in memory that loses what was not synced, as badly as a disk may.
//!
//! Since the last sync each 512-byte sector, the length of each file and each entry of the folder is kept or lost on its
//! own when the power goes. A sync that failed leaves what it was for in the cache: readers see it, no later sync brings
//! it to the disk, and a crash keeps or loses it (Linux marks the pages clean). A killed process loses nothing.
//!
//! Leaves out: sectors that change by themselves (tests do that to an image), renames in several steps.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex};

use dodai_apiserver::store::disk::Disk;

const SECTOR: usize = 512;
/// Up to this many lost or kept things every combination is made; of more a sample.
pub(crate) const ALL_SUBSETS_MAX: usize = 10;

/// The files that are there after a crash.
pub(crate) type Image = BTreeMap<String, Arc<Vec<u8>>>;

/// What a call answers instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The disk is full after this share (of 4, never quite the whole) of what was to be written.
    Full(usize),
    /// An error, and nothing was done.
    Error,
    /// An error after this share (of 4) of what was to be written, or of a rename after it was done.
    Half(usize),
}

#[derive(Clone)]
enum Item {
    Sector { inode: usize, at: usize, bytes: Arc<[u8; SECTOR]> },
    Length { inode: usize, len: usize },
    Entry { name: String, inode: Option<usize> },
}

impl Item {
    fn inode(&self) -> Option<usize> {
        match self {
            Item::Sector { inode, .. } | Item::Length { inode, .. } => Some(*inode),
            Item::Entry { .. } => None,
        }
    }

    /// Whether both are of the same place of the disk.
    fn same_place(&self, other: &Item) -> bool {
        match (self, other) {
            (Item::Sector { inode, at, .. }, Item::Sector { inode: other, at: there, .. }) => {
                (inode, at) == (other, there)
            }
            (Item::Length { inode, .. }, Item::Length { inode: other, .. }) => inode == other,
            (Item::Entry { name, .. }, Item::Entry { name: other, .. }) => name == other,
            _ => false,
        }
    }
}

#[derive(Clone, Default)]
struct Durable {
    sectors: BTreeMap<(usize, usize), Arc<[u8; SECTOR]>>,
    lengths: BTreeMap<usize, usize>,
    entries: BTreeMap<String, usize>,
}

impl Durable {
    fn apply(&mut self, item: &Item) {
        match item {
            Item::Sector { inode, at, bytes } => {
                self.sectors.insert((*inode, *at), bytes.clone());
            }
            Item::Length { inode, len } => {
                self.lengths.insert(*inode, *len);
            }
            Item::Entry { name, inode: Some(inode) } => {
                self.entries.insert(name.clone(), *inode);
            }
            Item::Entry { name, inode: None } => {
                self.entries.remove(name);
            }
        }
    }

    fn image(&self, junk: bool) -> Image {
        let file = |inode: &usize| {
            let len = self.lengths.get(inode).copied().unwrap_or_default();
            let mut content = Vec::with_capacity(len + SECTOR);
            for at in 0..len.div_ceil(SECTOR) {
                match self.sectors.get(&(*inode, at)) {
                    Some(bytes) => content.extend_from_slice(&bytes[..]),
                    // What was never written is empty, or what another file left there.
                    None => content.extend((0..SECTOR).map(|at| if junk { at as u8 ^ 0xa5 } else { 0 })),
                }
            }
            content.truncate(len);
            Arc::new(content)
        };
        self.entries.iter().map(|(name, inode)| (name.clone(), file(inode))).collect()
    }
}

#[derive(Clone, Default)]
struct Files {
    /// Content as processes see it.
    live: Vec<Arc<Vec<u8>>>,
    entries: BTreeMap<String, usize>,
    durable: Durable,
    /// What may be lost, in order, and whether a sync of it failed.
    pending: Vec<(Item, bool)>,
}

impl Files {
    fn push(&mut self, item: Item) {
        self.pending.push((item, false));
    }

    fn used(&self) -> usize {
        self.entries.values().map(|inode| self.live[*inode].len()).sum()
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.entries.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, name: &str) {
        match self.entries.get(name) {
            Some(inode) => {
                self.live[*inode] = Arc::default();
                self.push(Item::Length { inode: *inode, len: 0 });
            }
            None => {
                let inode = self.live.len();
                self.live.push(Arc::default());
                self.entries.insert(name.into(), inode);
                self.push(Item::Length { inode, len: 0 });
                self.push(Item::Entry { name: name.into(), inode: Some(inode) });
            }
        }
    }

    fn append(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let inode = self.inode(name)?;
        let start = self.live[inode].len();
        if data.is_empty() {
            return Ok(());
        }
        Arc::make_mut(&mut self.live[inode]).extend_from_slice(data);
        let content = self.live[inode].clone();
        for at in start / SECTOR..content.len().div_ceil(SECTOR) {
            let mut bytes = [0; SECTOR];
            let part = &content[at * SECTOR..content.len().min((at + 1) * SECTOR)];
            bytes[..part.len()].copy_from_slice(part);
            self.push(Item::Sector { inode, at, bytes: Arc::new(bytes) });
        }
        self.push(Item::Length { inode, len: content.len() });
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.inode(from)?;
        self.entries.remove(from);
        self.entries.insert(to.into(), inode);
        self.push(Item::Entry { name: to.into(), inode: Some(inode) });
        self.push(Item::Entry { name: from.into(), inode: None });
        Ok(())
    }

    /// Makes durable what `is` says; with `failed` it is lost for every later sync.
    fn sync(&mut self, is: impl Fn(&Item) -> bool, failed: bool) {
        let mut left: Vec<(Item, bool)> = Vec::new();
        for (item, stuck) in std::mem::take(&mut self.pending) {
            if !is(&item) || stuck {
                left.push((item, stuck));
            } else if failed {
                left.push((item, true));
            } else {
                left.retain(|(other, _)| !other.same_place(&item));
                self.durable.apply(&item);
            }
        }
        self.pending = left;
    }
}

/// The disk at one moment.
#[derive(Clone)]
pub(crate) struct Moment<T> {
    /// The call that had just been made.
    pub(crate) call: String,
    /// What the probe said.
    pub(crate) seen: T,
    files: Arc<Files>,
}

impl<T> Moment<T> {
    /// What may be there if the power goes now: each thing once, and the sample's seed decides the rest.
    pub(crate) fn images(&self, seed: u64, sample: usize) -> Vec<Image> {
        images(&self.files, seed, sample)
    }
}

fn images(files: &Files, seed: u64, sample: usize) -> Vec<Image> {
    let n = files.pending.len();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut known = HashSet::new();
    let mut images = Vec::new();
    let mut add = |keep: &dyn Fn(usize) -> bool, junk: bool| {
        let mut durable = files.durable.clone();
        for (at, (item, _)) in files.pending.iter().enumerate() {
            if keep(at) {
                durable.apply(item);
            }
        }
        let image = durable.image(junk);
        if known.insert(digest(&image)) {
            images.push(image);
        }
    };
    if n <= ALL_SUBSETS_MAX {
        for subset in 0_u32..1 << n {
            add(&|at| subset & 1 << at != 0, false);
        }
        add(&|at| files.pending[at].0.inode().is_none(), true);
        return images;
    }
    add(&|_| true, false);
    add(&|_| false, false);
    for _ in 0..sample {
        let share = random.u8(1..8);
        let kept: Vec<bool> = (0..n).map(|_| random.u8(..8) < share).collect();
        add(&|at| kept[at], random.bool());
    }
    images
}

pub(crate) fn digest(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, content) in image {
        // Checksums are quick, also in a build for tests.
        (name, content.len(), crc32c::crc32c(content)).hash(&mut hasher);
    }
    hasher.finish()
}

type Probe<T> = Box<dyn Fn() -> T + Send>;

struct State<T> {
    files: Files,
    n_calls: usize,
    fault: Option<(usize, Fault)>,
    /// The call at which the fault struck.
    struck: Option<String>,
    probe: Option<Probe<T>>,
    moments: Vec<Moment<T>>,
    /// The machine is off: every call fails.
    off: bool,
    /// Bytes that all files together may have.
    space: usize,
}

/// The disk. Clones are one disk; `T` is what the probe of a test notes at each call.
pub(crate) struct SimDisk<T = ()>(Arc<Mutex<State<T>>>);

impl<T> Clone for SimDisk<T> {
    fn clone(&self) -> Self {
        SimDisk(self.0.clone())
    }
}

impl<T> fmt::Debug for SimDisk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl<T> Default for SimDisk<T> {
    fn default() -> Self {
        SimDisk::of(&Image::new())
    }
}

impl<T> SimDisk<T> {
    /// A disk with these files, all durable.
    pub(crate) fn of(image: &Image) -> SimDisk<T> {
        let mut files = Files::default();
        for (name, content) in image {
            files.create(name);
            files.append(name, content).expect("it was just made");
        }
        files.sync(|_| true, false);
        SimDisk(Arc::new(Mutex::new(State {
            files,
            n_calls: 0,
            fault: None,
            struck: None,
            probe: None,
            moments: Vec::new(),
            off: false,
            space: usize::MAX,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.0.lock().unwrap()
    }

    /// From now on each call leaves a moment, with what `probe` says.
    pub(crate) fn record(&self, probe: impl Fn() -> T + Send + 'static) {
        self.state().probe = Some(Box::new(probe));
    }

    pub(crate) fn take_moments(&self) -> Vec<Moment<T>> {
        std::mem::take(&mut self.state().moments)
    }

    /// Adds moments of an earlier disk.
    pub(crate) fn put_moments(&self, moments: Vec<Moment<T>>) {
        self.state().moments.splice(..0, moments);
    }

    /// Makes one call fail.
    pub(crate) fn fail_at(&self, call: usize, fault: Fault) {
        self.state().fault = Some((call, fault));
    }

    /// The call that failed.
    pub(crate) fn struck(&self) -> Option<String> {
        self.state().struck.clone()
    }

    pub(crate) fn n_calls(&self) -> usize {
        self.state().n_calls
    }

    /// How many bytes all files together may have from now on.
    pub(crate) fn set_space(&self, bytes: usize) {
        self.state().space = bytes;
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> usize {
        self.live().values().map(|content| content.len()).sum()
    }

    /// Switches the machine off, and gives what is on the disk afterwards.
    pub(crate) fn power_off(&self, seed: u64) -> Image {
        let mut state = self.state();
        state.off = true;
        let images = images(&state.files, seed, 4);
        images[fastrand::Rng::with_seed(seed).usize(..images.len())].clone()
    }

    /// All that may be there if the power goes now.
    pub(crate) fn images(&self, seed: u64, sample: usize) -> Vec<Image> {
        images(&self.state().files, seed, sample)
    }

    /// What processes see.
    pub(crate) fn live(&self) -> Image {
        let state = self.state();
        let files = &state.files;
        files.entries.iter().map(|(name, inode)| (name.clone(), files.live[*inode].clone())).collect()
    }

    fn call<R>(
        &self,
        what: &str,
        name: &str,
        len: usize,
        act: impl FnOnce(&mut Files, Option<Fault>) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut state = self.state();
        if state.off {
            return Err(io::Error::other("the machine is off"));
        }
        let at = state.n_calls;
        state.n_calls += 1;
        let mut fault = state.fault.filter(|(call, _)| *call == at).map(|(_, fault)| fault);
        if len > 0 && state.files.used() + len > state.space {
            fault = Some(Fault::Full(1));
        }
        if fault.is_some() {
            state.struck = Some(format!("{what} {name}"));
        }
        let result = act(&mut state.files, fault);
        let failed = if fault.is_some() { " (failed)" } else { "" };
        if let Some(probe) = &state.probe {
            let moment = Moment {
                call: format!("{at}: {what} {name}{failed}"),
                seen: probe(),
                files: Arc::new(state.files.clone()),
            };
            state.moments.push(moment);
        }
        result
    }

    fn simple(
        &self,
        what: &str,
        name: &str,
        act: impl FnOnce(&mut Files) -> io::Result<()>,
    ) -> io::Result<()> {
        self.call(what, name, 0, |files, fault| match fault {
            None => act(files),
            Some(Fault::Half(_)) => act(files).and(Err(broken())),
            Some(Fault::Full(_)) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Error) => Err(broken()),
        })
    }
}

fn broken() -> io::Error {
    io::Error::other("input/output error")
}

impl<T: Send + 'static> Disk for SimDisk<T> {
    fn create(&self, name: &str) -> io::Result<()> {
        self.simple("create", name, |files| {
            files.create(name);
            Ok(())
        })
    }

    fn append(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.call("append", name, data.len(), |files, fault| {
            let part = |quarters: usize| &data[..data.len() * quarters / 4];
            let short = |quarters: usize| &data[..(data.len() * quarters / 4).min(data.len().max(1) - 1)];
            match fault {
                None => files.append(name, data),
                Some(Fault::Error) => Err(broken()),
                Some(Fault::Half(quarters)) => files.append(name, part(quarters)).and(Err(broken())),
                Some(Fault::Full(quarters)) => {
                    files.append(name, short(quarters)).and(Err(io::ErrorKind::StorageFull.into()))
                }
            }
        })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.call("read", name, 0, |files, fault| match fault {
            Some(_) => Err(broken()),
            None => Ok(files.live[files.inode(name)?].to_vec()),
        })
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.simple("truncate", name, |files| {
            let inode = files.inode(name)?;
            Arc::make_mut(&mut files.live[inode]).truncate(len as usize);
            files.push(Item::Length { inode, len: len as usize });
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.call("sync", name, 0, |files, fault| {
            let inode = files.inode(name)?;
            files.sync(|item| item.inode() == Some(inode), fault.is_some());
            if fault.is_some() { Err(broken()) } else { Ok(()) }
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.simple("rename", from, |files| files.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.simple("remove", name, |files| {
            if files.entries.remove(name).is_some() {
                files.push(Item::Entry { name: name.into(), inode: None });
            }
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call("sync_dir", "", 0, |files, fault| {
            files.sync(|item| item.inode().is_none(), fault.is_some());
            if fault.is_some() { Err(broken()) } else { Ok(()) }
        })
    }
}
