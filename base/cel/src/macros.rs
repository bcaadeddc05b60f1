//! The macros of the language and of Kubernetes' libraries, by the version that brought them.

use std::sync::Arc;

use crate::ast::{Comprehension, Element, Expr, Kind};
use crate::lexer::Failure;
use crate::maker::Maker;
use crate::parser::NODES_MAX;
use crate::value::Value;

pub(crate) const ACCUMULATOR: &str = "@result";
const UNUSED: &str = "#unused";
const SORT_INPUT: &str = "@__sortBy_input__";

/// Macros as `(name, arguments, is member, first minor version)`.
pub(crate) const MACROS: [(&str, usize, bool, u32); 20] = [
    ("has", 1, false, 25),
    ("all", 2, true, 25),
    ("exists", 2, true, 25),
    ("exists_one", 2, true, 25),
    ("filter", 2, true, 25),
    ("map", 2, true, 25),
    ("map", 3, true, 25),
    ("optMap", 2, true, 28),
    ("optFlatMap", 2, true, 28),
    ("all", 3, true, 32),
    ("exists", 3, true, 32),
    ("exists_one", 3, true, 32),
    ("existsOne", 3, true, 32),
    ("transformList", 3, true, 32),
    ("transformList", 4, true, 32),
    ("transformMap", 3, true, 32),
    ("transformMap", 4, true, 32),
    ("transformMapEntry", 3, true, 32),
    ("transformMapEntry", 4, true, 32),
    ("sortBy", 2, true, 34),
];

/// The node of a call: the expansion if it is a macro, else the call itself.
pub(crate) fn expand(
    maker: &mut Maker,
    at: usize,
    name: &str,
    target: Option<Expr>,
    args: Vec<Expr>,
) -> Result<Expr, Failure> {
    let known = MACROS.iter().any(|(macro_name, n_args, member, minor)| {
        *macro_name == name && *n_args == args.len() && *member == target.is_some() && *minor <= maker.minor
    });
    if !known {
        let target = target.map(Box::new);
        return Ok(maker.make(at, Kind::Call { function: name.into(), target, args }));
    }
    match target {
        None => has(at, args),
        Some(target) => Expansion { maker, at }.member(name, target, args),
    }
}

fn has(at: usize, mut args: Vec<Expr>) -> Result<Expr, Failure> {
    let arg = args.pop().expect("the number of arguments was compared");
    match arg.kind {
        Kind::Select { operand, field, test: false } => {
            let kind = Kind::Select { operand, field, test: true };
            Ok(Expr { id: arg.id, at, depth: arg.depth, kind })
        }
        _ => Err((arg.at, "invalid argument to has() macro".to_owned())),
    }
}

struct Expansion<'a> {
    maker: &'a mut Maker,
    at: usize,
}

/// Range and loop variables of a macro.
struct Head {
    range: Expr,
    variable: Arc<str>,
    second: Option<Arc<str>>,
}

