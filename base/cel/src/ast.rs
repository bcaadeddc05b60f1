//! The syntax tree: what the parser builds (macros already expanded) and checker and planner read.

use std::sync::Arc;

use crate::value::Value;

/// One node. `id` is unique in its tree, `at` is the position (in characters) errors point at.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: usize,
    pub(crate) at: usize,
    /// Nodes on the longest way down, this one included.
    pub(crate) depth: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    Ident(Arc<str>),
    /// `operand.field`; `test` is the form inside `has()`.
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        test: bool,
    },
    /// A function, an operator (named like `_+_`) or a member function (with a target).
    Call {
        function: Arc<str>,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List {
        elements: Vec<Element>,
    },
    Map {
        entries: Vec<Entry>,
    },
    /// `Name{field: value}`: only mutating policies know such names.
    Message {
        name: Arc<str>,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

/// `value`, or `?value` which is left out when it is an empty optional.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// `name: value` of a message, or `?name: value`, which is left out when it is an empty optional.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) at: usize,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// The loop all comprehension macros become.
#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub(crate) range: Expr,
    pub(crate) variable: Arc<str>,
    pub(crate) second: Option<Arc<str>>,
    pub(crate) accumulator: Arc<str>,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

impl Expr {
    /// The dotted name this expression may be: `a`, `a.b.c`.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => {
                operand.qualified_name().map(|prefix| format!("{prefix}.{field}"))
            }
            _ => None,
        }
    }

    /// Calls `visit` for every direct child.
    pub(crate) fn children<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => visit(operand),
            Kind::Call { target, args, .. } => {
                target.iter().for_each(|target| visit(target));
                args.iter().for_each(visit);
            }
            Kind::List { elements } => elements.iter().for_each(|element| visit(&element.value)),
            Kind::Map { entries } => {
                for entry in entries {
                    visit(&entry.key);
                    visit(&entry.value);
                }
            }
            Kind::Message { fields, .. } => fields.iter().for_each(|field| visit(&field.value)),
            Kind::Comprehension(comprehension) => {
                let Comprehension { range, init, condition, step, result, .. } = &**comprehension;
                for child in [range, init, condition, step, result] {
                    visit(child);
                }
            }
        }
    }
}
