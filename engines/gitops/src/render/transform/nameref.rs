//! Names in other objects follow the objects that were renamed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Transformer;
use super::fields::of_object;
use crate::render::config::{BackReference, FieldSpec};
use crate::render::error::Error;
use crate::render::fieldspec::apply;
use crate::render::id::{Gvk, ResId, for_people};
use crate::render::node::{Kind, Node, NodeId, Tree};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::World;

pub(crate) struct FixReferences {
    pub(crate) rules: Vec<BackReference>,
}

/// What must be known of an object that may be referred to; it does not change while references are fixed.
struct Candidate {
    id: ResId,
    previous: Vec<ResId>,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
}

struct Candidates {
    all: Vec<Candidate>,
    /// Earlier name -> objects in their order.
    by_previous_name: HashMap<Arc<str>, Vec<usize>>,
    by_original_namespace: HashSet<String>,
}

impl Transformer for FixReferences {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        let candidates = Candidates::new(world, objects);
        for (at, resource) in objects.iter_mut().enumerate() {
            let original = resource.original_id(world);
            let mut allowed = None;
            for rule in &self.rules {
                for spec in rule.referrers.iter().filter(|spec| original.gvk.is_selected(&spec.gvk)) {
                    let visible = match &allowed {
                        Some(visible) => visible,
                        None => allowed.insert(candidates.visible_to(world, resource, at)?),
                    };
                    let fix =
                        Fix { candidates: &candidates, visible, referrer: at, spec, target: &rule.target };
                    fix.run(world, resource)?;
                }
            }
        }
        Ok(())
    }
}

impl Candidates {
    fn new(world: &World, objects: &[Resource]) -> Candidates {
        let mut by_previous_name: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        let mut by_original_namespace = HashSet::new();
        let mut all = Vec::with_capacity(objects.len());
        for (i, resource) in objects.iter().enumerate() {
            let previous = resource.previous_ids(world);
            for id in &previous {
                let found = by_previous_name.entry(Arc::clone(&id.name)).or_default();
                if found.last() != Some(&i) {
                    found.push(i);
                }
            }
            by_original_namespace.insert(resource.original_id(world).effective_namespace().to_owned());
            let (prefixes, suffixes) = resource.prefixes_and_suffixes();
            let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
            all.push(Candidate {
                id: resource.id(world),
                previous,
                prefixes: owned(prefixes),
                suffixes: owned(suffixes),
            });
        }
        Candidates { all, by_previous_name, by_original_namespace }
    }

    /// Which objects the referrer can refer to at all.
    fn visible_to(&self, world: &World, referrer: &Resource, at: usize) -> Result<Visible, Error> {
        let id = &self.all[at].id;
        if id.cluster_scoped {
            return Ok(Visible::All);
        }
        let mut namespaces = HashSet::new();
        if &*referrer.kind() == "RoleBinding" {
            namespaces = subject_namespaces(world, referrer)?;
        }
        Ok(Visible::Namespaces(id.effective_namespace().to_owned(), namespaces))
    }
}

enum Visible {
    All,
    /// The referrer's namespace, and those of its subjects as they are written.
    Namespaces(String, HashSet<String>),
}

impl Visible {
    fn includes(&self, id: &ResId) -> bool {
        match self {
            Visible::All => true,
            Visible::Namespaces(own, others) => {
                id.cluster_scoped || id.effective_namespace() == own || others.contains(&*id.namespace)
            }
        }
    }
}

/// Namespaces of the service accounts that a role binding names.
fn subject_namespaces(world: &World, referrer: &Resource) -> Result<HashSet<String>, Error> {
    let tree = &referrer.tree;
    let mut namespaces = HashSet::new();
    let Some(subjects) = tree.field(tree.root(), "subjects") else { return Ok(namespaces) };
    for subject in tree.items(subjects) {
        let (Some(namespace), Some(kind)) = (tree.field(*subject, "namespace"), tree.field(*subject, "kind"))
        else {
            continue;
        };
        if &**tree.value(kind) != "ServiceAccount" {
            continue;
        }
        match crate::render::json::scalar_of(tree.get(namespace)) {
            Ok(dodai_yaml::kustomize::Scalar::String(text)) if tree.kind(namespace) == Kind::Scalar => {
                namespaces.insert(text.into_owned());
            }
            _ => {
                return Err(super::fields::at_object(
                    referrer,
                    world,
                    "the namespace of a subject is not text",
                ));
            }
        }
    }
    Ok(namespaces)
}

