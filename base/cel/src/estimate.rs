//! The estimated cost of an expression before it runs: from the sizes its schema allows.
//! Kubernetes refuses rules whose estimate is too large when they are written.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Comprehension, Expr, Kind};
use crate::check::Checked;
use crate::cost;
use crate::types::Type;
use crate::value::Value;

mod calls;

/// A range of costs, or of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub(crate) const fn exactly(value: u64) -> Range {
        Range { min: value, max: value }
    }

    pub(crate) const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    pub(crate) fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn product(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn scaled(self, factor: f64) -> Range {
        let scale = |value: u64| {
            let product = (value as f64 * factor).ceil();
            if product >= u64::MAX as f64 { u64::MAX } else { product as u64 }
        };
        Range { min: scale(self.min), max: scale(self.max) }
    }

    pub(crate) fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Sizes of variables by path: `self`, field names, `@items`, `@keys`, `@values`.
pub(crate) type Sizes<'a> = &'a dyn Fn(&[Arc<str>]) -> Option<Range>;

pub(crate) fn estimate(expr: &Expr, checked: &Checked, sizes: Sizes<'_>) -> Range {
    let mut estimator = Estimator {
        checked,
        sizes,
        known: HashMap::new(),
        paths: HashMap::new(),
        elements: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(expr)
}

struct Estimator<'a> {
    checked: &'a Checked,
    sizes: Sizes<'a>,
    known: HashMap<usize, Range>,
    paths: HashMap<usize, Vec<Arc<str>>>,
    /// Sizes of the elements of lists that are made in the expression.
    elements: HashMap<usize, Range>,
    locals: Vec<Local>,
}

struct Local {
    name: Arc<str>,
    path: Vec<Arc<str>>,
    size: Option<Range>,
    element: Option<Range>,
}

const ONE: Range = Range::exactly(1);

impl Estimator<'_> {
    fn cost(&mut self, expr: &Expr) -> Range {
        if self.checked.names.contains_key(&expr.id) {
            return self.name(expr);
        }
        match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => Range::exactly(0),
            Kind::Select { operand, field, test } => {
                let sum = self.cost(operand);
                if *test {
                    return sum;
                }
                let mut path = self.path(operand);
                if !path.is_empty() {
                    path.push(field.clone());
                }
                self.paths.insert(expr.id, path);
                match self.type_of(operand) {
                    Type::Map(..) | Type::Object(_) => sum.plus(ONE),
                    _ => sum,
                }
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List { elements } => {
                let mut sum = Range::exactly(cost::LIST);
                let mut size: Option<Range> = None;
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    let own = self.size(&element.value);
                    size = Some(size.map_or(own, |size| size.union(own)));
                }
                self.known.insert(expr.id, Range::exactly(elements.len() as u64));
                self.elements.insert(expr.id, size.unwrap_or(Range::exactly(0)));
                sum
            }
            Kind::Map { entries } => {
                let mut sum = Range::exactly(cost::MAP);
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                }
                self.known.insert(expr.id, Range::exactly(entries.len() as u64));
                sum
            }
            Kind::Message { fields, .. } => {
                let costs = fields.iter().map(|field| self.cost(&field.value));
                costs.fold(Range::exactly(cost::MESSAGE), Range::plus)
            }
            Kind::Comprehension(comprehension) => self.comprehension(expr, comprehension),
        }
    }

    fn name(&mut self, expr: &Expr) -> Range {
        let Kind::Ident(name) = &expr.kind else {
            let name = expr.qualified_name().unwrap_or_default();
            self.paths.insert(expr.id, vec![name.into()]);
            return ONE;
        };
        match self.locals.iter().rev().find(|local| local.name == *name) {
            Some(local) => {
                self.paths.insert(expr.id, local.path.clone());
                // The sizes the caller knows come first.
                let by_path = if local.path.is_empty() { None } else { (self.sizes)(&local.path) };
                if let (Some(size), None) = (local.size, by_path) {
                    self.known.insert(expr.id, size);
                }
                if let Some(element) = local.element {
                    self.elements.insert(expr.id, element);
                }
            }
            None => {
                self.paths.insert(expr.id, vec![name.clone()]);
            }
        }
        ONE
    }

    fn type_of(&self, expr: &Expr) -> &Type {
        &self.checked.types[expr.id]
    }

    fn path(&self, expr: &Expr) -> Vec<Arc<str>> {
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    /// The size of a value; from nothing to everything if it is not known.
    fn size(&self, expr: &Expr) -> Range {
        self.known_size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn known_size(&self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.known.get(&expr.id) {
            return Some(*size);
        }
        if let Kind::Literal(value) = &expr.kind {
            return Some(Range::exactly(match value {
                Value::String(_) | Value::Bytes(_) => value.size(),
                _ => 1,
            }));
        }
        let path = self.path(expr);
        if !path.is_empty()
            && let Some(size) = (self.sizes)(&path)
        {
            return Some(size);
        }
        is_scalar(self.type_of(expr)).then_some(ONE)
    }

    /// Type and size of the elements of a list.
    fn element(&self, expr: &Expr) -> Option<(Type, Range)> {
        let Type::List(element) = self.type_of(expr) else { return None };
        let mut path = self.path(expr);
        let mut size = None;
        if !path.is_empty() {
            path.push("@items".into());
            size = (self.sizes)(&path);
        }
        let size = size.or_else(|| is_scalar(element).then_some(ONE));
        Some(((**element).clone(), size.unwrap_or(Range::UNKNOWN)))
    }

    fn comprehension(&mut self, expr: &Expr, comprehension: &Comprehension) -> Range {
        let Comprehension { range, variable, second, accumulator, init, condition, step, result } =
            comprehension;
        let is_bind = &**variable == "#unused";
        let mut sum = self.cost(range);
        sum = sum.plus(self.cost(init));
        let outer = self.locals.len();
        let local = Local {
            name: accumulator.clone(),
            path: self.path(init),
            size: if is_bind { self.known_size(init) } else { None },
            element: None,
        };
        self.locals.push(local);
        if is_bind {
            sum = sum.plus(self.cost(result));
            self.locals.truncate(outer);
            if let Some(size) = self.known_size(result) {
                self.known.insert(expr.id, size);
            }
            return sum;
        }
        // A range without a path gives its elements the path of a step alone, as upstream does.
        let below = |step: &str, path: &[Arc<str>]| [path, &[Arc::from(step)]].concat();
        let path = self.path(range);
        let is_map = matches!(self.type_of(range), Type::Map(..));
        let element = self.elements.get(&range.id).copied();
        let (first, value) = if is_map { ("@keys", "@values") } else { ("@items", "@items") };
        let first = Local {
            name: variable.clone(),
            path: if second.is_some() && !is_map { Vec::new() } else { below(first, &path) },
            size: if second.is_some() { None } else { element.filter(|_| !is_map) },
            element: None,
        };
        self.locals.push(first);
        if let Some(second) = second {
            self.locals.push(Local {
                name: second.clone(),
                path: below(value, &path),
                size: element.filter(|_| !is_map),
                element: None,
            });
        }
        let round = self.cost(condition).plus(self.cost(step));
        self.locals.truncate(outer + 1);
        sum = sum.plus(self.cost(result));
        self.locals.truncate(outer);
        let n_rounds = self.size(range);
        match &init.kind {
            Kind::Literal(_) => {
                self.known.insert(expr.id, ONE);
            }
            _ => {
                self.known.insert(expr.id, n_rounds);
                if let Some(element) = self.step_element(step) {
                    self.elements.insert(expr.id, element);
                }
            }
        }
        sum.plus(n_rounds.product(round))
    }

    /// The size of what a step adds to a list.
    fn step_element(&self, step: &Expr) -> Option<Range> {
        match &step.kind {
            Kind::Call { function, args, .. } if &**function == "_?_:_" => self.step_element(&args[1]),
            Kind::Call { function, args, .. } if &**function == "_+_" => {
                self.elements.get(&args[1].id).copied()
            }
            _ => None,
        }
    }
}

/// Whether values of the type have size 1 (an optional has the size of its content).
fn is_scalar(declared: &Type) -> bool {
    use Type::{Bool, Double, Duration, Int, Optional, Timestamp, Uint};
    match declared {
        Bool | Int | Uint | Double | Duration | Timestamp => true,
        Optional(inner) => is_scalar(inner),
        _ => false,
    }
}
