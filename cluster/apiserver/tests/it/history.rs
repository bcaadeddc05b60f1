//! Checkers: what clients saw against the log as the witness. No search is needed, since the log says in which order the
//! writes happened (rules 1-4 and the watch rules of etcd's contract).
//!
//! Writes: an acknowledged one is in the log at its revision; one that ended before another began has the smaller revision;
//! one that was refused does not occur, any other at most once. Reads: equal the replay of the log at their revision, and
//! are no older than what had ended before they began. Watches: ordered, unique, atomic, reliable, resumable, true
//! bookmarks, right old value, right filter.

use std::collections::BTreeMap;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Acknowledged,
    RealTime,
    Read,
    Stale,
    AtMostOnce,
    Refused,
    Ordered,
    Unique,
    Atomic,
    Reliable,
    Resumable,
    Bookmark,
    OldValue,
    Filter,
}

type Checked = Result<(), (Rule, String)>;

/// A state of an object: who wrote it, and whether the selector picks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) token: String,
    pub(crate) picked: bool,
    pub(crate) revision: u64,
}

pub(crate) type State = BTreeMap<String, Object>;

/// A change in the log; without a state it is a deletion.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) state: Option<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged(u64),
    /// The object with this uid is gone.
    Deleted(String),
    Refused,
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Write { token: String, outcome: Outcome },
    Get(Option<Object>),
    List { revision: u64, state: State },
}

/// What a client did, between two moments of a clock that all share.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) name: String,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Added,
    Modified,
    Deleted,
}

/// What a watcher saw.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// It starts with this state; `streamed`: sent as events with a bookmark at their end.
    Start {
        revision: u64,
        state: State,
        streamed: bool,
    },
    Event {
        kind: Kind,
        name: String,
        object: Object,
    },
    Bookmark(u64),
    /// The connection ended, and the watch went on after what was seen last.
    Resumed,
}

#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// Whether it asked for picked objects only.
    pub(crate) picky: bool,
    pub(crate) seen: Vec<Seen>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) log: Vec<Entry>,
    pub(crate) ops: Vec<Op>,
    pub(crate) watches: Vec<Watch>,
}

impl History {
    pub(crate) fn check(&self) -> Checked {
        self.check_writes()?;
        self.check_times()?;
        for watch in &self.watches {
            self.check_watch(watch)?;
        }
        Ok(())
    }

    fn replay(&self, revision: u64) -> State {
        let mut state = State::new();
        for entry in self.log.iter().take_while(|entry| entry.revision <= revision) {
            entry.apply(&mut state);
        }
        state
    }

    /// The revision that a write made, if that is known.
    fn revision(&self, op: &Op) -> Option<u64> {
        match &op.what {
            What::Write { outcome: Outcome::Acknowledged(revision), .. } => Some(*revision),
            What::Write { outcome: Outcome::Deleted(uid), .. } => {
                let gone =
                    |entry: &&Entry| entry.state.is_none() && entry.uid == *uid && entry.name == op.name;
                self.log.iter().find(gone).map(|entry| entry.revision)
            }
            _ => None,
        }
    }

