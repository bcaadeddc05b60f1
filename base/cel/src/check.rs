//! The type checker: names to what they stand for, calls to overloads, every node to a type.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Comprehension, Element, Entry, Expr, Field, Kind};
use crate::environment::Environment;
use crate::functions::{self, Overload};
use crate::mutation;
use crate::types::{self, Type};
use crate::unify::{Mapping, most_general};
use crate::value::Value;

/// What the checker found out, by the id of the node.
pub(crate) struct Checked {
    pub(crate) types: Vec<Type>,
    pub(crate) overloads: HashMap<usize, Vec<Arc<Overload>>>,
    /// Nodes that are a variable or a type, with its whole name.
    pub(crate) names: HashMap<usize, Named>,
    /// Member calls whose target is only the front part of a function's name.
    pub(crate) namespaced: HashMap<usize, String>,
}

#[derive(Clone)]
pub(crate) enum Named {
    Variable(Arc<str>),
    Type(Arc<str>),
}

pub(crate) type Problem = (Option<usize>, String);

/// Checks `expr`, whose ids are below `n_ids`.
pub(crate) fn check(expr: &Expr, n_ids: usize, environment: &Environment) -> Result<Checked, Vec<Problem>> {
    let checked = Checked {
        types: vec![Type::Error; n_ids],
        overloads: HashMap::new(),
        names: HashMap::new(),
        namespaced: HashMap::new(),
    };
    let mapping = Mapping::default();
    let mut checker =
        Checker { environment, checked, mapping, scopes: Vec::new(), problems: Vec::new(), n_variables: 0 };
    checker.check(expr);
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    let mut checked = checker.checked;
    for found in &mut checked.types {
        *found = checker.mapping.substitute(found, true);
    }
    Ok(checked)
}

struct Checker<'a> {
    environment: &'a Environment,
    checked: Checked,
    mapping: Mapping,
    scopes: Vec<(Arc<str>, Type)>,
    problems: Vec<Problem>,
    n_variables: usize,
}

