//! Makes nodes of the syntax tree: fresh ids, known depths.

use crate::ast::{Expr, Kind};
use crate::parser::NODES_MAX;
use crate::value::Value;

/// Makes nodes with fresh ids.
pub(crate) struct Maker {
    ids: usize,
    deepest: usize,
    pub(crate) minor: u32,
}

impl Maker {
    pub(crate) fn new(minor: u32) -> Maker {
        Maker { ids: 0, deepest: 0, minor }
    }

    /// All ids are below this.
    pub(crate) fn n_ids(&self) -> usize {
        self.ids
    }

    /// The depth of the deepest node made so far.
    pub(crate) fn deepest(&self) -> usize {
        self.deepest
    }

    pub(crate) fn make(&mut self, at: usize, kind: Kind) -> Expr {
        let mut expr = Expr { id: self.ids, at, depth: 0, kind };
        self.ids += 1;
        let mut deepest = 0;
        expr.children(&mut |child| deepest = deepest.max(child.depth));
        expr.depth = deepest + 1;
        self.deepest = self.deepest.max(expr.depth);
        expr
    }

    /// Whether a copy of `expr` can be made within `NODES_MAX`.
    pub(crate) fn has_room(&self, expr: &Expr) -> bool {
        fn count(expr: &Expr) -> usize {
            let mut sum = 1;
            expr.children(&mut |child| sum += count(child));
            sum
        }
        self.ids + count(expr) < NODES_MAX
    }

    /// A copy with a fresh id.
    pub(crate) fn copy(&mut self, expr: &Expr) -> Expr {
        let mut copy = expr.clone();
        copy.id = self.ids;
        self.ids += 1;
        debug_assert!(matches!(copy.kind, Kind::Ident(_)), "only names are copied");
        copy
    }

    pub(crate) fn ident(&mut self, at: usize, name: &str) -> Expr {
        self.make(at, Kind::Ident(name.into()))
    }

    pub(crate) fn literal(&mut self, at: usize, value: Value) -> Expr {
        self.make(at, Kind::Literal(value))
    }

    pub(crate) fn call(&mut self, at: usize, function: &str, args: Vec<Expr>) -> Expr {
        self.make(at, Kind::Call { function: function.into(), target: None, args })
    }

    pub(crate) fn member(&mut self, at: usize, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        self.make(at, Kind::Call { function: function.into(), target: Some(Box::new(target)), args })
    }
}
