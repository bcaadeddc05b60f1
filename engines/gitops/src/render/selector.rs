//! Which objects a patch or a replacement is for: regular expressions on names and kinds, selectors on labels.

use regex::Regex;

use super::error::Error;
use super::id::{Gvk, ResId};
use super::kustomization::Selector;
use super::resource::{Resource, TextMap};
use super::world::World;

/// A selector with its expressions compiled. Empty parts take all.
pub(crate) struct Compiled {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: LabelSelector,
    annotations: LabelSelector,
    /// Nothing but labels and annotations is asked for.
    pub(crate) names_nothing: bool,
    pub(crate) has_label_selectors: bool,
}

fn compile(pattern: &str) -> Result<Option<Regex>, Error> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let anchored = format!("^(?:{pattern})$");
    match Regex::new(&anchored) {
        Ok(regex) => Ok(Some(regex)),
        Err(_) => Err(Error::new(format!("`{pattern}` is not a regular expression"))),
    }
}

fn fits(regex: &Option<Regex>, text: &str) -> bool {
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

impl Compiled {
    pub(crate) fn new(selector: &Selector) -> Result<Compiled, Error> {
        Ok(Compiled {
            group: compile(&selector.id.gvk.group)?,
            version: compile(&selector.id.gvk.version)?,
            kind: compile(&selector.id.gvk.kind)?,
            name: compile(&selector.id.name)?,
            namespace: compile(&selector.id.namespace)?,
            labels: LabelSelector::parse(&selector.label_selector)?,
            annotations: LabelSelector::parse(&selector.annotation_selector)?,
            names_nothing: selector.id == Default::default(),
            has_label_selectors: !selector.label_selector.is_empty()
                || !selector.annotation_selector.is_empty(),
        })
    }

    fn fits_gvk(&self, gvk: &Gvk) -> bool {
        fits(&self.group, &gvk.group) && fits(&self.version, &gvk.version) && fits(&self.kind, &gvk.kind)
    }

    /// Whether one name of an object passes, its namespace as it is written.
    pub(crate) fn fits_id(&self, id: &ResId) -> bool {
        self.fits_gvk(&id.gvk) && fits(&self.name, &id.name) && fits(&self.namespace, &id.namespace)
    }

    pub(crate) fn fits_labels(&self, resource: &Resource) -> bool {
        self.annotations.fits_all_of(|| resource.annotations())
            && self.labels.fits_all_of(|| resource.labels())
    }

    /// Whether a patch with this target is for the object, by its first name or its present one.
    pub(crate) fn selects(&self, resource: &Resource, world: &World) -> bool {
        let (now, first) = (resource.id(world), resource.original_id(world));
        let namespace = fits(&self.namespace, first.effective_namespace())
            || fits(&self.namespace, now.effective_namespace());
        namespace
            && (fits(&self.name, &first.name) || fits(&self.name, &now.name))
            && self.fits_gvk(&now.gvk)
            && self.fits_labels(resource)
    }
}

/// `a=b,c!=d,e in (f,g),h,!i`
#[derive(Debug, Default)]
pub(crate) struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In,
    NotIn,
    Greater,
    Less,
}

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Result<LabelSelector, Error> {
        let refused = || Error::new(format!("`{text}` is not a label selector"));
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(refused());
            }
            requirements.push(requirement(part).ok_or_else(refused)?);
        }
        Ok(LabelSelector { requirements })
    }

    fn fits_all_of(&self, labels: impl Fn() -> TextMap) -> bool {
        if self.requirements.is_empty() {
            return true;
        }
        let labels = labels();
        self.requirements
            .iter()
            .all(|requirement| requirement.fits(labels.get(requirement.key.as_str()).map(|value| &**value)))
    }
}

impl Requirement {
    fn fits(&self, value: Option<&str>) -> bool {
        let one_of = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let number = |text: &str| text.parse::<i64>().ok();
        match (self.operator, value) {
            (Operator::Exists, value) => value.is_some(),
            (Operator::Absent, value) => value.is_none(),
            (Operator::In, value) => value.is_some_and(one_of),
            (Operator::NotIn, value) => value.is_none_or(|value| !one_of(value)),
            (Operator::Greater | Operator::Less, None) => false,
            (operator, Some(value)) => match (number(value), number(&self.values[0])) {
                (Some(value), Some(bound)) if operator == Operator::Greater => value > bound,
                (Some(value), Some(bound)) => value < bound,
                _ => false,
            },
        }
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
    };
    let is_value = |text: &str| {
        text.len() <= 63
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && text.chars().next().is_none_or(|c| c.is_ascii_alphanumeric())
            && text.chars().next_back().is_none_or(|c| c.is_ascii_alphanumeric())
    };
    let make = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        (is_word(key) && values.iter().all(|value| is_value(value))).then(|| Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    };
    if let Some(key) = part.strip_prefix('!') {
        return make(key, Operator::Absent, Vec::new());
    }
    if let Some((before, rest)) = part.split_once('(') {
        let values = rest.trim_end().strip_suffix(')')?;
        let mut words = before.split_whitespace();
        let (key, operator) = (words.next()?, words.next()?);
        let operator = match operator {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return None,
        };
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return make(key, operator, values);
    }
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ] {
        if let Some((key, value)) = part.split_once(sign) {
            let value = value.trim();
            if matches!(operator, Operator::Greater | Operator::Less) && value.parse::<i64>().is_err() {
                return None;
            }
            return make(key, operator, vec![value.to_owned()]);
        }
    }
    make(part, Operator::Exists, Vec::new())
}