impl Checker<'_> {
    fn check(&mut self, expr: &Expr) {
        let found = match &expr.kind {
            Kind::Literal(value) => literal_type(value),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List { elements } => self.list(elements),
            Kind::Map { entries } => self.map(entries),
            Kind::Message { name, fields } => self.message(expr, name, fields),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
        };
        self.checked.types[expr.id] = found;
    }

    fn message(&mut self, expr: &Expr, name: &str, fields: &[Field]) -> Type {
        fields.iter().for_each(|field| self.check(&field.value));
        if !self.environment.jsonpatch || !mutation::is_name(name) {
            return self.undeclared(expr, name);
        }
        for field in fields {
            let mut found = self.type_of(&field.value);
            if field.optional {
                found = match found {
                    Type::Optional(inner) => (*inner).clone(),
                    other if other.is_dyn() => other,
                    other => {
                        let text = format!("expected type 'optional_type(dyn)' but found '{other}'");
                        self.problem(field.value.at, text)
                    }
                };
            }
            match mutation::field(name, &field.name) {
                None => drop(self.problem(field.at, format!("undefined field '{}'", field.name))),
                Some(wanted) if !self.fits(&wanted, &found) => {
                    let (name, found) = (&field.name, self.mapping.substitute(&found, true));
                    let text = format!(
                        "expected type of field '{name}' is '{wanted}' but provided type is '{found}'"
                    );
                    self.problem(field.at, text);
                }
                Some(_) => {}
            }
        }
        mutation::named(name)
    }

    fn type_of(&self, expr: &Expr) -> Type {
        self.mapping.substitute(&self.checked.types[expr.id], false)
    }

    fn problem(&mut self, at: usize, text: String) -> Type {
        self.problems.push((Some(at), text));
        Type::Error
    }

    fn undeclared(&mut self, expr: &Expr, name: &str) -> Type {
        self.problem(expr.at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn mismatch(&mut self, at: usize, expected: &Type, found: &Type) -> Type {
        let expected = self.mapping.substitute(expected, true);
        let found = self.mapping.substitute(found, true);
        self.problem(at, format!("expected type '{expected}' but found '{found}'"))
    }

    fn fresh(&mut self) -> Type {
        self.n_variables += 1;
        Type::Param(format!("_var{}", self.n_variables).into())
    }

    fn fits(&mut self, one: &Type, two: &Type) -> bool {
        self.mapping.fit_all(std::slice::from_ref(one), std::slice::from_ref(two))
    }

    fn lookup(&self, name: &str) -> Option<(Named, Type)> {
        if let Some((name, found)) = self.scopes.iter().rev().find(|(known, _)| &**known == name) {
            return Some((Named::Variable(name.clone()), found.clone()));
        }
        if let Some((name, found)) = self.environment.variables.get_key_value(name) {
            return Some((Named::Variable(name.clone()), found.clone()));
        }
        let found = types::named(name, self.environment.minor)?;
        Some((Named::Type(name.into()), Type::TypeOf(Arc::new(found))))
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Type {
        match self.lookup(name) {
            Some((named, found)) => {
                self.checked.names.insert(expr.id, named);
                found
            }
            None => self.undeclared(expr, name),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        if !test
            && let Some(name) = expr.qualified_name()
            && let Some((named, found)) = self.lookup(&name)
        {
            self.checked.names.insert(expr.id, named);
            return found;
        }
        self.check(operand);
        let operand = self.type_of(operand);
        let found = self.field(expr.at, &operand, field, false);
        if test { Type::Bool } else { found }
    }

    fn field(&mut self, at: usize, operand: &Type, field: &str, optional: bool) -> Type {
        let (target, optional) = match operand {
            Type::Optional(inner) => (self.mapping.substitute(inner, false), true),
            other => (other.clone(), optional),
        };
        let found = match &target {
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) if mutation::is_name(&object.name) => {
                match mutation::field(&object.name, field) {
                    Some(found) => found,
                    None => self.problem(at, format!("undefined field '{field}'")),
                }
            }
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.clone(),
                None => self.problem(at, format!("undefined field '{field}'")),
            },
            Type::Param(_) => {
                self.fits(&Type::Dyn, &target);
                Type::Dyn
            }
            other if other.is_dyn() => Type::Dyn,
            other => {
                self.problem(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        if function == "_?._" {
            return self.optional_select(expr, args);
        }
        args.iter().for_each(|arg| self.check(arg));
        let Some(target) = target else {
            let overloads = self.find(function);
            if overloads.is_empty() {
                return self.undeclared(expr, function);
            }
            return self.resolve(expr, function, overloads, None, args);
        };
        if let Some(prefix) = target.qualified_name() {
            let name = format!("{prefix}.{function}");
            let overloads = self.find(&name);
            if !overloads.is_empty() {
                self.checked.namespaced.insert(expr.id, name.clone());
                return self.resolve(expr, &name, overloads, None, args);
            }
        }
        self.check(target);
        let overloads = self.find(function);
        if overloads.is_empty() {
            return self.undeclared(expr, function);
        }
        self.resolve(expr, function, overloads, Some(target), args)
    }

    fn find(&self, function: &str) -> Vec<Arc<Overload>> {
        functions::find(function, self.environment.minor, self.environment.jsonpatch)
    }

    fn optional_select(&mut self, expr: &Expr, args: &[Expr]) -> Type {
        self.check(&args[0]);
        self.check(&args[1]);
        let operand = self.type_of(&args[0]);
        match &args[1].kind {
            Kind::Literal(Value::String(field)) => {
                let field = field.clone();
                self.field(expr.at, &operand, &field, true)
            }
            _ => self.problem(expr.at, "unsupported optional field selection".to_owned()),
        }
    }

    fn resolve(
        &mut self,
        expr: &Expr,
        function: &str,
        overloads: Vec<Arc<Overload>>,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Type {
        let given: Vec<Type> = target.into_iter().chain(args).map(|arg| self.type_of(arg)).collect();
        let mut result: Option<Type> = None;
        let mut matching = Vec::new();
        for overload in overloads {
            if overload.member != target.is_some() {
                continue;
            }
            let (wanted, gives) = self.instance(&overload);
            if !self.mapping.fit_all(&given, &wanted) {
                continue;
            }
            let gives = self.mapping.substitute(&gives, false);
            result = Some(match result {
                None => gives,
                Some(before) if before.is_dyn() || before == gives => before,
                Some(_) => Type::Dyn,
            });
            matching.push(overload);
        }
        let Some(result) = result else {
            let given: Vec<String> =
                given.iter().map(|given| self.mapping.substitute(given, true).to_string()).collect();
            let shape = match target {
                Some(_) => format!("{}.({})", given[0], given[1..].join(", ")),
                None => format!("({})", given.join(", ")),
            };
            let text = format!("found no matching overload for '{function}' applied to '{shape}'");
            return self.problem(expr.at, text);
        };
        self.checked.overloads.insert(expr.id, matching);
        result
    }

    /// Argument and result types with fresh variables for the type parameters.
    fn instance(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        if !overload.generic {
            return (overload.args.clone(), overload.result.clone());
        }
        let mut fresh = Mapping::default();
        for name in ["A", "B", "T", "V", "K"] {
            fresh.add(name.into(), self.fresh());
        }
        let args = overload.args.iter().map(|arg| fresh.substitute(arg, false)).collect();
        (args, fresh.substitute(&overload.result, false))
    }

    fn list(&mut self, elements: &[Element]) -> Type {
        let mut joined = None;
        for element in elements {
            self.check(&element.value);
            let found = self.part(&element.value, element.optional);
            joined = Some(self.join(joined, found));
        }
        Type::list(joined.unwrap_or_else(|| self.fresh()))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&entry.key);
            let found = self.type_of(&entry.key);
            keys = Some(self.join(keys, found));
            self.check(&entry.value);
            let found = self.part(&entry.value, entry.optional);
            values = Some(self.join(values, found));
        }
        let key = keys.unwrap_or_else(|| self.fresh());
        let value = values.unwrap_or_else(|| self.fresh());
        Type::map(key, value)
    }

    /// The type of an element; that of its content if the element is optional.
    fn part(&mut self, expr: &Expr, optional: bool) -> Type {
        let found = self.type_of(expr);
        match found {
            Type::Optional(inner) if optional => (*inner).clone(),
            found if optional && !found.is_dyn() => {
                self.mismatch(expr.at, &Type::optional(found.clone()), &found);
                found
            }
            found => found,
        }
    }

    fn join(&mut self, before: Option<Type>, found: Type) -> Type {
        let Some(before) = before else { return found };
        if self.fits(&before, &found) { most_general(&before, &found) } else { Type::Dyn }
    }

    fn comprehension(&mut self, comprehension: &Comprehension) -> Type {
        let Comprehension { range, variable, second, accumulator, init, condition, step, result } =
            comprehension;
        self.check(range);
        self.check(init);
        let accumulated = self.type_of(init);
        let (first, value) = match self.type_of(range) {
            Type::List(element) if second.is_some() => (Type::Int, (*element).clone()),
            Type::List(element) => ((*element).clone(), Type::Dyn),
            Type::Map(key, value) => ((*key).clone(), (*value).clone()),
            free @ (Type::Dyn | Type::Error | Type::Param(_)) => {
                self.fits(&Type::Dyn, &free);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let other = self.mapping.substitute(&other, true);
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.problem(range.at, text);
                (Type::Error, Type::Error)
            }
        };
        let outer = self.scopes.len();
        self.scopes.push((accumulator.clone(), accumulated.clone()));
        self.scopes.push((variable.clone(), first));
        if let Some(second) = second {
            self.scopes.push((second.clone(), value));
        }
        self.check(condition);
        self.expect(condition, &Type::Bool);
        self.check(step);
        self.expect(step, &accumulated);
        self.scopes.truncate(outer + 1);
        self.check(result);
        self.scopes.truncate(outer);
        self.type_of(result)
    }

    fn expect(&mut self, expr: &Expr, wanted: &Type) {
        let found = self.type_of(expr);
        if !self.fits(wanted, &found) {
            self.mismatch(expr.at, wanted, &found);
        }
    }
}

fn literal_type(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}
