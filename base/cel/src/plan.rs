//! The checked tree to what is evaluated: names to places, access chains to attributes, constants folded.
//! The shape follows upstream's planner, because cost is counted by its steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Comprehension, Expr, Kind};
use crate::check::{Checked, Named};
use crate::error::EvalError;
use crate::library::{self, Function};
use crate::macros::ACCUMULATOR;
use crate::value::{Key, List, ListKind, Map, Value, equal};

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    /// Names of the variables, by their number.
    pub(crate) variables: Vec<Arc<str>>,
    pub(crate) n_slots: usize,
    /// A constant part that cannot be computed: every evaluation is this error.
    pub(crate) failed: Option<EvalError>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Const(Value),
    Attribute(Box<Attribute>),
    /// `has(attribute.key)`.
    Test(Box<Attribute>, Value),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// `==`, or `!=` if negated.
    Equal(Box<Node>, Box<Node>, bool),
    NotStrictlyFalse(Box<Node>),
    /// `in` a constant list of simple values.
    Member(Box<Node>, Vec<Value>),
    /// `or` and (if true) `orValue` of an optional.
    OptionalOr(Box<Node>, Box<Node>, bool),
    Call(Box<Call>),
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// An object of a type with a name, its fields, and whether each is left out when it is an empty optional.
    Object(Arc<str>, Vec<(Arc<str>, Node, bool)>),
    Fold(Box<Fold>),
    /// Adds to the list in the slot, without copying it.
    Append(usize, Box<Node>),
    /// Inserts a key and a value (or a map) into the map in the slot, without copying it.
    Insert(usize, Vec<Node>),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: Arc<str>,
    /// Known if only one fits; some costs depend on it.
    pub(crate) overload: Option<Arc<str>>,
    pub(crate) function: Function,
    pub(crate) args: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) base: Base,
    pub(crate) qualifiers: Vec<Qualifier>,
}

#[derive(Debug)]
pub(crate) enum Base {
    Variable(usize),
    Slot(usize),
    Relative(Node),
    Conditional(Node, Box<Attribute>, Box<Attribute>),
}