/// One field of one object.
struct Fix<'f> {
    candidates: &'f Candidates,
    visible: &'f Visible,
    referrer: usize,
    spec: &'f FieldSpec,
    target: &'f Gvk,
}

/// Why a reference cannot be followed.
enum FixError {
    Path(PathError),
    NoName,
    Ambiguous(Vec<usize>),
    Kind,
}

impl From<PathError> for FixError {
    fn from(error: PathError) -> FixError {
        FixError::Path(error)
    }
}

impl Fix<'_> {
    fn run(&self, world: &World, resource: &mut Resource) -> Result<(), Error> {
        // The object's own kind counts here, not its first one.
        let gvk = self.candidates.all[self.referrer].id.gvk.clone();
        let spec = FieldSpec { gvk, path: String::new(), parts: Arc::clone(&self.spec.parts), create: false };
        let role = self.role_of(&resource.tree);
        let mut set = |tree: &mut Tree, at| self.set(tree, at, role.as_ref());
        let Err(error) = apply(&mut resource.tree, &spec, None, &mut set) else { return Ok(()) };
        let path = &self.spec.path;
        let message = match error {
            FixError::Path(error) => format!("cannot update the name in `{path}`: {error}"),
            FixError::NoName => format!("cannot update the name in `{path}`: there is no `name`"),
            FixError::Kind => format!("cannot update the name in `{path}`: expected text or a map"),
            FixError::Ambiguous(found) => {
                let names: Vec<String> =
                    found.iter().map(|at| for_people(&self.candidates.all[*at].id)).collect();
                format!("the name in `{path}` may be each of: {}", names.join(", "))
            }
        };
        Err(of_object(resource, world, message))
    }

    /// What `roleRef` says, where that is the field.
    fn role_of(&self, tree: &Tree) -> Option<Gvk> {
        if !self.spec.path.ends_with("roleRef/name") {
            return None;
        }
        let role = tree.field(tree.root(), "roleRef")?;
        let text = |name| tree.field(role, name).map(|field| Arc::clone(tree.value(field)));
        Some(Gvk { group: text("apiGroup")?, kind: text("kind")?, ..Gvk::default() })
    }

    fn set(&self, tree: &mut Tree, at: NodeId, role: Option<&Gvk>) -> Result<(), FixError> {
        if tree.is_null(at) {
            return Ok(());
        }
        match tree.kind(at) {
            Kind::Scalar => self.set_scalar(tree, at, role),
            Kind::Map => self.set_map(tree, at, role),
            Kind::List => {
                for item in tree.items(at).to_vec() {
                    match tree.kind(item) {
                        _ if tree.is_null(item) => {}
                        Kind::Scalar => self.set_scalar(tree, item, role)?,
                        Kind::Map => self.set_map(tree, item, role)?,
                        Kind::List => return Err(FixError::Kind),
                    }
                }
                Ok(())
            }
        }
    }

    fn set_scalar(&self, tree: &mut Tree, at: NodeId, role: Option<&Gvk>) -> Result<(), FixError> {
        let name = Arc::clone(tree.value(at));
        let found = self.select(&name, role, |_| true, false)?;
        let Some(found) = found else { return Ok(()) };
        let new = &self.candidates.all[found].id.name;
        if *new != name {
            tree.set_scalar(at, Node::scalar(Arc::clone(new))).map_err(PathError::from)?;
        }
        Ok(())
    }

    /// A map with `name` and perhaps `namespace`: both are set.
    fn set_map(&self, tree: &mut Tree, at: NodeId, role: Option<&Gvk>) -> Result<(), FixError> {
        let name_field = tree.field(at, "name").ok_or(FixError::NoName)?;
        let name = Arc::clone(tree.value(name_field));
        let namespace = tree.field(at, "namespace").map(|field| Arc::clone(tree.value(field)));
        let in_namespace = |candidate: &Candidate| match &namespace {
            None => true,
            Some(namespace) => {
                let original = candidate.previous.first().unwrap_or(&candidate.id).effective_namespace();
                if self.candidates.has_original_namespace(namespace, self.visible) {
                    original == &**namespace && original != crate::render::id::NOT_A_NAMESPACE
                } else {
                    let current = candidate.id.effective_namespace();
                    current == &**namespace && current != crate::render::id::NOT_A_NAMESPACE
                }
            }
        };
        let Some(found) = self.select(&name, role, in_namespace, true)? else { return Ok(()) };
        let id = &self.candidates.all[found].id;
        if id.name == name && id.namespace.is_empty() {
            return Ok(());
        }
        tree.set_field_node(at, "name", Node::scalar(Arc::clone(&id.name))).map_err(PathError::from)?;
        if !id.namespace.is_empty() {
            tree.set_field_node(at, "namespace", Node::scalar(Arc::clone(&id.namespace)))
                .map_err(PathError::from)?;
        }
        Ok(())
    }

    /// The object that is meant by a name; the steps and their order are kustomize's.
    fn select(
        &self,
        name: &str,
        role: Option<&Gvk>,
        in_namespace: impl Fn(&Candidate) -> bool,
        namespace_matters: bool,
    ) -> Result<Option<usize>, FixError> {
        let Some(named) = self.candidates.by_previous_name.get(name) else { return Ok(None) };
        let all = &self.candidates.all;
        let referrer = &all[self.referrer];
        let was = |at: usize, gvk: &Gvk| all[at].previous.iter().any(|id| id.gvk.is_selected(gvk));
        let reachable = |at: usize| {
            let id = &all[at].id;
            referrer.id.cluster_scoped
                || id.cluster_scoped
                || &*id.gvk.kind == "ServiceAccount"
                || id.same_namespace(&referrer.id)
        };
        let mut found: Vec<usize> = named
            .iter()
            .copied()
            .filter(|at| self.visible.includes(&all[*at].id) && in_namespace(&all[*at]))
            .filter(|at| was(*at, self.target) && role.is_none_or(|role| was(*at, role)) && reachable(*at))
            .collect();
        if let [one] = found[..] {
            return Ok(Some(one));
        }
        found.retain(|at| all[*at].may_share_affixes(referrer));
        if found.len() > 1 {
            found.retain(|at| all[*at].shares_affixes(referrer));
        }
        let Some(first) = found.first().copied() else { return Ok(None) };
        let same = found.iter().all(|at| {
            let (a, b) = (&all[*at].id, &all[first].id);
            a.name == b.name && (!namespace_matters || a.namespace == b.namespace)
        });
        if same { Ok(Some(first)) } else { Err(FixError::Ambiguous(found)) }
    }
}