impl Expansion<'_> {
    fn member(mut self, name: &str, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Failure> {
        if name == "sortBy" {
            return self.sort_by(target, args);
        }
        let variable = simple_name(&args.remove(0))?;
        let two = args.len() >= 2 && name != "map" || name.starts_with("transform");
        let second = if two { Some(simple_name(&args.remove(0))?) } else { None };
        if second.as_ref() == Some(&variable) {
            return Err((self.at, "duplicate iteration variable name".to_owned()));
        }
        let last = args.pop().expect("every macro has a last argument");
        let filter = args.pop();
        if matches!(name, "optMap" | "optFlatMap") {
            return self.optional(name, target, variable, last);
        }
        let head = Head { range: target, variable, second };
        Ok(match name {
            "all" => self.all(head, last),
            "exists" => self.exists(head, last),
            "exists_one" | "existsOne" => self.exists_one(head, last),
            "filter" => {
                let name = head.variable.clone();
                let element = self.maker.ident(last.at, &name);
                self.transform_list(head, Some(last), element)
            }
            "map" | "transformList" => self.transform_list(head, filter, last),
            "transformMap" => {
                let key = self.ident(&head.variable.clone());
                self.transform_map(head, filter, vec![key, last])
            }
            _ => self.transform_map(head, filter, vec![last]),
        })
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.maker.ident(self.at, name)
    }

    fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn literal(&mut self, value: Value) -> Expr {
        self.maker.literal(self.at, value)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.maker.call(self.at, function, args)
    }

    fn fold(&mut self, head: Head, init: Expr, condition: Expr, step: Expr, result: Expr) -> Expr {
        let Head { range, variable, second } = head;
        let accumulator = ACCUMULATOR.into();
        let comprehension =
            Comprehension { range, variable, second, accumulator, init, condition, step, result };
        self.maker.make(self.at, Kind::Comprehension(Box::new(comprehension)))
    }

    fn all(&mut self, head: Head, predicate: Expr) -> Expr {
        let init = self.literal(Value::Bool(true));
        let so_far = self.accumulator();
        let condition = self.call("@not_strictly_false", vec![so_far]);
        let so_far = self.accumulator();
        let step = self.call("_&&_", vec![so_far, predicate]);
        let result = self.accumulator();
        self.fold(head, init, condition, step, result)
    }

    fn exists(&mut self, head: Head, predicate: Expr) -> Expr {
        let init = self.literal(Value::Bool(false));
        let so_far = self.accumulator();
        let not_yet = self.call("!_", vec![so_far]);
        let condition = self.call("@not_strictly_false", vec![not_yet]);
        let so_far = self.accumulator();
        let step = self.call("_||_", vec![so_far, predicate]);
        let result = self.accumulator();
        self.fold(head, init, condition, step, result)
    }

    fn exists_one(&mut self, head: Head, predicate: Expr) -> Expr {
        let init = self.literal(Value::Int(0));
        let condition = self.literal(Value::Bool(true));
        let (so_far, one) = (self.accumulator(), self.literal(Value::Int(1)));
        let more = self.call("_+_", vec![so_far, one]);
        let same = self.accumulator();
        let step = self.call("_?_:_", vec![predicate, more, same]);
        let (so_far, one) = (self.accumulator(), self.literal(Value::Int(1)));
        let result = self.call("_==_", vec![so_far, one]);
        self.fold(head, init, condition, step, result)
    }

    fn transform_list(&mut self, head: Head, filter: Option<Expr>, element: Expr) -> Expr {
        let init = self.maker.make(self.at, Kind::List { elements: Vec::new() });
        let condition = self.literal(Value::Bool(true));
        let so_far = self.accumulator();
        let elements = vec![Element { value: element, optional: false }];
        let list = self.maker.make(self.at, Kind::List { elements });
        let step = self.call("_+_", vec![so_far, list]);
        let step = self.filtered(filter, step);
        let result = self.accumulator();
        self.fold(head, init, condition, step, result)
    }

    /// `values` are what is inserted: key and value, or a whole map.
    fn transform_map(&mut self, head: Head, filter: Option<Expr>, values: Vec<Expr>) -> Expr {
        let init = self.maker.make(self.at, Kind::Map { entries: Vec::new() });
        let condition = self.literal(Value::Bool(true));
        let mut args = vec![self.accumulator()];
        args.extend(values);
        let step = self.call("cel.@mapInsert", args);
        let step = self.filtered(filter, step);
        let result = self.accumulator();
        self.fold(head, init, condition, step, result)
    }

    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        let Some(filter) = filter else { return step };
        let same = self.accumulator();
        self.call("_?_:_", vec![filter, step, same])
    }

    /// `name` stands for `value` in `body`; the value is computed when first used.
    fn bind(&mut self, name: Arc<str>, value: Expr, body: Expr) -> Expr {
        let range = self.maker.make(self.at, Kind::List { elements: Vec::new() });
        let condition = self.literal(Value::Bool(false));
        let step = self.ident(&name);
        let variable = UNUSED.into();
        let comprehension = Comprehension {
            range,
            variable,
            second: None,
            accumulator: name,
            init: value,
            condition,
            step,
            result: body,
        };
        self.maker.make(self.at, Kind::Comprehension(Box::new(comprehension)))
    }

    fn optional(
        &mut self,
        name: &str,
        target: Expr,
        variable: Arc<str>,
        body: Expr,
    ) -> Result<Expr, Failure> {
        // The target stands twice in the expansion, so chains of these macros grow fast.
        if !self.maker.has_room(&target) {
            return Err((self.at, format!("expression has more than {NODES_MAX} nodes")));
        }
        let again = recopy(self.maker, &target);
        let present = self.maker.member(self.at, "hasValue", target, Vec::new());
        let value = self.maker.member(self.at, "value", again, Vec::new());
        let mut truthy = self.bind(variable, value, body);
        if name == "optMap" {
            truthy = self.optional_function("of", vec![truthy]);
        }
        let falsy = self.optional_function("none", Vec::new());
        Ok(self.call("_?_:_", vec![present, truthy, falsy]))
    }

    fn optional_function(&mut self, name: &str, args: Vec<Expr>) -> Expr {
        self.call(&format!("optional.{name}"), args)
    }

    fn sort_by(&mut self, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Failure> {
        if matches!(target.kind, Kind::Literal(_) | Kind::Map { .. } | Kind::Message { .. }) {
            let text =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err((target.at, text.to_owned()));
        }
        let key = args.pop().expect("the number of arguments was compared");
        let variable = simple_name(&args.remove(0))?;
        let input = self.ident(SORT_INPUT);
        let head = Head { range: self.maker.copy(&input), variable, second: None };
        let keys = self.transform_list(head, None, key);
        let sorted = self.maker.member(self.at, "@sortByAssociatedKeys", input, vec![keys]);
        Ok(self.bind(SORT_INPUT.into(), target, sorted))
    }
}

