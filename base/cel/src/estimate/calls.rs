//! Estimated costs of calls.

use super::{Estimator, ONE, Range};
use crate::ast::{Expr, Kind};
use crate::types::Type;
use crate::value::Value;

const PER_CHARACTER: f64 = 0.1;
const PER_REGEX_CHARACTER: f64 = 0.25;

/// What the check of a named format counts as, whichever it is.
const NAMED_FORMAT_SIZE: u64 = 128;

/// Cost of the call itself, and the size of its result if it is known.
type Call = (Range, Option<Range>);

impl Estimator<'_> {
    pub(super) fn call(
        &mut self,
        expr: &Expr,
        function: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Range {
        let name = self.checked.namespaced.get(&expr.id).cloned();
        let target = if name.is_some() { None } else { target };
        let name = name.unwrap_or_else(|| function.to_owned());
        let arg_costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let target_cost = target.map_or(Range::exactly(0), |target| self.cost(target));
        let all_args = arg_costs.iter().fold(Range::exactly(0), |sum, cost| sum.plus(*cost));
        if name == "_?._" {
            return all_args.plus(ONE);
        }
        let overloads: Vec<_> = self.checked.overloads.get(&expr.id).cloned().unwrap_or_default();
        let mut total: Option<Call> = None;
        for overload in &overloads {
            let (cost, size) = match (&*overload.id, &arg_costs[..]) {
                ("logical_and" | "logical_or", [one, two]) => {
                    (Range { min: one.min, max: one.plus(*two).max }, None)
                }
                ("conditional", [condition, one, two]) => {
                    let size = self.size(&args[1]).union(self.size(&args[2]));
                    (condition.plus(one.union(*two)), Some(size))
                }
                _ => {
                    let (cost, size) = self.overload(&name, &overload.id, target, args);
                    (cost.plus(all_args), size)
                }
            };
            total = Some(match total {
                None => (cost, size),
                Some((before, known)) => (
                    before.union(cost),
                    match (known, size) {
                        (Some(one), Some(two)) => Some(one.union(two)),
                        (one, two) => one.or(two),
                    },
                ),
            });
            let step = match &*overload.id {
                "index_list" => "@items",
                "index_map" => "@values",
                _ => continue,
            };
            let mut path = self.path(&args[0]);
            if !path.is_empty() {
                path.push(step.into());
                self.paths.insert(expr.id, path);
            }
        }
        let (cost, size) = total.unwrap_or((Range::exactly(0), None));
        if let Some(size) = size {
            self.known.insert(expr.id, size);
        }
        target_cost.plus(cost)
    }

    fn overload(&self, name: &str, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Call {
        if let Some(call) = self.library(name, overload, target, args) {
            return call;
        }
        match (overload, target, args) {
            ("string_format", Some(target), _) => (self.size(target).scaled(PER_CHARACTER), None),
            ("string_to_bytes", _, [arg]) => {
                let size = self.size(arg);
                let result = Range { min: size.min, max: size.max.saturating_mul(4) };
                (size.scaled(PER_CHARACTER), Some(result))
            }
            ("bytes_to_string", _, [arg]) => {
                let size = self.size(arg);
                (size.scaled(PER_CHARACTER), Some(Range { min: size.min / 4, max: size.max }))
            }
            ("strings_quote", _, [arg]) => {
                let size = self.size(arg);
                let max = size.max.saturating_mul(2).saturating_add(2);
                (size.scaled(PER_CHARACTER), Some(Range { min: size.min + 2, max }))
            }
            ("starts_with_string" | "ends_with_string", Some(_), [arg]) => {
                (self.size(arg).scaled(PER_CHARACTER), None)
            }
            ("in_list", _, [_, list]) => (self.size(list), None),
            ("matches_string", Some(target), [pattern]) => {
                (self.regex(self.size(target), self.size(pattern)), None)
            }
            ("contains_string", Some(target), [part]) => {
                let cost =
                    self.size(target).scaled(PER_CHARACTER).product(self.size(part).scaled(PER_CHARACTER));
                (cost, None)
            }
            ("add_list", _, [one, two]) => (ONE, Some(self.size(one).plus(self.size(two)))),
            ("add_string" | "add_bytes", _, [one, two]) => {
                let size = self.size(one).plus(self.size(two));
                (size.scaled(PER_CHARACTER), Some(size))
            }
            ("equals" | "not_equals", _, [one, _]) if opaque_equality(self.type_of(one)).is_some() => {
                (opaque_equality(self.type_of(one)).unwrap_or(ONE), None)
            }
            (overload, _, [one, two]) if is_comparison(overload) => {
                let max = self.size(one).max.min(self.size(two).max);
                (Range { min: u64::from(max > 0), max }.scaled(PER_CHARACTER), None)
            }
            _ => (ONE, None),
        }
    }

    fn regex(&self, text: Range, pattern: Range) -> Range {
        text.plus(ONE).scaled(PER_CHARACTER).product(pattern.scaled(PER_REGEX_CHARACTER))
    }

    fn library(&self, name: &str, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Call> {
        let of_target = |factor: f64| target.map(|target| self.size(target).scaled(factor));
        let of_first = |factor: f64| args.first().map(|arg| self.size(arg).scaled(factor));
        Some(match name {
            "check" => (Range::exactly(350_000), None),
            "fieldSelector" | "labelSelector" => {
                let size = self.size(args.first()?);
                let cost = size.scaled(PER_CHARACTER).plus(size.scaled(0.5).product(Range::exactly(50)));
                (cost.plus(Range::exactly(10)), None)
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => match self.element(target?) {
                Some((Type::String | Type::Bytes, size)) => {
                    (self.size(target?).product(ONE.plus(size.scaled(PER_CHARACTER))), None)
                }
                Some(_) => (self.size(target?), None),
                None => (of_target(PER_CHARACTER)?, None),
            },
            "url" => (of_first(PER_CHARACTER)?, Some(self.size(&args[0]))),
            "validate" => {
                let pattern = Range::exactly(NAMED_FORMAT_SIZE).scaled(PER_REGEX_CHARACTER);
                (of_first(PER_CHARACTER)?.product(pattern), None)
            }
            "dyn" => (ONE, self.known_size(args.first()?)),
            "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                (of_first(PER_CHARACTER)?, None)
            }
            "ip" if overload != "cidr_ip" => (of_first(PER_CHARACTER)?, None),
            "ip.isCanonical" => (of_first(2.0 * PER_CHARACTER)?, None),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                (of_target(PER_CHARACTER)?, Some(self.size(target?)))
            }
            "replace" if args.len() >= 2 => {
                let text = self.size(target?);
                let size = replaced(text, self.size(&args[0]), self.size(&args[1]));
                (text.scaled(2.0 * PER_CHARACTER), Some(size))
            }
            "split" => {
                let size = self.size(target?);
                let max = match args.get(1).map(|limit| &limit.kind) {
                    Some(Kind::Literal(Value::Int(limit))) if *limit >= 0 => *limit as u64,
                    _ => size.max,
                };
                (size.scaled(2.0 * PER_CHARACTER), Some(Range { min: 0, max }))
            }
            "join" => {
                let list = self.size(target?);
                let mut size = match self.element(target?) {
                    Some((_, element)) => list.product(element),
                    None => Range::exactly(0),
                };
                if let Some(separator) = args.first() {
                    let n = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    size = size.plus(self.size(separator).product(n));
                }
                (size.scaled(PER_CHARACTER), Some(size))
            }
            "find" | "findAll" => {
                let text = self.size(target?);
                let cost = self.regex(text, self.size(args.first()?));
                (cost, Some(Range { min: 0, max: text.max }))
            }
            "containsIP" | "containsCIDR" => {
                let bytes = Range { min: 4, max: 16 };
                let mut cost = bytes.plus(bytes).scaled(PER_CHARACTER);
                if name == "containsCIDR" {
                    cost = cost.plus(bytes.scaled(PER_CHARACTER)).plus(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(of_first(PER_CHARACTER)?);
                }
                (cost, None)
            }
            _ => return self.list_function(overload, target, args),
        })
    }

    fn list_function(&self, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Call> {
        let eleven = Range::exactly(11);
        Some(match overload {
            "list_sets_contains_list" | "list_sets_intersects_list" => {
                (self.size(&args[0]).product(self.size(&args[1])).plus(ONE), None)
            }
            "list_sets_equivalent_list" => {
                let product = self.size(&args[0]).product(self.size(&args[1]));
                (product.product(Range::exactly(2)).plus(ONE), None)
            }
            "lists_range" => {
                let size = match &args[0].kind {
                    Kind::Literal(Value::Int(end)) => Range::exactly(u64::try_from(*end).unwrap_or(0)),
                    _ => Range { min: 0, max: u64::MAX },
                };
                (size.plus(eleven), Some(size))
            }
            "list_reverse" | "list_flatten" => {
                let size = self.size(target?);
                (size.plus(eleven), Some(size))
            }
            "list_flatten_int" => {
                let depth = whole(args.first()?).map_or(Range::UNKNOWN, Range::exactly);
                (self.size(target?).product(depth).plus(eleven), None)
            }
            "list_slice" => {
                let size = match (whole(args.first()?), whole(args.get(1)?)) {
                    (Some(start), Some(end)) => Range::exactly(end.checked_sub(start).unwrap_or(u64::MAX)),
                    _ => Range { min: 0, max: self.size(target?).max },
                };
                (size.plus(eleven), Some(size))
            }
            sort if sort == "list_distinct" || sort.ends_with("_sort") => {
                let size = self.size(target?);
                let text = matches!(self.element(target?), Some((Type::String | Type::Bytes, _)));
                let factor = if text { 2.1 } else { 2.0 };
                (size.product(size).scaled(factor).plus(eleven), Some(size))
            }
            sort if sort.ends_with("_sortByAssociatedKeys") => {
                let size = self.size(args.first()?);
                (size.product(size).scaled(2.0).plus(eleven), Some(self.size(target?)))
            }
            _ => return None,
        })
    }
}

/// A literal whole number; negative ones count as none.
fn whole(expr: &Expr) -> Option<u64> {
    match &expr.kind {
        Kind::Literal(Value::Int(value)) => Some(u64::try_from(*value).unwrap_or(0)),
        _ => None,
    }
}

/// What comparing values of the libraries' types costs.
fn opaque_equality(declared: &Type) -> Option<Range> {
    let Type::Opaque(name) = declared else { return None };
    Some(match &**name {
        "kubernetes.URL" => return None,
        "kubernetes.NamedFormat" => Range { min: 1, max: 7 },
        _ => ONE,
    })
}

fn is_comparison(overload: &str) -> bool {
    let texts = ["_string", "_bytes"].iter().any(|kind| overload.ends_with(kind));
    matches!(overload, "equals" | "not_equals")
        || texts && (overload.starts_with("less_") || overload.starts_with("greater_"))
}

/// The size of a text after `replace`.
pub(crate) fn replaced(text: Range, from: Range, to: Range) -> Range {
    let (mut n, mut kept) = (Range::exactly(0), Range::exactly(0));
    if from.min == 0 {
        n.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if to.max <= from.min {
        kept.max = text.max;
    } else {
        n.max = text.max.div_ceil(from.min);
    }
    if from.max == 0 {
        n.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if from.max <= to.min {
        kept.min = text.min;
    } else {
        n.min = text.min.div_ceil(from.max);
    }
    n.product(to).plus(kept)
}

#[cfg(test)]
mod tests {
    use super::{Range, replaced};

    #[test]
    fn a_replaced_text_has_upstreams_sizes() {
        let range = |(min, max)| Range { min, max };
        for (text, from, to, want) in [
            ((3, 3), (0, 0), (1, 1), (7, 7)),
            ((3, 3), (1, 1), (0, 0), (0, 3)),
            ((4, 4), (2, 2), (4, 4), (4, 8)),
            ((4, 4), (0, 1), (0, 2), (0, 14)),
            ((4, 4), (1, 1), (1, 2), (4, 8)),
            ((4, 4), (1, 2), (1, 1), (2, 4)),
        ] {
            assert_eq!(
                replaced(range(text), range(from), range(to)),
                range(want),
                "{text:?} {from:?} {to:?}"
            );
        }
    }
}