    fn check_writes(&self) -> Checked {
        let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for entry in &self.log {
            if let Some(object) = &entry.state {
                times.entry(&object.token).or_default().push(entry.revision);
            }
        }
        for op in &self.ops {
            let What::Write { token, outcome } = &op.what else { continue };
            let found = times.get(&**token).map(Vec::as_slice).unwrap_or_default();
            if found.len() > 1 {
                return Err((Rule::AtMostOnce, format!("{op:?} is in the log at {found:?}")));
            }
            match outcome {
                Outcome::Acknowledged(revision) => {
                    let at = self.log.iter().find(|entry| entry.revision == *revision);
                    if found != [*revision] || at.is_none_or(|entry| entry.name != op.name) {
                        return Err((Rule::Acknowledged, format!("{op:?} is in the log at {found:?}")));
                    }
                }
                Outcome::Deleted(_) if self.revision(op).is_none() => {
                    return Err((Rule::Acknowledged, format!("{op:?} is not in the log")));
                }
                Outcome::Refused if !found.is_empty() => {
                    return Err((Rule::Refused, format!("{op:?} is in the log at {found:?}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Checked {
        // Every moment once: at the end of an operation its revision is known, at a beginning what is known then counts.
        let mut moments: Vec<(u64, bool, &Op)> =
            self.ops.iter().flat_map(|op| [(op.begin, false, op), (op.end, true, op)]).collect();
        moments.sort_by_key(|moment| (moment.0, moment.1));
        let (mut known, mut known_at) = (0, BTreeMap::new());
        for (time, is_end, op) in &moments {
            if !is_end {
                known_at.insert(*time, known);
                continue;
            }
            let revision = match &op.what {
                What::Write { .. } => self.revision(op),
                What::Get(found) => found.as_ref().map(|object| object.revision),
                What::List { revision, .. } => Some(*revision),
            };
            known = known.max(revision.unwrap_or_default());
        }
        for op in &self.ops {
            let known = known_at[&op.begin];
            match &op.what {
                What::Write { .. } => {
                    if let Some(revision) = self.revision(op).filter(|revision| *revision <= known) {
                        return Err((
                            Rule::RealTime,
                            format!("{op:?} made {revision}, and {known} was known before"),
                        ));
                    }
                }
                What::List { revision, .. } if *revision < known => {
                    return Err((Rule::Stale, format!("{op:?} began when {known} was known")));
                }
                What::List { revision, state } => {
                    let expected = self.replay(*revision);
                    if *state != expected {
                        return Err((
                            Rule::Read,
                            format!("{op:?} at {revision}, where the log has {expected:?}"),
                        ));
                    }
                }
                What::Get(found) => self.check_get(op, found.as_ref(), known)?,
            }
        }
        Ok(())
    }

    fn check_get(&self, op: &Op, found: Option<&Object>, known: u64) -> Checked {
        let mut own = self.log.iter().filter(|entry| entry.name == op.name);
        match found {
            Some(object) => {
                if !own.clone().any(|entry| entry.state.as_ref() == Some(object)) {
                    return Err((Rule::Read, format!("{op:?} is not in the log")));
                }
                if let Some(later) =
                    own.find(|entry| entry.revision > object.revision && entry.revision <= known)
                {
                    return Err((Rule::Stale, format!("{op:?}, and {later:?} was known")));
                }
            }
            None => {
                // Absent at some moment from what was known on, but before anything that began later.
                let later = self.ops.iter().filter(|later| later.begin > op.end);
                let end = later.filter_map(|later| self.revision(later)).min().unwrap_or(u64::MAX);
                let there = self.replay(known).contains_key(&op.name);
                let gone =
                    |entry: &Entry| entry.revision > known && entry.revision < end && entry.state.is_none();
                if there && !own.any(gone) {
                    return Err((Rule::Stale, format!("{op:?}, and it was there at {known}")));
                }
            }
        }
        Ok(())
    }

    /// What a watch from a revision on should see.
    fn expected(&self, from: u64, picky: bool) -> Vec<(Kind, String, Object)> {
        let mut state = self.replay(from);
        let mut expected = Vec::new();
        for entry in self.log.iter().filter(|entry| entry.revision > from) {
            let shown = |object: Option<&Object>| object.filter(|object| object.picked || !picky).cloned();
            let before = shown(state.get(&entry.name));
            let after = shown(entry.state.as_ref());
            entry.apply(&mut state);
            let name = entry.name.clone();
            match (before, after) {
                (None, None) => {}
                (None, Some(object)) => expected.push((Kind::Added, name, object)),
                (Some(_), Some(object)) => expected.push((Kind::Modified, name, object)),
                // The last state that was shown, at the revision that ended it.
                (Some(old), None) => {
                    expected.push((Kind::Deleted, name, Object { revision: entry.revision, ..old }));
                }
            }
        }
        expected
    }

    fn check_watch(&self, watch: &Watch) -> Checked {
        let mut expected = Vec::new().into_iter().peekable();
        let (mut last, mut promised, mut resumed) = (0, 0, false);
        for seen in &watch.seen {
            match seen {
                Seen::Start { revision, state, streamed } => {
                    let mut right = self.replay(*revision);
                    right.retain(|_, object| object.picked || !watch.picky);
                    if *state != right {
                        let rule = if *streamed { Rule::Bookmark } else { Rule::Read };
                        return Err((rule, format!("{seen:?}, where the log has {right:?}")));
                    }
                    expected = self.expected(*revision, watch.picky).into_iter().peekable();
                    (last, promised) = (*revision, *revision);
                }
                Seen::Resumed => resumed = true,
                Seen::Bookmark(revision) => {
                    if *revision < last {
                        return Err((Rule::Ordered, format!("bookmark {revision} after {last}")));
                    }
                    if let Some(missing) = expected.next_if(|(_, _, object)| object.revision <= *revision) {
                        return Err((Rule::Bookmark, format!("bookmark {revision} before {missing:?}")));
                    }
                    promised = *revision;
                }
                Seen::Event { kind, name, object } => {
                    let revision = object.revision;
                    let tell = |rule, what: String| Err((rule, format!("{seen:?}: {what}")));
                    if revision == last {
                        return tell(Rule::Unique, "a second time".into());
                    }
                    if revision < last {
                        return tell(Rule::Ordered, format!("after {last}"));
                    }
                    if revision <= promised {
                        return tell(Rule::Bookmark, format!("after the bookmark {promised}"));
                    }
                    let Some((right_kind, right_name, right)) = expected.peek().cloned() else {
                        return tell(self.stranger(revision), "nothing was to come".into());
                    };
                    if right.revision < revision {
                        let rule = if resumed { Rule::Resumable } else { Rule::Reliable };
                        return tell(rule, format!("{right_kind:?} {right_name} {right:?} is missing"));
                    }
                    if right.revision > revision {
                        return tell(self.stranger(revision), format!("{right:?} was to come"));
                    }
                    if *kind != right_kind || *name != right_name {
                        return tell(Rule::Filter, format!("{right_kind:?} {right_name} was to come"));
                    }
                    if *object != right {
                        let rule = if *kind == Kind::Deleted { Rule::OldValue } else { Rule::Atomic };
                        return tell(rule, format!("{right:?} was to come"));
                    }
                    expected.next();
                    (last, resumed) = (revision, false);
                }
            }
        }
        match expected.peek() {
            Some(missing) => Err((Rule::Reliable, format!("{missing:?} never came"))),
            None => Ok(()),
        }
    }

    /// What it means that an event came which was not to come.
    fn stranger(&self, revision: u64) -> Rule {
        if self.log.iter().any(|entry| entry.revision == revision) { Rule::Filter } else { Rule::Atomic }
    }
}

impl Entry {
    fn apply(&self, state: &mut State) {
        match &self.state {
            Some(object) => state.insert(self.name.clone(), object.clone()),
            None => state.remove(&self.name),
        };
    }
}

/// Each rule finds what breaks it in a history that is sound otherwise. Takes a history with all kinds of operations.
pub(crate) fn doctor(sound: &History) {
    sound.check().unwrap();
    let try_out = |rules: &[Rule], change: &dyn Fn(&mut History)| {
        let mut history = sound.clone();
        change(&mut history);
        match history.check() {
            Ok(()) => panic!("{rules:?}: nothing was found"),
            Err((found, what)) => assert!(rules.contains(&found), "{found:?} for {rules:?}: {what}"),
        }
    };
    let acknowledged: Vec<(usize, u64)> = sound
        .ops
        .iter()
        .enumerate()
        .filter_map(|(at, op)| match op.what {
            What::Write { outcome: Outcome::Acknowledged(revision), .. } => Some((at, revision)),
            _ => None,
        })
        .collect();
    let (middle, revision) = acknowledged[acknowledged.len() / 2];
    let entry = |log: &[Entry], revision| log.iter().position(|entry| entry.revision == revision).unwrap();

    try_out(&[Rule::Acknowledged], &|history| {
        let at = entry(&history.log, revision);
        history.log.remove(at);
    });
    try_out(&[Rule::Acknowledged], &|history| {
        let at = entry(&history.log, revision);
        history.log[at].state.as_mut().unwrap().token = "other".into();
    });
    let deleted = |op: &Op| matches!(op.what, What::Write { outcome: Outcome::Deleted(_), .. });
    try_out(&[Rule::Acknowledged], &|history| {
        let op = history.ops.iter().find(|op| deleted(op)).unwrap();
        let revision = history.revision(op).unwrap();
        history.log.retain(|entry| entry.revision != revision);
    });
    try_out(&[Rule::RealTime, Rule::Stale], &|history| {
        // The last write ended, it says, before an early one began.
        let begin = history.ops[middle].begin;
        let (late, _) = *acknowledged.iter().max_by_key(|(_, revision)| *revision).unwrap();
        (history.ops[late].begin, history.ops[late].end) = (begin - 2, begin - 1);
    });
    try_out(&[Rule::AtMostOnce], &|history| {
        let mut again = history.log[entry(&history.log, revision)].clone();
        again.revision = history.log.last().unwrap().revision + 1;
        if let What::Write { outcome, .. } = &mut history.ops[middle].what {
            *outcome = Outcome::Unknown;
        }
        history.log.push(again);
    });
    try_out(&[Rule::Refused], &|history| {
        if let What::Write { outcome, .. } = &mut history.ops[middle].what {
            *outcome = Outcome::Refused;
        }
    });

    let list = |op: &&mut Op| matches!(&op.what, What::List { state, .. } if !state.is_empty());
    try_out(&[Rule::Read], &|history| {
        let op = history.ops.iter_mut().find(list).unwrap();
        let What::List { state, .. } = &mut op.what else { unreachable!() };
        state.pop_first();
    });
    let end = sound.ops.iter().map(|op| op.end).max().unwrap();
    try_out(&[Rule::Stale], &|history| {
        let op = history.ops.iter_mut().find(list).unwrap();
        (op.begin, op.end) = (end + 1, end + 2);
    });
    let got = |op: &&mut Op| matches!(&op.what, What::Get(Some(_)));
    try_out(&[Rule::Read], &|history| {
        let op = history.ops.iter_mut().find(got).unwrap();
        let What::Get(Some(object)) = &mut op.what else { unreachable!() };
        object.token = "other".into();
    });
    let overwritten = |op: &Op| match &op.what {
        What::Get(Some(object)) => {
            sound.log.iter().any(|entry| entry.name == op.name && entry.revision > object.revision)
        }
        _ => false,
    };
    try_out(&[Rule::Stale], &|history| {
        let op = history.ops.iter_mut().find(|op| overwritten(op)).unwrap();
        (op.begin, op.end) = (end + 1, end + 2);
    });
    let last = sound.replay(u64::MAX);
    try_out(&[Rule::Stale], &|history| {
        let name = last.keys().next().unwrap().clone();
        history.ops.push(Op { begin: end + 1, end: end + 2, name, what: What::Get(None) });
    });

    let events = |watch: &Watch| -> Vec<usize> {
        let is = |at: &usize| matches!(watch.seen[*at], Seen::Event { .. });
        (0..watch.seen.len()).filter(is).collect()
    };
    // Two events in a row, without anything between.
    let pair = |watch: &Watch| {
        events(watch)
            .windows(2)
            .map(|pair| pair[0])
            .find(|at| matches!(watch.seen[at + 1], Seen::Event { .. }))
    };
    let any = sound.watches.iter().position(|watch| !watch.picky && pair(watch).is_some()).unwrap();
    let first = pair(&sound.watches[any]).unwrap();
    try_out(&[Rule::Reliable, Rule::Resumable], &|history| {
        let seen = &mut history.watches[any].seen;
        seen.swap(first, first + 1);
    });
    try_out(&[Rule::Ordered], &|history| {
        let seen = &mut history.watches[any].seen;
        let early = seen[first].clone();
        seen.insert(first + 2, early);
    });
    try_out(&[Rule::Unique], &|history| {
        let seen = &mut history.watches[any].seen;
        let again = seen[first].clone();
        seen.insert(first + 1, again);
    });
    try_out(&[Rule::Reliable, Rule::Resumable, Rule::Bookmark], &|history| {
        history.watches[any].seen.remove(first + 1);
    });
    try_out(&[Rule::Reliable], &|history| {
        let last = *events(&history.watches[any]).last().unwrap();
        history.watches[any].seen.truncate(last);
    });
    try_out(&[Rule::Resumable], &|history| {
        history.watches[any].seen[first] = Seen::Resumed;
    });
    let event_of = |watch: &Watch, wanted: &dyn Fn(Kind) -> bool| {
        watch.seen.iter().position(|seen| matches!(seen, Seen::Event { kind, .. } if wanted(*kind)))
    };
    let change_token = |seen: &mut Seen| {
        let Seen::Event { object, .. } = seen else { unreachable!() };
        object.token = "other".into();
    };
    try_out(&[Rule::Atomic], &|history| {
        let at = event_of(&history.watches[any], &|kind| kind != Kind::Deleted).unwrap();
        change_token(&mut history.watches[any].seen[at]);
    });
    try_out(&[Rule::OldValue], &|history| {
        let (watch, at) = history
            .watches
            .iter_mut()
            .find_map(|watch| event_of(watch, &|kind| kind == Kind::Deleted).map(|at| (watch, at)))
            .unwrap();
        change_token(&mut watch.seen[at]);
    });
    try_out(&[Rule::Filter], &|history| {
        // A picky watch that is told everything.
        history.watches[any].picky = true;
        let Seen::Start { state, .. } = &mut history.watches[any].seen[0] else { unreachable!() };
        state.retain(|_, object| object.picked);
    });
    try_out(&[Rule::Bookmark], &|history| {
        let Seen::Event { object, .. } = history.watches[any].seen[first].clone() else { unreachable!() };
        history.watches[any].seen.insert(first, Seen::Bookmark(object.revision));
    });
    try_out(&[Rule::Ordered], &|history| {
        history.watches[any].seen.insert(first + 1, Seen::Bookmark(1));
    });
    try_out(&[Rule::Bookmark], &|history| {
        let starts = history.watches.iter_mut().flat_map(|watch| &mut watch.seen);
        let mut starts = starts.filter_map(|seen| match seen {
            Seen::Start { state, streamed: true, .. } if !state.is_empty() => Some(state),
            _ => None,
        });
        starts.next().expect("a watch that began with events").pop_first();
    });
}
