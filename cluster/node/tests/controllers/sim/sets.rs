//! What may be asked of ReplicaSets: none makes a Pod for which there is no room.
//!
//! Between the moment at which an instance reads its ReplicaSet and that at which its request arrives, another instance may
//! have been faster, or the ReplicaSet may have become smaller. Such a Pod is `late`, and nobody's fault.

use std::collections::{BTreeMap, BTreeSet};

use dodai_apiserver::testing::{Call, World};
use serde_json::Value;
use tokio::time::Instant;

use super::kubelet::{PODS, controller, controller_uid, is_marked, is_over, name, text, uid};
use super::roll_outs::WINDOW;

pub(crate) const SETS: &str = "replicasets.apps";

/// What is remembered of ReplicaSets and their Pods.
#[derive(Default)]
pub(crate) struct Sets {
    /// How each stands, by name.
    now: BTreeMap<String, Set>,
    /// What an instance could know of one when it last listed Pods, by instance and name.
    looks: BTreeMap<(usize, String), Look>,
    /// Uids of Pods that were made by a controller.
    made: BTreeSet<String>,
    late: BTreeSet<String>,
    /// When an instance last listed ReplicaSets.
    lists: BTreeMap<usize, Instant>,
    /// From what list on an instance asked for a ReplicaSet or for a size of it, by instance and name.
    asked: BTreeMap<(usize, String), Instant>,
    /// When a ReplicaSet of this name was last made or got a size.
    sized: BTreeMap<String, Instant>,
    /// When an instance last listed the Pods of a whole Deployment.
    pod_lists: BTreeMap<usize, Instant>,
    /// From what such list on an instance asks for a size, by instance and name.
    weighed: BTreeMap<(usize, String), Instant>,
    /// The Pods from which the size of a ReplicaSet follows were seen then, by its uid.
    known: BTreeMap<String, Instant>,
    /// ReplicaSets that were made or grew too late, and since when, by uid.
    late_sets: BTreeMap<String, Instant>,
}

#[derive(Clone, Debug)]
struct Set {
    uid: String,
    /// Uid of its controller; empty without one.
    owner: String,
    is_marked: bool,
    /// What it selects by, as a query writes it.
    labels: Vec<String>,
    size: i64,
    active: i64,
}

impl Set {
    fn has_room(&self, asked: i64) -> bool {
        !self.is_marked && self.active + asked < self.size
    }
}

struct Look {
    at: Instant,
    /// What is written in the same millisecond may have been seen or not.
    states: Vec<Set>,
    /// Pods that were asked for since then, and whether there was room for them.
    asked: BTreeMap<String, bool>,
}

impl Sets {
    /// Takes in what is there now.
    pub(crate) fn look(&mut self, world: &World) {
        let now = Instant::now();
        let then = std::mem::take(&mut self.now);
        self.now = world.all(SETS).map(|set| (name(set).to_owned(), state(world, set))).collect();
        let sized = |(name, set): (&String, &Set)| {
            let before = then.get(name).filter(|before| before.uid == set.uid);
            (before.is_none_or(|before| before.size != set.size)).then(|| (name.clone(), set.uid.clone()))
        };
        let sized: Vec<(String, String)> = self.now.iter().filter_map(sized).collect();
        let taken_over = self.now.iter().filter(|(name, set)| {
            !set.owner.is_empty()
                && then.get(*name).is_some_and(|then| then.uid == set.uid && then.owner.is_empty())
        });
        self.late_sets.extend(taken_over.map(|(_, set)| (set.uid.clone(), now)));
        for (name, uid) in sized {
            // Somebody else's change came between the list and this.
            let is_late = |((instance, asked), list): (&(usize, String), &Instant)| {
                let own = |name: &String| self.asked.get(&(*instance, name.clone())) == Some(list);
                *asked == name && self.sized.iter().any(|(other, at)| at >= list && !own(other))
            };
            if self.asked.iter().any(is_late) {
                self.late_sets.insert(uid.clone(), now);
            }
            let lists = self.weighed.iter().filter(|((_, of), _)| *of == name).map(|(_, at)| *at);
            self.known.extend(lists.min().map(|at| (uid, at)));
            self.weighed.retain(|(_, of), _| *of != name);
            self.sized.insert(name, now);
        }
        for ((_, name), look) in self.looks.iter_mut().filter(|(_, look)| look.at == now) {
            look.states.extend(self.now.get(name).cloned());
        }
    }