fn simple_name(expr: &Expr) -> Result<Arc<str>, Failure> {
    match &expr.kind {
        Kind::Ident(name) if &**name == ACCUMULATOR => {
            Err((expr.at, "iteration variable overwrites accumulator variable".to_owned()))
        }
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err((expr.at, "argument must be a simple name".to_owned())),
    }
}

/// A copy of a whole tree with fresh ids.
fn recopy(maker: &mut Maker, expr: &Expr) -> Expr {
    let mut copy = |expr: &Expr| recopy(maker, expr);
    let kind = match &expr.kind {
        Kind::Literal(value) => Kind::Literal(value.clone()),
        Kind::Ident(name) => Kind::Ident(name.clone()),
        Kind::Select { operand, field, test } => {
            Kind::Select { operand: Box::new(copy(operand)), field: field.clone(), test: *test }
        }
        Kind::Call { function, target, args } => Kind::Call {
            function: function.clone(),
            target: target.as_ref().map(|target| Box::new(copy(target))),
            args: args.iter().map(&mut copy).collect(),
        },
        Kind::List { elements } => Kind::List {
            elements: elements
                .iter()
                .map(|element| Element { value: copy(&element.value), optional: element.optional })
                .collect(),
        },
        Kind::Map { entries } => Kind::Map {
            entries: entries
                .iter()
                .map(|entry| crate::ast::Entry {
                    key: copy(&entry.key),
                    value: copy(&entry.value),
                    optional: entry.optional,
                })
                .collect(),
        },
        Kind::Message { name, fields } => Kind::Message {
            name: name.clone(),
            fields: fields
                .iter()
                .map(|field| crate::ast::Field { value: copy(&field.value), ..field.clone() })
                .collect(),
        },
        Kind::Comprehension(old) => Kind::Comprehension(Box::new(Comprehension {
            range: copy(&old.range),
            variable: old.variable.clone(),
            second: old.second.clone(),
            accumulator: old.accumulator.clone(),
            init: copy(&old.init),
            condition: copy(&old.condition),
            step: copy(&old.step),
            result: copy(&old.result),
        })),
    };
    maker.make(expr.at, kind)
}
