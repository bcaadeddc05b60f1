//! Compiling and evaluating: the entry points.

use crate::ast::{Expr, Kind};
use crate::check;
use crate::environment::{Bindings, Environment};
use crate::error::{Errors, EvalError};
use crate::estimate::{self, Range};
use crate::eval::Evaluation;
use crate::parser;
use crate::plan::{self, Plan};
use crate::room::with_room;
use crate::types::Type;
use crate::validate;
use crate::value::{Value, reset_comparisons};

/// What one evaluation may cost (Kubernetes' `PerCallLimit`).
pub const CALL_COST_MAX: u64 = 1_000_000;

/// An expression ready to be evaluated, as often as wanted and from any thread.
#[derive(Debug)]
pub struct Program {
    plan: Plan,
    deep: bool,
    result: Type,
    names: Vec<String>,
    /// Names and the fields read of them: `variables.limit`.
    members: Vec<(String, String)>,
}

/// A value, and what finding it cost.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub result: Result<Value, EvalError>,
    /// In Kubernetes' unit; also what was used up to an error.
    pub cost: u64,
}

/// Deeper expressions get a thread with a large stack.
const SHALLOW: usize = 30;

/// Parses, checks and plans `source`.
pub fn compile(source: &str, environment: &Environment) -> Result<Program, Errors> {
    // Nesting and chains both need brackets, dots or operators: few of them cannot be deep.
    let n_marks = source.bytes().filter(|b| b"([{.?+-*/%<>=!".contains(b)).count();
    match with_room(n_marks > SHALLOW, || compile_here(source, environment)) {
        Some(compiled) => compiled,
        None => Err(Errors::new(source, vec![(None, NO_THREAD.to_owned())])),
    }
}

/// The estimated cost of an expression; `None` if it does not compile. `sizes` gives the sizes of values by
/// path: a variable, then names of fields, `@items`, `@keys` or `@values`; `None` is "can be anything".
pub fn estimate(
    source: &str,
    environment: &Environment,
    sizes: &(dyn Fn(&[std::sync::Arc<str>]) -> Option<Range> + Sync),
) -> Option<Range> {
    let work = || {
        let (expr, n_ids) = parser::parse(source, environment.minor).ok()?;
        let checked = check::check(&expr, n_ids, environment).ok()?;
        Some(estimate::estimate(&expr, &checked, &|path| sizes(path)))
    };
    with_room(source.len() > SHALLOW, work).flatten()
}

const NO_THREAD: &str = "cannot start a thread for a deep expression";

fn compile_here(source: &str, environment: &Environment) -> Result<Program, Errors> {
    let (expr, n_ids) =
        parser::parse(source, environment.minor).map_err(|problems| Errors::new(source, problems))?;
    let checked =
        check::check(&expr, n_ids, environment).map_err(|problems| Errors::new(source, problems))?;
    let problems = validate::validate(&expr, &checked);
    if !problems.is_empty() {
        return Err(Errors::new(source, problems));
    }
    let (mut names, mut members) = (Vec::new(), Vec::new());
    collect_names(&expr, &mut names, &mut members);
    let result = checked.types[expr.id].clone();
    Ok(Program { plan: plan::plan(&expr, &checked), deep: expr.depth > SHALLOW, result, names, members })
}

fn collect_names(expr: &Expr, names: &mut Vec<String>, members: &mut Vec<(String, String)>) {
    match &expr.kind {
        Kind::Ident(name) => names.push(name.to_string()),
        Kind::Select { operand, field, .. } => {
            if let Kind::Ident(name) = &operand.kind {
                members.push((name.to_string(), field.to_string()));
            }
        }
        Kind::Call { function, args, .. } if function.as_ref() as &str == "_?._" => {
            if let [
                Expr { kind: Kind::Ident(name), .. },
                Expr { kind: Kind::Literal(Value::String(field)), .. },
            ] = &**args
            {
                members.push((name.to_string(), field.to_string()));
            }
        }
        _ => {}
    }
    expr.children(&mut |child| collect_names(child, names, members));
}

impl Program {
    /// The type of the result.
    pub fn result_type(&self) -> &Type {
        &self.result
    }

    /// The failure every evaluation gives, because a constant part cannot be computed.
    pub fn constant_failure(&self) -> Option<&EvalError> {
        self.plan.failed.as_ref()
    }

    /// Whether the expression names `variable` (a transition rule names `oldSelf`).
    pub fn uses(&self, variable: &str) -> bool {
        self.names.iter().any(|name| name == variable)
    }

    /// The fields of `variable` the expression reads: what must be computed before it is evaluated.
    pub fn fields_of<'p>(&'p self, variable: &'p str) -> impl Iterator<Item = &'p str> {
        self.members.iter().filter(move |(name, _)| name == variable).map(|(_, field)| field.as_str())
    }

    /// Evaluates; more cost than `cost_max` is `EvalError::CostLimit`.
    pub fn evaluate(&self, bindings: &Bindings, cost_max: u64) -> Result<Value, EvalError> {
        self.run(bindings, cost_max).result
    }

    /// Evaluates and says what it cost.
    pub fn run(&self, bindings: &Bindings, cost_max: u64) -> Outcome {
        if let Some(error) = &self.plan.failed {
            return Outcome { result: Err(error.clone()), cost: 0 };
        }
        let work = || {
            reset_comparisons();
            let mut evaluation = Evaluation::new(&self.plan, bindings, cost_max);
            let result = evaluation.eval(&self.plan.root).and_then(Value::valid);
            Outcome { result, cost: evaluation.cost }
        };
        let no_thread = || Outcome { result: Err(EvalError::new(NO_THREAD)), cost: 0 };
        with_room(self.deep, work).unwrap_or_else(no_thread)
    }
}