impl Candidates {
    /// Whether an object that can be seen was read with this namespace.
    fn has_original_namespace(&self, namespace: &str, visible: &Visible) -> bool {
        if namespace == crate::render::id::NOT_A_NAMESPACE || !self.by_original_namespace.contains(namespace)
        {
            return false;
        }
        self.all.iter().any(|candidate| {
            visible.includes(&candidate.id)
                && candidate.previous.first().unwrap_or(&candidate.id).effective_namespace() == namespace
        })
    }
}

impl Candidate {
    /// One side's list is the end of the other's.
    fn shares_affixes(&self, other: &Candidate) -> bool {
        same_end(&self.prefixes, &other.prefixes) && same_end(&self.suffixes, &other.suffixes)
    }

    /// As above, and no list at all passes too.
    fn may_share_affixes(&self, other: &Candidate) -> bool {
        let fits = |a: &[String], b: &[String]| a.is_empty() || b.is_empty() || same_end(a, b);
        fits(&self.prefixes, &other.prefixes) && fits(&self.suffixes, &other.suffixes)
    }
}

fn same_end(a: &[String], b: &[String]) -> bool {
    let (short, long) = if a.len() > b.len() { (b, a) } else { (a, b) };
    if short.is_empty() { long.is_empty() } else { long.ends_with(short) }
}
