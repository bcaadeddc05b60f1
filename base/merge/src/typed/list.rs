//! Names of the elements of a list.

use serde_json::Value;

use crate::fields::Step;
use crate::schema::{ResolvedList, Schema};

/// The step from a list that is a set or a map to one of its elements.
pub(super) fn element_step(schema: &Schema, list: ResolvedList, element: &Value) -> Result<Step, String> {
    if list.atomic {
        return Err("invalid indexing of non-associative list".into());
    }
    if !list.keys.is_empty() {
        return key_step(schema, list, element);
    }
    match element {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
        scalar => Ok(Step::Value(scalar.clone())),
    }
}

fn key_step(schema: &Schema, list: ResolvedList, element: &Value) -> Result<Step, String> {
    let object = match element {
        Value::Object(object) => object,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut fields = Vec::with_capacity(list.keys.len());
    for key in list.keys {
        let value = match object.get(key) {
            Some(value) => value.clone(),
            None => match key_default(schema, list, key) {
                Ok(Some(default)) => default.clone(),
                // A key that is neither there nor defaulted is left out: fields may become keys in a later schema.
                Ok(None) => continue,
                Err(error) => return Err(format!("couldn't find default value for {key}: {error}")),
            },
        };
        fields.push((key.clone(), value));
    }
    if fields.is_empty() {
        let keys: Vec<String> = list.keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    Ok(Step::key(fields))
}

/// The default of a key field, from the type of the elements.
fn key_default<'a>(
    schema: &'a Schema,
    list: ResolvedList<'a>,
    key: &str,
) -> Result<Option<&'a Value>, &'static str> {
    let element = schema.resolve(list.element).ok_or("invalid elementType for list")?;
    let map = element.map.ok_or("associative list may not have non-map types")?;
    Ok(map.map.fields.get(key).and_then(|field| field.default.as_ref()))
}
