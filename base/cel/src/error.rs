//! Errors of compiling (with positions, printed as upstream prints them) and of evaluating.

use std::fmt;
use std::sync::Arc;

/// One problem of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What is wrong, in upstream's words where we know them.
    pub message: String,
    /// Line, from 1; `None` if the problem has no place.
    pub line: Option<usize>,
    /// Column in characters, from 1; 0 if the problem has no place.
    pub column: usize,
    excerpt: Option<String>,
}

/// All problems of an expression, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Issue>);

impl Errors {
    pub(crate) fn new(source: &str, found: Vec<(Option<usize>, String)>) -> Errors {
        let lines: Vec<Vec<char>> = source.split('\n').map(|line| line.chars().collect()).collect();
        let mut issues: Vec<Issue> =
            found.into_iter().map(|(at, message)| issue(&lines, at, message)).collect();
        issues.sort_by_key(|issue| (issue.line, issue.column));
        Errors(issues)
    }
}

fn issue(lines: &[Vec<char>], at: Option<usize>, message: String) -> Issue {
    let Some(mut left) = at else { return Issue { message, line: None, column: 0, excerpt: None } };
    for (number, line) in lines.iter().enumerate() {
        if left <= line.len() || number + 1 == lines.len() {
            let excerpt = line.iter().map(|&c| if c == '\t' { ' ' } else { c }).collect();
            return Issue { message, line: Some(number + 1), column: left + 1, excerpt: Some(excerpt) };
        }
        left -= line.len() + 1;
    }
    Issue { message, line: None, column: 0, excerpt: None }
}

impl fmt::Display for Issue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "ERROR: <input>:{line}:{}: {}", self.column, self.message)?,
            None => write!(out, "ERROR: <input>:-1:0: {}", self.message)?,
        }
        if let Some(excerpt) = &self.excerpt {
            write!(out, "\n | {excerpt}\n | {}^", ".".repeat(self.column.saturating_sub(1)))?;
        }
        Ok(())
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression failed: a missing key, an overflow, a text that cannot be read ...
    #[error("{0}")]
    Failed(Arc<str>),
    /// More cost than the limit allows; nothing can absorb this error.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> EvalError {
        EvalError::Failed(Arc::from(message.into()))
    }

    pub(crate) fn no_overload() -> EvalError {
        EvalError::new("no such overload")
    }
}

pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::new(message))
}
