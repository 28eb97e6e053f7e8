//! The structural part of a CRD's schema, as the API server reads it: an object in, violations out. A keyword that is
//! not known here fails the test, so that none is ignored.
use regex::Regex;
use serde_json::{Map, Value};

/// The violations, each with its path.
pub(super) fn problems(object: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    judge(object, schema, "", &mut found);
    found
}

fn judge(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    let mut wrong = |what: &str| found.push(format!("{at}: {what}"));
    let number = value.as_i64();
    let text = value.as_str();
    for (keyword, limit) in keywords {
        let bound = || limit.as_f64().expect("a bound is a number") as i64;
        let fits = match keyword.as_str() {
            "type" => match limit.as_str() {
                Some("object") => value.is_object(),
                Some("array") => value.is_array(),
                Some("string") => value.is_string(),
                Some("integer") => value.is_i64(),
                Some("boolean") => value.is_boolean(),
                other => panic!("{at}: type {other:?}"),
            },
            "x-kubernetes-int-or-string" => value.is_i64() || value.is_string(),
            "minimum" => number.is_none_or(|number| number >= bound()),
            "maximum" => number.is_none_or(|number| number <= bound()),
            "minLength" => text.is_none_or(|text| text.chars().count() as i64 >= bound()),
            "maxLength" => text.is_none_or(|text| text.chars().count() as i64 <= bound()),
            "pattern" => {
                let pattern = Regex::new(limit.as_str().expect("a pattern is text")).expect("a pattern");
                text.is_none_or(|text| pattern.is_match(text))
            }
            "enum" => limit.as_array().is_some_and(|words| words.contains(value)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as i64 <= bound()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as i64 >= bound()),
            "maxProperties" => value.as_object().is_none_or(|fields| fields.len() as i64 <= bound()),
            "required" => {
                let mut fields = limit.as_array().into_iter().flatten().filter_map(Value::as_str);
                fields.all(|field| value.get(field).is_some())
            }
            "x-kubernetes-list-type" => !has_twice(value, schema),
            "format" => number.is_none_or(|number| i32::try_from(number).is_ok()),
            "properties"
            | "items"
            | "additionalProperties"
            | "description"
            | "default"
            | "title"
            | "nullable"
            | "x-kubernetes-validations"
            | "x-kubernetes-list-map-keys"
            | "x-kubernetes-map-type" => true,
            other => panic!("{at}: keyword {other} is not known here"),
        };
        if !fits {
            wrong(&format!("{value} does not fit {keyword} {limit}"));
        }
    }
    judge_parts(value, keywords, at, found);
}

fn judge_parts(value: &Value, keywords: &Map<String, Value>, at: &str, found: &mut Vec<String>) {
    if let (Some(items), Some(of_items)) = (value.as_array(), keywords.get("items")) {
        for (n, item) in items.iter().enumerate() {
            judge(item, of_items, &format!("{at}[{n}]"), found);
        }
    }
    let properties = keywords.get("properties").and_then(Value::as_object);
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        match (properties.and_then(|fields| fields.get(name)), keywords.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema)) => judge(field, schema, &path, found),
            // The API server checks these itself.
            (None, None) if ["apiVersion", "kind", "metadata"].contains(&name.as_str()) => {}
            (None, None) => found.push(format!("{path}: no such field")),
        }
    }
}

/// Returns true if a set has an item twice, or a list-map has a key twice.
fn has_twice(list: &Value, schema: &Value) -> bool {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            Some(keys.filter_map(Value::as_str).map(|key| item[key].clone()).collect())
        }
        Some("set") => Some(vec![item.clone()]),
        // An atomic list.
        _ => None,
    };
    let keys: Vec<Vec<Value>> = items.iter().filter_map(key).collect();
    (0..keys.len()).any(|n| keys[..n].contains(&keys[n]))
}
