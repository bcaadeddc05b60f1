//! Evaluation. Cost is counted step by step as upstream's tracker does: 1 for a name and for each access,
//! 10 for a list and 30 for a map that is made, calls by `cost`; logic and choice are free.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost;
use crate::environment::Bindings;
use crate::error::{EvalError, fail};
use crate::plan::{Attribute, Base, Call, Fold, Node, Plan, QualifierKey, is_member};
use crate::value::{Key, List, Map, Value, add_lists, equal};

type Evaluated = Result<Value, EvalError>;

pub(crate) struct Evaluation<'p> {
    variables: Vec<Option<&'p Value>>,
    names: &'p [Arc<str>],
    slots: Vec<Slot<'p>>,
    pub(crate) cost: u64,
    cost_max: u64,
}

/// A variable of a loop.
enum Slot<'p> {
    Empty,
    /// Computed when first read.
    Lazy(&'p Node),
    Full(Evaluated),
}

impl<'p> Evaluation<'p> {
    pub(crate) fn new(plan: &'p Plan, bindings: &'p Bindings, cost_max: u64) -> Evaluation<'p> {
        let variables = plan.variables.iter().map(|name| bindings.get(name)).collect();
        let slots = (0..plan.n_slots).map(|_| Slot::Empty).collect();
        Evaluation { variables, names: &plan.variables, slots, cost: 0, cost_max }
    }

    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.cost_max { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    pub(crate) fn eval(&mut self, node: &'p Node) -> Evaluated {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Attribute(attribute) => self.attribute(attribute),
            Node::Test(attribute, key) => self.test(attribute, key),
            Node::And(one, two) => self.logic(one, two, false),
            Node::Or(one, two) => self.logic(one, two, true),
            Node::Equal(one, two, negated) => {
                let (one, two) = (self.argument(one)?, self.argument(two)?);
                self.charge(cost::comparison(&one, &two))?;
                let (one, two) = (one.valid()?, two.valid()?);
                Ok(Value::Bool(equal(&one, &two)? != *negated))
            }
            Node::NotStrictlyFalse(arg) => {
                let value = self.argument(arg)?;
                self.charge(1)?;
                Ok(Value::Bool(!matches!(value, Value::Bool(false))))
            }
            Node::Member(arg, items) => {
                let value = self.eval(arg)?;
                Ok(Value::Bool(is_member(items, &value)))
            }
            Node::OptionalOr(one, two, value) => match self.eval(one)? {
                Value::Optional(Some(inner)) if *value => Ok(Value::clone(&inner)),
                Value::Optional(None) => self.eval(two),
                full @ Value::Optional(Some(_)) => Ok(full),
                _ => Err(EvalError::no_overload()),
            },
            Node::Call(call) => self.call(call),
            Node::List(parts) => self.list(parts),
            Node::Map(parts) => self.map(parts),
            Node::Object(name, fields) => self.object(name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::Append(slot, list) => self.append(*slot, list),
            Node::Insert(slot, parts) => self.insert(*slot, parts),
        }
    }

    /// Evaluates an argument: a failure becomes a value, because all arguments are looked at.
    fn argument(&mut self, node: &'p Node) -> Evaluated {
        match self.eval(node) {
            Err(EvalError::Failed(text)) => Ok(Value::Invalid(text)),
            other => other,
        }
    }

    /// `one || two` if `stop` is true, else `one && two`: `stop` on either side decides.
    fn logic(&mut self, one: &'p Node, two: &'p Node, stop: bool) -> Evaluated {
        let mut failure = None;
        for side in [one, two] {
            match self.eval(side) {
                Ok(Value::Bool(value)) if value == stop => return Ok(Value::Bool(stop)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failure = failure.or(Some(EvalError::no_overload())),
                Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Value::Bool(!stop)), Err)
    }

    fn attribute(&mut self, attribute: &'p Attribute) -> Evaluated {
        let value = self.resolve(attribute);
        if !matches!(attribute.base, Base::Conditional(..)) && !matches!(value, Err(EvalError::CostLimit)) {
            self.charge(1)?;
        }
        value
    }

    fn resolve(&mut self, attribute: &'p Attribute) -> Evaluated {
        let base = self.base(attribute)?;
        if attribute.qualifiers.is_empty() {
            return Ok(base);
        }
        let (mut value, mut optional) = match base {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (Value::clone(&inner), true),
            plain => (plain, false),
        };
        for qualifier in &attribute.qualifiers {
            optional |= qualifier.optional;
            if let Value::Optional(inner) = &value {
                optional = true;
                match inner {
                    Some(inner) => value = Value::clone(inner),
                    None => return Ok(Value::Optional(None)),
                }
            }
            let (key, price) = self.key(&qualifier.key)?;
            if optional {
                match find(&value, &key)? {
                    Some(found) => value = found,
                    None => return Ok(Value::Optional(None)),
                }
                self.charge(price)?;
            } else {
                let found = get(&value, &key);
                self.charge(price)?;
                value = found?;
            }
        }
        Ok(match value {
            full @ Value::Optional(_) => full,
            value if optional => Value::some(value),
            value => value,
        })
    }

    fn base(&mut self, attribute: &'p Attribute) -> Evaluated {
        match &attribute.base {
            Base::Variable(index) => match self.variables[*index] {
                Some(value) => value.clone().valid(),
                None => fail(format!("no such attribute(s): {}", self.names[*index])),
            },
            Base::Slot(slot) => self.read(*slot),
            Base::Relative(node) => self.eval(node),
            Base::Conditional(condition, truthy, falsy) => match self.eval(condition)? {
                Value::Bool(true) => self.resolve(truthy),
                Value::Bool(false) => self.resolve(falsy),
                _ => Err(EvalError::no_overload()),
            },
        }
    }

    /// The key of a qualifier and what using it costs.
    fn key(&mut self, key: &'p QualifierKey) -> Result<(Value, u64), EvalError> {
        match key {
            QualifierKey::Constant(value) => Ok((value.clone(), 1)),
            QualifierKey::Computed(attribute) => {
                let price = u64::from(!matches!(attribute.base, Base::Conditional(..)));
                match self.resolve(attribute) {
                    Ok(value) => Ok((value, price)),
                    Err(EvalError::CostLimit) => Err(EvalError::CostLimit),
                    Err(error) => {
                        self.charge(price)?;
                        Err(error)
                    }
                }
            }
        }
    }

    fn test(&mut self, attribute: &'p Attribute, key: &Value) -> Evaluated {
        if let Base::Conditional(condition, truthy, falsy) = &attribute.base {
            return match self.eval(condition)? {
                Value::Bool(true) => self.test(truthy, key),
                Value::Bool(false) => self.test(falsy, key),
                _ => Err(EvalError::no_overload()),
            };
        }
        let value = match self.resolve(attribute)? {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(inner)) => Value::clone(&inner),
            value => value,
        };
        let found = find(&value, key);
        self.charge(1)?;
        Ok(Value::Bool(found?.is_some()))
    }

    fn read(&mut self, slot: usize) -> Evaluated {
        if let Slot::Lazy(node) = self.slots[slot] {
            let value = self.eval(node);
            self.slots[slot] = Slot::Full(value);
        }
        match &self.slots[slot] {
            Slot::Full(value) => value.clone().and_then(Value::valid),
            _ => fail("no such attribute(s): a variable outside its loop"),
        }
    }

    /// Reads the slot and leaves it empty, so that its value is not shared.
    fn take(&mut self, slot: usize) -> Evaluated {
        if let Slot::Lazy(_) = self.slots[slot] {
            self.read(slot)?;
        }
        match std::mem::replace(&mut self.slots[slot], Slot::Empty) {
            Slot::Full(value) => value,
            _ => fail("no such attribute(s): a variable outside its loop"),
        }
    }

    fn call(&mut self, call: &'p Call) -> Evaluated {
        let n_args = call.args.len();
        let mut args = Vec::with_capacity(n_args);
        let mut failure = None;
        for (index, arg) in call.args.iter().enumerate() {
            let value = self.argument(arg)?;
            if let Value::Invalid(text) = &value {
                failure = failure.or(Some(EvalError::Failed(text.clone())));
                if n_args > 2 && index + 1 < n_args {
                    return failure.map_or_else(|| Err(EvalError::no_overload()), Err);
                }
            }
            args.push(value);
        }
        if cost::before(&call.name, &args) > self.cost_max.saturating_sub(self.cost) {
            return Err(EvalError::CostLimit);
        }
        let result = match failure {
            Some(error) => Err(error),
            None => (call.function)(&args),
        };
        self.charge(cost::call(&call.name, call.overload.as_deref(), &args, &result))?;
        result?.valid()
    }

    /// Making a list or a map costs the same if a part fails.
    fn list(&mut self, parts: &'p [(Node, bool)]) -> Evaluated {
        let items = self.items(parts);
        self.charge(cost::LIST)?;
        items.map(Value::list)
    }

    fn items(&mut self, parts: &'p [(Node, bool)]) -> Result<Vec<Value>, EvalError> {
        let mut items = Vec::with_capacity(parts.len());
        for (part, optional) in parts {
            match self.eval(part)? {
                Value::Optional(inner) if *optional => items.extend(inner.map(|inner| Value::clone(&inner))),
                _ if *optional => return Err(EvalError::no_overload()),
                value => items.push(value),
            }
        }
        Ok(items)
    }

    fn map(&mut self, parts: &'p [(Node, Node, bool)]) -> Evaluated {
        let entries = self.entries(parts);
        self.charge(cost::MAP)?;
        entries.map(|entries| Value::Map(Arc::new(Map { entries, ..Map::default() })))
    }

    fn entries(&mut self, parts: &'p [(Node, Node, bool)]) -> Result<BTreeMap<Key, Value>, EvalError> {
        let mut entries = BTreeMap::new();
        for (key, value, optional) in parts {
            let key = self.eval(key)?;
            let value = match self.eval(value)? {
                Value::Optional(None) if *optional => continue,
                Value::Optional(Some(inner)) if *optional => Value::clone(&inner),
                _ if *optional => return Err(EvalError::no_overload()),
                value => value,
            };
            let Some(key) = Key::new(&key) else {
                return fail(format!("unsupported key type: {}", key.type_name()));
            };
            entries.insert(key, value);
        }
        Ok(entries)
    }

    fn object(&mut self, name: &Arc<str>, fields: &'p [(Arc<str>, Node, bool)]) -> Evaluated {
        let mut entries = BTreeMap::new();
        for (field, value, optional) in fields {
            let value = match self.eval(value)? {
                Value::Optional(None) if *optional => continue,
                Value::Optional(Some(inner)) if *optional => Value::clone(&inner),
                _ if *optional => return Err(EvalError::no_overload()),
                value => value,
            };
            entries.insert(Key::String(field.clone()), value);
        }
        self.charge(cost::MESSAGE)?;
        Ok(Value::Map(Arc::new(Map { entries, unknown: None, object: true, name: Some(name.clone()) })))
    }

    fn fold(&mut self, fold: &'p Fold) -> Evaluated {
        let range = self.eval(&fold.range)?;
        self.slots[fold.accumulator] = Slot::Lazy(&fold.init);
        match &range {
            Value::List(list) => {
                for (index, item) in list.items.iter().enumerate() {
                    let pair = match fold.second {
                        Some(_) => (Value::Int(index as i64), item.clone()),
                        None => (item.clone(), Value::Null),
                    };
                    if !self.round(fold, pair)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, value) in &map.entries {
                    if !self.round(fold, (key.value(), value.clone()))? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_overload()),
        }
        let result = self.eval(&fold.result);
        self.slots[fold.accumulator] = Slot::Empty;
        result
    }

    /// One round of a loop; false ends it.
    fn round(&mut self, fold: &'p Fold, (first, second): (Value, Value)) -> Result<bool, EvalError> {
        self.slots[fold.first] = Slot::Full(Ok(first));
        if let Some(slot) = fold.second {
            self.slots[slot] = Slot::Full(Ok(second));
        }
        if let Value::Bool(false) = self.argument(&fold.condition)? {
            return Ok(false);
        }
        let step = self.eval(&fold.step);
        if matches!(step, Err(EvalError::CostLimit)) {
            return Err(EvalError::CostLimit);
        }
        self.slots[fold.accumulator] = Slot::Full(step);
        Ok(true)
    }

    fn append(&mut self, slot: usize, list: &'p Node) -> Evaluated {
        self.charge(1)?;
        let more = self.argument(list)?;
        self.charge(1)?;
        let mut sum = self.take(slot)?;
        match (&mut sum, more.valid()?) {
            (Value::List(sum), Value::List(more)) => {
                Arc::make_mut(sum).items.extend(more.items.iter().cloned());
            }
            _ => return Err(EvalError::no_overload()),
        }
        Ok(sum)
    }

    fn insert(&mut self, slot: usize, parts: &'p [Node]) -> Evaluated {
        self.charge(1)?;
        let mut args = Vec::new();
        for part in parts {
            let value = self.argument(part)?;
            if parts.len() > 1 {
                args.push(value.valid()?);
            } else {
                args.push(value);
            }
        }
        self.charge(1)?;
        let mut sum = self.take(slot)?;
        let Value::Map(map) = &mut sum else { return Err(EvalError::no_overload()) };
        let map = Arc::make_mut(map);
        match &args[..] {
            [key, value] => insert_entry(map, Key::new(key), value.clone())?,
            [more] => match more.clone().valid()? {
                Value::Map(more) => {
                    for (key, value) in &more.entries {
                        insert_entry(map, Some(key.clone()), value.clone())?;
                    }
                }
                _ => return Err(EvalError::no_overload()),
            },
            _ => return Err(EvalError::no_overload()),
        }
        Ok(sum)
    }
}

fn insert_entry(map: &mut Map, key: Option<Key>, value: Value) -> Result<(), EvalError> {
    let Some(key) = key else { return fail("unsupported key type") };
    if map.entries.contains_key(&key) {
        return fail(format!(
            "insert failed: key {} already exists",
            crate::library::convert::show(&key.value())
        ));
    }
    map.entries.insert(key, value);
    Ok(())
}

/// `value[key]`.
fn get(value: &Value, key: &Value) -> Evaluated {
    match find(value, key)? {
        Some(found) => Ok(found),
        None => match value {
            Value::List(_) => fail(format!("index out of bounds: {}", crate::library::convert::show(key))),
            _ => fail(format!("no such key: {}", crate::library::convert::show(key))),
        },
    }
}

fn find(value: &Value, key: &Value) -> Result<Option<Value>, EvalError> {
    let found = match value {
        Value::Map(map) => map.get(key),
        Value::List(list) => match index(key) {
            Some(index) => usize::try_from(index).ok().and_then(|index| list.items.get(index)),
            None => return fail(format!("unsupported index type '{}' in list", key.type_name())),
        },
        Value::Optional(Some(inner)) => return find(inner, key),
        Value::Optional(None) => None,
        _ => return Err(EvalError::no_overload()),
    };
    found.cloned().map(Value::valid).transpose()
}

fn index(key: &Value) -> Option<i64> {
    match Key::new(key)? {
        Key::Int(index) => Some(index),
        Key::Uint(index) => Some(i64::try_from(index).unwrap_or(i64::MAX)),
        _ => None,
    }
}

/// `one + two` of lists; here so that `List` stays plain data.
pub(crate) fn joined(one: &Arc<List>, two: &Arc<List>) -> Evaluated {
    add_lists(one, two)
}