#[derive(Clone, Debug)]
pub(crate) struct Qualifier {
    pub(crate) key: QualifierKey,
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum QualifierKey {
    Constant(Value),
    Computed(Arc<Attribute>),
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: Node,
    pub(crate) first: usize,
    pub(crate) second: Option<usize>,
    pub(crate) accumulator: usize,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

pub(crate) fn plan(expr: &Expr, checked: &Checked) -> Plan {
    let mut planner =
        Planner { checked, variables: Vec::new(), scopes: Vec::new(), n_slots: 0, failed: None };
    let root = planner.node(expr);
    let Planner { variables, n_slots, failed, .. } = planner;
    Plan { root, variables, n_slots, failed }
}

struct Planner<'a> {
    checked: &'a Checked,
    variables: Vec<Arc<str>>,
    scopes: Vec<(Arc<str>, usize)>,
    n_slots: usize,
    failed: Option<EvalError>,
}

impl Planner<'_> {
    fn node(&mut self, expr: &Expr) -> Node {
        if let Some(named) = self.checked.names.get(&expr.id) {
            return self.name(&named.clone());
        }
        match &expr.kind {
            Kind::Literal(value) => Node::Const(value.clone()),
            Kind::Ident(_) => unreachable!("the checker resolves or refuses names"),
            Kind::Message { name, fields } => {
                let fields = fields.iter();
                let parts = fields
                    .map(|field| (field.name.clone(), self.node(&field.value), field.optional))
                    .collect();
                Node::Object(name.clone(), parts)
            }
            Kind::Select { operand, field, test } => {
                let mut attribute = self.attribute(operand);
                let key = Value::String(field.clone());
                if *test {
                    return Node::Test(Box::new(attribute), key);
                }
                qualify(&mut attribute, Qualifier { key: QualifierKey::Constant(key), optional: false });
                Node::Attribute(Box::new(attribute))
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List { elements } => {
                let parts: Vec<(Node, bool)> =
                    elements.iter().map(|part| (self.node(&part.value), part.optional)).collect();
                constant_list(&parts).map_or(Node::List(parts), Node::Const)
            }
            Kind::Map { entries } => {
                let parts: Vec<(Node, Node, bool)> = entries
                    .iter()
                    .map(|entry| (self.node(&entry.key), self.node(&entry.value), entry.optional))
                    .collect();
                constant_map(&parts).map_or(Node::Map(parts), Node::Const)
            }
            Kind::Comprehension(comprehension) => self.fold(comprehension),
        }
    }

    fn name(&mut self, named: &Named) -> Node {
        let base = match named {
            Named::Type(name) => return Node::Const(Value::Type(name.clone())),
            Named::Variable(name) => self.variable(name),
        };
        Node::Attribute(Box::new(Attribute { base, qualifiers: Vec::new() }))
    }

    fn variable(&mut self, name: &Arc<str>) -> Base {
        if let Some((_, slot)) = self.scopes.iter().rev().find(|(known, _)| known == name) {
            return Base::Slot(*slot);
        }
        let known = self.variables.iter().position(|known| known == name);
        Base::Variable(known.unwrap_or_else(|| {
            self.variables.push(name.clone());
            self.variables.len() - 1
        }))
    }

    /// The expression as something qualifiers can be added to.
    fn attribute(&mut self, expr: &Expr) -> Attribute {
        match self.node(expr) {
            Node::Attribute(attribute) => *attribute,
            other => Attribute { base: Base::Relative(other), qualifiers: Vec::new() },
        }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        match (function, args) {
            ("_&&_", [one, two]) => Node::And(Box::new(self.node(one)), Box::new(self.node(two))),
            ("_||_", [one, two]) => Node::Or(Box::new(self.node(one)), Box::new(self.node(two))),
            ("_?_:_", [condition, truthy, falsy]) => {
                let condition = self.node(condition);
                let (truthy, falsy) = (self.attribute(truthy), self.attribute(falsy));
                let base = Base::Conditional(condition, Box::new(truthy), Box::new(falsy));
                Node::Attribute(Box::new(Attribute { base, qualifiers: Vec::new() }))
            }
            ("_==_" | "_!=_", [one, two]) => {
                Node::Equal(Box::new(self.node(one)), Box::new(self.node(two)), function == "_!=_")
            }
            ("@not_strictly_false", [arg]) => Node::NotStrictlyFalse(Box::new(self.node(arg))),
            ("_[_]" | "_[?_]" | "_?._", [operand, index]) => {
                let mut attribute = self.attribute(operand);
                let key = match self.node(index) {
                    Node::Const(value) => QualifierKey::Constant(value),
                    Node::Attribute(index) => QualifierKey::Computed(Arc::new(*index)),
                    other => {
                        let index = Attribute { base: Base::Relative(other), qualifiers: Vec::new() };
                        QualifierKey::Computed(Arc::new(index))
                    }
                };
                qualify(&mut attribute, Qualifier { key, optional: function != "_[_]" });
                Node::Attribute(Box::new(attribute))
            }
            _ => self.function(expr, function, target, args),
        }
    }

    fn function(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        let name = self.checked.namespaced.get(&expr.id).cloned();
        let target = if name.is_some() { None } else { target };
        let name: Arc<str> = name.map_or_else(|| function.into(), Into::into);
        let mut nodes: Vec<Node> = target.into_iter().chain(args).map(|arg| self.node(arg)).collect();
        if target.is_some() && matches!(function, "or" | "orValue") && nodes.len() == 2 {
            let (other, one) = (nodes.pop(), nodes.pop());
            if let (Some(one), Some(other)) = (one, other) {
                return Node::OptionalOr(Box::new(one), Box::new(other), function == "orValue");
            }
        }
        if let Some(slot) = self.own_accumulator(&nodes) {
            match (&*name, nodes.len()) {
                ("_+_", 2) if matches!(nodes[1], Node::List(_) | Node::Const(Value::List(_))) => {
                    return Node::Append(slot, Box::new(nodes.remove(1)));
                }
                ("cel.@mapInsert", _) => {
                    nodes.remove(0);
                    return Node::Insert(slot, nodes);
                }
                _ => {}
            }
        }
        if &*name == "@in"
            && let [_, Node::Const(Value::List(list))] = &nodes[..]
        {
            if list.items.is_empty() {
                return Node::Const(Value::Bool(false));
            }
            if list.items.iter().all(is_simple) {
                let items = list.items.clone();
                return Node::Member(Box::new(nodes.remove(0)), items);
            }
        }
        self.plain_call(expr, name, nodes)
    }

    fn plain_call(&mut self, expr: &Expr, name: Arc<str>, args: Vec<Node>) -> Node {
        let overloads = self.checked.overloads.get(&expr.id).map(Vec::as_slice).unwrap_or_default();
        let overload = match overloads {
            [only] => Some(only.id.clone()),
            _ => None,
        };
        let typed = overload.as_deref().and_then(library::lists::typed_sum);
        let Some(function) = typed.or_else(|| library::find(&name)) else {
            self.failed = Some(EvalError::new(format!("no such overload: {name}")));
            return Node::Const(Value::Null);
        };
        if let [Node::Const(arg)] = &args[..]
            && library::is_conversion(&name)
        {
            match function(std::slice::from_ref(arg)) {
                Ok(value) => return Node::Const(value),
                Err(error) => self.failed = Some(error),
            }
        }
        if let ("find" | "findAll", Some(Node::Const(Value::String(pattern)))) = (&*name, args.get(1))
            && let Err(text) = library::regex::compile(pattern)
        {
            self.failed = Some(EvalError::new(text));
        }
        Node::Call(Box::new(Call { name, overload, function, args }))
    }

    /// The slot, if the first node is the accumulator of a macro and nothing else.
    fn own_accumulator(&self, nodes: &[Node]) -> Option<usize> {
        let Some(Node::Attribute(attribute)) = nodes.first() else { return None };
        let Base::Slot(slot) = attribute.base else { return None };
        let own = self.scopes.iter().any(|(name, known)| *known == slot && &**name == ACCUMULATOR);
        (own && attribute.qualifiers.is_empty()).then_some(slot)
    }

    fn slot(&mut self, name: &Arc<str>) -> usize {
        self.n_slots += 1;
        self.scopes.push((name.clone(), self.n_slots - 1));
        self.n_slots - 1
    }

    fn fold(&mut self, comprehension: &Comprehension) -> Node {
        let range = self.node(&comprehension.range);
        let init = self.node(&comprehension.init);
        let outer = self.scopes.len();
        let accumulator = self.slot(&comprehension.accumulator);
        let first = self.slot(&comprehension.variable);
        let second = comprehension.second.as_ref().map(|second| self.slot(second));
        let condition = self.node(&comprehension.condition);
        let step = self.node(&comprehension.step);
        self.scopes.truncate(outer + 1);
        let result = self.node(&comprehension.result);
        self.scopes.truncate(outer);
        Node::Fold(Box::new(Fold { range, first, second, accumulator, init, condition, step, result }))
    }
}

fn qualify(attribute: &mut Attribute, qualifier: Qualifier) {
    match &mut attribute.base {
        Base::Conditional(_, truthy, falsy) => {
            qualify(truthy, qualifier.clone());
            qualify(falsy, qualifier);
        }
        _ => attribute.qualifiers.push(qualifier),
    }
}

fn is_simple(value: &Value) -> bool {
    matches!(
        value,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_)
    )
}

fn constant_list(parts: &[(Node, bool)]) -> Option<Value> {
    let mut items = Vec::new();
    for part in parts {
        match part {
            (Node::Const(value), false) => items.push(value.clone()),
            _ => return None,
        }
    }
    Some(Value::List(Arc::new(List { items, kind: ListKind::Atomic })))
}

fn constant_map(parts: &[(Node, Node, bool)]) -> Option<Value> {
    let mut entries = BTreeMap::new();
    for part in parts {
        match part {
            (Node::Const(key), Node::Const(value), false) => entries.insert(Key::new(key)?, value.clone()),
            _ => return None,
        };
    }
    Some(Value::Map(Arc::new(Map { entries, ..Map::default() })))
}

/// Whether `wanted` is one of the simple values `items`.
pub(crate) fn is_member(items: &[Value], wanted: &Value) -> bool {
    items.iter().any(|item| equal(item, wanted).unwrap_or(false))
}
