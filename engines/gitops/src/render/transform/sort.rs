//! The order in which objects are printed.

use std::collections::HashMap;
use std::sync::Arc;

use super::fields::refuse_conflicts;
use crate::render::error::Error;
use crate::render::id::{Gvk, ORDER_FIRST, ORDER_LAST, ResId};
use crate::render::kustomization::SortOptions;
use crate::render::resource::Resource;
use crate::render::world::World;

/// Orders objects as `sortOptions` of the outermost kustomization say.
pub(crate) fn sort(world: &World, objects: &mut Vec<Resource>, options: &SortOptions) -> Result<(), Error> {
    match (options.order.as_str(), &options.legacy) {
        ("fifo", None) => Ok(()),
        ("fifo", Some(_)) => {
            Err(Error::new("`legacySortOptions` is set, but the order is `fifo`, not `legacy`")
                .in_field("sortOptions.legacySortOptions"))
        }
        ("legacy", Some((first, last))) => {
            let first: Vec<&str> = first.iter().map(String::as_str).collect();
            let last: Vec<&str> = last.iter().map(String::as_str).collect();
            by_kind(world, objects, &first, &last)
        }
        ("legacy", None) => by_kind(world, objects, &ORDER_FIRST, &ORDER_LAST),
        _ => Err(Error::new("`order` must be `fifo` or `legacy`").in_field("sortOptions.order")),
    }
}

/// The fixed order of kinds.
pub(crate) fn by_kind(
    world: &World,
    objects: &mut Vec<Resource>,
    first: &[&str],
    last: &[&str],
) -> Result<(), Error> {
    let mut ranks: HashMap<&str, i64> = HashMap::new();
    for (i, kind) in first.iter().enumerate() {
        ranks.insert(kind, i as i64 - first.len() as i64);
    }
    for (i, kind) in last.iter().enumerate() {
        ranks.insert(kind, 1 + i as i64);
    }
    let mut keyed: Vec<(i64, ResId, Resource)> = std::mem::take(objects)
        .into_iter()
        .map(|resource| {
            let id = resource.id(world);
            (ranks.get(&*id.gvk.kind).copied().unwrap_or(0), id, resource)
        })
        .collect();
    keyed.sort_by(|(left_rank, left, _), (right_rank, right, _)| {
        if left.gvk == right.gvk {
            return name_key(left).cmp(&name_key(right));
        }
        left_rank.cmp(right_rank).then_with(|| {
            let order = gvk_key(&left.gvk).cmp(&gvk_key(&right.gvk));
            let both_namespaces = &*left.gvk.kind == "Namespace" && &*right.gvk.kind == "Namespace";
            // The core kind stands before kinds of the same name.
            if both_namespaces && (left.gvk.group.is_empty() || right.gvk.group.is_empty()) {
                order.reverse()
            } else {
                order
            }
        })
    });
    objects.extend(keyed.into_iter().map(|(_, _, resource)| resource));
    refuse_conflicts(world, objects)
}

fn or<'t>(text: &'t Arc<str>, none: &'t str) -> &'t str {
    if text.is_empty() { none } else { text }
}

fn gvk_key(gvk: &Gvk) -> String {
    format!("{}_{}_{}", or(&gvk.group, "~G"), or(&gvk.version, "~V"), or(&gvk.kind, "~K"))
}

fn name_key(id: &ResId) -> String {
    format!("{}|{}|{}", id.gvk, or(&id.namespace, "~X"), or(&id.name, "~N"))
}
