//! `Table` answers, as `kubectl get` shows them: columns are data, cells are worked out per kind.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::codec;
use crate::kinds::{self, Kind};
use crate::request::Query;
use crate::status::ApiError;

mod cells;
mod path;

/// Makes a Table of objects. `with_columns`: events of a watch after the first leave the columns out.
pub(crate) fn table(
    kind: &Kind,
    objects: &[Value],
    metadata: Value,
    query: &Query,
    with_columns: bool,
) -> Result<Value, ApiError> {
    let include = query.get("includeObject");
    if !matches!(include, "" | "None" | "Metadata" | "Object") {
        return Err(ApiError::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', \
             'None', or empty",
            crate::status::quote(include)
        )));
    }
    let now = crate::clock::now();
    let mut rows = Vec::with_capacity(objects.len());
    for object in objects {
        // A bookmark has no row.
        let bookmark = object["metadata"]["name"].is_null() && object["metadata"]["uid"].is_null();
        if bookmark {
            continue;
        }
        let mut row = json!({ "cells": row_cells(kind, object, now) });
        if let Some(conditions) = cells::row_conditions(kind, object) {
            row["conditions"] = conditions;
        }
        match include {
            "None" => row["object"] = Value::Null,
            "Object" => row["object"] = object.clone(),
            _ => row["object"] = codec::partial(object),
        }
        rows.push(row);
    }
    let columns = if with_columns { columns(kind) } else { Value::Null };
    Ok(json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    }))
}

fn column(name: &str, ty: &str, format: &str, priority: i64, description: &str) -> Value {
    json!({ "name": name, "type": ty, "format": format, "description": description, "priority": priority })
}

fn columns(kind: &Kind) -> Value {
    if let Some(custom) = &kind.custom {
        let mut columns =
            vec![column("Name", "string", "name", 0, "Name must be unique within a namespace.")];
        for found in &custom.columns {
            let description = match found.description.as_str() {
                "" => format!("Custom resource definition column (in JSONPath format): {}", found.path),
                text => text.to_owned(),
            };
            columns.push(column(&found.name, &found.ty, &found.format, found.priority, &description));
        }
        if custom.columns.is_empty() {
            columns.push(column(
                "Age",
                "date",
                "",
                0,
                "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp",
            ));
        }
        return columns.into();
    }
    match kinds::columns(&kind.api_version(), &kind.kind) {
        Some(columns) => columns
            .iter()
            .map(|(name, ty, format, priority)| column(name, ty, format, *priority, name))
            .collect(),
        None => json!([
            column("Name", "string", "name", 0, "Name"),
            column("Created At", "date", "", 0, "Created At")
        ]),
    }
}

fn row_cells(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    if let Some(custom) = &kind.custom {
        let mut cells = vec![name];
        for column in &custom.columns {
            cells.push(path::cell(object, &column.path, &column.ty, now));
        }
        if custom.columns.is_empty() {
            cells.push(cells::age(&object["metadata"]["creationTimestamp"], now));
        }
        return cells;
    }
    match kinds::columns(&kind.api_version(), &kind.kind) {
        Some(columns) => {
            let mut cells = cells::cells(kind, object, now);
            // A kind whose cells are not written here shows what metadata tells.
            while cells.len() < columns.len() {
                let (title, ..) = &columns[cells.len()];
                cells.push(match title.as_str() {
                    "Age" => cells::age(&object["metadata"]["creationTimestamp"], now),
                    _ => Value::String("<unknown>".into()),
                });
            }
            cells
        }
        None => vec![name, object["metadata"]["creationTimestamp"].clone()],
    }
}
