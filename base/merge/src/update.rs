//! Ownership of fields: what an apply and an ordinary update do to an object and to its managers.
//!
//! A manager is known by any ordered key `K`; [`crate::managed`] puts the entries of `managedFields` on top. Objects
//! are in the version of the request; the sets of managers that wrote in other versions are judged on the object
//! converted to their version.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fields::{Matcher, Path, Set};
use crate::typed::{self, Comparison, Typed};

/// Converts objects between API versions.
pub trait Converter {
    /// The object in `version` (`group/version`). The schema of the result is that version's.
    fn convert(&self, object: &Typed, version: &str) -> Result<Typed, ConvertError>;
}

/// Why an object cannot be had in another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The version is not (or no longer) served: its managers are forgotten.
    #[error("version `{0}` is not known")]
    MissingVersion(String),
    /// Fails the whole operation.
    #[error("{0}")]
    Other(String),
}

/// All versions look alike. Right for a kind with one version, and for CRDs without a conversion webhook whose
/// versions have the same schema.
#[derive(Debug, Clone, Copy, Default)]
pub struct SameInAllVersions;

impl Converter for SameInAllVersions {
    fn convert(&self, object: &Typed, version: &str) -> Result<Typed, ConvertError> {
        Ok(Typed { version: version.into(), ..object.clone() })
    }
}

/// What one manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub set: Set,
    /// `group/version` that the set was made in.
    pub version: Arc<str>,
    /// By apply, not by update: dropped fields are removed.
    pub applied: bool,
}

pub type Managers<K> = BTreeMap<K, Owned>;

/// What differs between two states of the managers: of a manager in both, the fields that only one of them has, or
/// all of the right ones if it changed its version.
pub fn difference<K: Ord + Clone>(left: &Managers<K>, right: &Managers<K>) -> Managers<K> {
    let mut result = Managers::new();
    for (manager, owned) in left.iter().chain(right) {
        let owned = match (left.get(manager), right.get(manager)) {
            (Some(left), Some(right)) if left.version == right.version => {
                let set = left.set.difference(&right.set).union(&right.set.difference(&left.set));
                Owned { set, ..right.clone() }
            }
            (_, Some(right)) => right.clone(),
            _ => owned.clone(),
        };
        if !owned.set.is_empty() {
            result.insert(manager.clone(), owned);
        }
    }
    result
}

/// Fields that nobody owns, for one version.
#[derive(Debug, Clone)]
pub enum Ignored {
    /// These fields and what is below them.
    Fields(Set),
    /// All but what the matcher keeps.
    AllBut(Matcher),
}

impl Ignored {
    fn filter(&self, set: &Set) -> Set {
        match self {
            Ignored::Fields(fields) => set.recursive_difference(fields),
            Ignored::AllBut(matcher) => matcher.filter(set),
        }
    }
}