    /// Takes in what an instance asks.
    pub(crate) fn call(&mut self, call: &Call) {
        let named = call.named();
        if call.verb() == "list" && named.resource == SETS {
            self.lists.insert(call.instance, Instant::now());
        } else if matches!(call.verb(), "create" | "update")
            && named.resource == SETS
            && named.subresource.is_empty()
            && let Some(list) = self.lists.get(&call.instance)
        {
            let set = (call.instance, text(&call.json()["metadata"]["name"]).to_owned());
            self.weighed.extend(self.pod_lists.get(&call.instance).map(|at| (set.clone(), *at)));
            self.asked.insert(set, *list);
        } else if call.verb() == "list" && named.resource == PODS {
            let of_set = |set: &Set| set.labels.iter().all(|label| call.query.contains(label));
            if !self.now.values().any(of_set) {
                self.pod_lists.insert(call.instance, Instant::now());
            }
            for (name, set) in self.now.iter().filter(|(_, set)| of_set(set)) {
                let look = Look { at: Instant::now(), states: vec![set.clone()], asked: BTreeMap::new() };
                self.looks.insert((call.instance, name.clone()), look);
            }
        } else if call.verb() == "create" && named.resource == PODS {
            let pod = call.json();
            let owner = controller(&pod).cloned().unwrap_or_default();
            let Some(look) = self.looks.get_mut(&(call.instance, text(&owner["name"]).to_owned())) else {
                return;
            };
            let asked = look.asked.len() as i64;
            let fits = look.states.iter().any(|state| state.uid == owner["uid"] && state.has_room(asked));
            look.asked.insert(name(&pod).to_owned(), fits);
        }
    }

    /// A Pod is made.
    ///
    /// # Errors
    /// When there was no room for it, and its instance could know that.
    pub(crate) fn made(&mut self, pod: &Value) -> Result<(), String> {
        let Some(owner) = controller(pod).filter(|owner| owner["kind"] == "ReplicaSet") else {
            return Ok(());
        };
        self.made.insert(uid(pod).to_owned());
        let set = self.now.get(text(&owner["name"])).filter(|set| set.uid == owner["uid"]);
        if set.is_some_and(|set| set.has_room(0)) {
            return Ok(());
        }
        if !self.looks.values().any(|look| look.asked.get(name(pod)) == Some(&true)) {
            return Err(format!("{} was made without room: {set:?}", name(pod)));
        }
        self.late.insert(uid(pod).to_owned());
        Ok(())
    }

    /// Whether the size that its ReplicaSet has was decided when this Pod, ready since then, was not.
    pub(crate) fn is_news(&self, set: &str, ready: Instant) -> bool {
        self.known.get(set).is_some_and(|known| *known <= ready)
    }

    pub(crate) fn is_made(&self, pod: &Value) -> bool {
        self.made.contains(uid(pod))
    }

    pub(crate) fn is_late(&self, pod: &Value) -> bool {
        let of_late = self.late_sets.get(controller_uid(pod)).is_some_and(|since| since.elapsed() <= WINDOW);
        of_late || self.late.contains(uid(pod))
    }
}

fn state(world: &World, set: &Value) -> Set {
    let pods = world.all(PODS).filter(|pod| controller_uid(pod) == uid(set));
    let active = pods.filter(|pod| !is_over(pod) && !is_marked(pod)).count() as i64;
    let size = set["spec"]["replicas"].as_i64().unwrap_or(1);
    let labels = set["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    Set {
        labels: labels.map(|(key, value)| format!("{key}%3D{}", text(value))).collect(),
        uid: uid(set).to_owned(),
        owner: controller_uid(set).to_owned(),
        is_marked: is_marked(set),
        size,
        active,
    }
}