/// A field that the manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict<K> {
    pub manager: K,
    pub path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<K: std::fmt::Debug> {
    /// Sorted by manager, then as [`Set::paths`] lists them.
    #[error("{} fields are owned by others", .0.len())]
    Conflicts(Vec<Conflict<K>>),
    #[error("failed to convert object")]
    Convert(#[from] ConvertError),
    #[error("object does not fit its schema")]
    Typed(#[from] typed::Error),
}

/// What others lose by a write.
struct Seen {
    /// Added and modified.
    changed: Set,
    removed: Set,
}

impl Seen {
    fn of(comparison: &Comparison) -> Seen {
        Seen { changed: comparison.modified.union(&comparison.added), removed: comparison.removed.clone() }
    }
}

/// The algorithm, with what does not change between operations on a kind.
#[derive(Clone, Copy)]
pub struct Updater<'a> {
    pub converter: &'a dyn Converter,
    /// By version; a version without an entry ignores nothing.
    pub ignored: &'a BTreeMap<Arc<str>, Ignored>,
}

impl Updater<'_> {
    /// `new` replaces `live`: `manager` comes to own what changed, the others lose it.
    pub fn update<K: Ord + Clone + std::fmt::Debug>(
        &self,
        live: &Typed,
        new: &Typed,
        managers: &Managers<K>,
        manager: &K,
    ) -> Result<Managers<K>, Error<K>> {
        let managers = self.reconcile(live, managers)?;
        let (mut managers, comparison) = self.transfer(live, new, managers, manager, true)?;
        let version = new.version.clone();
        let before = managers.remove(manager).map(|owned| owned.set).unwrap_or_default();
        let mut set = before.difference(&comparison.removed);
        set.extend(&comparison.modified);
        set.extend(&comparison.added);
        let set = self.filter(&set, &version).into_owned();
        if !set.is_empty() {
            managers.insert(manager.clone(), Owned { set, version, applied: false });
        }
        Ok(managers)
    }

    /// `config` is what `manager` wants: it is laid over `live`, and what the manager applied before but no longer
    /// wants is removed unless somebody else owns it. Returns the new object, `None` if it equals `live`.
    pub fn apply<K: Ord + Clone + std::fmt::Debug>(
        &self,
        live: &Typed,
        config: &Typed,
        managers: &Managers<K>,
        manager: &K,
        force: bool,
    ) -> Result<(Option<Typed>, Managers<K>), Error<K>> {
        let mut managers = self.reconcile(live, managers)?;
        let version = config.version.clone();
        let merged = live.merge(config)?;
        let set = self.filter(&config.to_set(), &version).into_owned();
        let owned = Owned { set, version, applied: true };
        let last = managers.insert(manager.clone(), owned);
        let new = match last {
            Some(last) if !last.set.is_empty() => self.prune(&merged, &managers, &last, &config.version)?,
            _ => merged,
        };
        let (managers, _) = self.transfer(live, &new, managers, manager, force)?;
        Ok(((!live.equals(&new)).then_some(new), managers))
    }

    /// Everybody but `manager` loses what the way from `old` to `new` changes; without `force` that is a conflict
    /// (except for what is removed).
    fn transfer<K: Ord + Clone + std::fmt::Debug>(
        &self,
        old: &Typed,
        new: &Typed,
        managers: Managers<K>,
        manager: &K,
        force: bool,
    ) -> Result<(Managers<K>, Comparison), Error<K>> {
        // What changed as each version sees it; `None` if there is no such version.
        let mut seen: BTreeMap<Arc<str>, Option<Seen>> = BTreeMap::new();
        let own = self.filtered(old.compare(new)?, &new.version);
        let mut kept = Managers::new();
        let mut conflicts = Vec::new();
        for (other, owned) in managers {
            if other == *manager {
                kept.insert(other, owned);
                continue;
            }
            if !seen.contains_key(&owned.version) {
                let comparison = match owned.version == new.version {
                    true => Some(Seen::of(&own)),
                    false => self.compare_in(old, new, &owned.version)?.as_ref().map(Seen::of),
                };
                seen.insert(owned.version.clone(), comparison);
            }
            // A version that is gone takes its managers with it.
            let Some(Some(seen)) = seen.get(&owned.version) else { continue };
            let taken = owned.set.intersection(&seen.changed);
            if !force {
                let conflicting = taken.paths().into_iter();
                conflicts.extend(conflicting.map(|path| Conflict { manager: other.clone(), path }));
            }
            if taken.is_empty() && seen.removed.is_empty() {
                kept.insert(other, owned);
                continue;
            }
            let mut set = owned.set.difference(&taken);
            if !seen.removed.is_empty() {
                set = set.difference(&seen.removed);
            }
            kept.insert(other, Owned { set, ..owned });
        }
        if !conflicts.is_empty() {
            return Err(Error::Conflicts(conflicts));
        }
        kept.retain(|_, owned| !owned.set.is_empty());
        Ok((kept, own))
    }

    /// The comparison as another version sees it; `None` if there is no such version.
    fn compare_in<K: std::fmt::Debug>(
        &self,
        old: &Typed,
        new: &Typed,
        version: &Arc<str>,
    ) -> Result<Option<Comparison>, Error<K>> {
        let (Some(old), Some(new)) = (self.convert(old, version)?, self.convert(new, version)?) else {
            return Ok(None);
        };
        Ok(Some(self.filtered(old.compare(&new)?, version)))
    }

    /// `merged` without what the manager applied last time (`last`) and nobody owns now. `managers` already holds what
    /// the manager wants this time.
    fn prune<K: Ord + Clone + std::fmt::Debug>(
        &self,
        merged: &Typed,
        managers: &Managers<K>,
        last: &Owned,
        version: &Arc<str>,
    ) -> Result<Typed, Error<K>> {
        let Some(converted) = self.convert(merged, &last.version)? else { return Ok(merged.clone()) };
        let gone = last.set.with_named_parents(&converted.schema, converted.schema.root());
        let pruned = converted.without(&gone);
        let pruned = self.add_back_owned(&converted, pruned, &last.version, managers)?;
        let pruned = self.add_back_dangling(&converted, &pruned, last)?;
        match self.convert(&pruned, version)? {
            Some(pruned) => Ok(pruned),
            None => Err(ConvertError::MissingVersion(version.to_string()).into()),
        }
    }

    /// Puts back what was pruned but somebody owns.
    fn add_back_owned<K: Ord + Clone + std::fmt::Debug>(
        &self,
        merged: &Typed,
        pruned: Typed,
        pruned_version: &Arc<str>,
        managers: &Managers<K>,
    ) -> Result<Typed, Error<K>> {
        let mut by_version: BTreeMap<Arc<str>, Set> = BTreeMap::new();
        for owned in managers.values() {
            by_version.entry(owned.version.clone()).or_default().extend(&owned.set);
        }
        let (mut merged, mut pruned) = (merged.clone(), pruned);
        // The version at hand first: a conversion may need fields that were pruned.
        if let Some(owned) = by_version.remove(pruned_version) {
            (merged, pruned) = self.add_back_in(merged, pruned, pruned_version, &owned)?;
        }
        for (version, owned) in &by_version {
            (merged, pruned) = self.add_back_in(merged, pruned, version, owned)?;
        }
        Ok(pruned)
    }

    fn add_back_in<K: std::fmt::Debug>(
        &self,
        merged: Typed,
        pruned: Typed,
        version: &Arc<str>,
        owned: &Set,
    ) -> Result<(Typed, Typed), Error<K>> {
        let Some(merged_there) = self.convert(&merged, version)? else { return Ok((merged, pruned)) };
        let Some(pruned_there) = self.convert(&pruned, version)? else { return Ok((merged_there, pruned)) };
        let (schema, root) = (&merged_there.schema, merged_there.schema.root());
        let all = merged_there.to_set().with_named_parents(schema, root);
        let mut stays = pruned_there.to_set().with_named_parents(schema, root);
        stays.extend(&owned.with_named_parents(schema, root));
        let pruned = merged_there.without(&all.difference(&stays));
        Ok((merged_there, pruned))
    }

    /// Puts back what pruning removed although the manager had not applied it: what nobody owns stays.
    fn add_back_dangling<K: std::fmt::Debug>(
        &self,
        merged: &Typed,
        pruned: &Typed,
        last: &Owned,
    ) -> Result<Typed, Error<K>> {
        let Some(pruned) = self.convert(pruned, &last.version)? else { return Ok(merged.clone()) };
        let (schema, root) = (&merged.schema, merged.schema.root());
        let pruned = pruned.to_set().with_named_parents(schema, root);
        let all = merged.to_set().with_named_parents(schema, root);
        let last = last.set.with_named_parents(schema, root);
        Ok(merged.without(&all.difference(&pruned).intersection(&last)))
    }

    /// Fits the managers' sets to the schema of today.
    fn reconcile<K: Ord + Clone + std::fmt::Debug>(
        &self,
        live: &Typed,
        managers: &Managers<K>,
    ) -> Result<Managers<K>, Error<K>> {
        let mut result = Managers::new();
        for (manager, owned) in managers {
            let mut owned = owned.clone();
            // A version that is gone is dealt with when the fields move.
            if let Some(live) = self.convert(live, &owned.version)?
                && let Some(set) = live.reconcile(&owned.set)?
            {
                owned.set = set;
            }
            result.insert(manager.clone(), owned);
        }
        Ok(result)
    }

    /// `None`: there is no such version.
    fn convert(&self, object: &Typed, version: &Arc<str>) -> Result<Option<Typed>, ConvertError> {
        match self.converter.convert(object, version) {
            Ok(converted) => Ok(Some(converted)),
            Err(ConvertError::MissingVersion(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn filter<'s>(&self, set: &'s Set, version: &Arc<str>) -> Cow<'s, Set> {
        match self.ignored.get(version) {
            Some(ignored) => Cow::Owned(ignored.filter(set)),
            None => Cow::Borrowed(set),
        }
    }

    fn filtered(&self, comparison: Comparison, version: &Arc<str>) -> Comparison {
        match self.ignored.get(version) {
            Some(ignored) => comparison.map(|set| ignored.filter(set)),
            None => comparison,
        }
    }
}
