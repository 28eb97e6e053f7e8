//! Translates a selector of labels. Refuses one that no label can satisfy. Pure.
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::core::Selector;

use crate::translate::field::FieldError;

/// The selector in this field.
pub(super) fn label_selector(at: &str, selector: &api::LabelSelector) -> Result<Selector, FieldError> {
    let api::LabelSelector { match_labels, match_expressions } = selector;
    for (key, value) in match_labels.iter().flatten() {
        label_key(&format!("{at}.matchLabels"), key)?;
        label_value(&format!("{at}.matchLabels"), value)?;
    }
    for (index, each) in match_expressions.iter().flatten().enumerate() {
        let field = |name: &str| format!("{at}.matchExpressions[{index}].{name}");
        label_key(&field("key"), &each.key)?;
        each.values.iter().flatten().try_for_each(|value| label_value(&field("values"), value))?;
    }
    let requirement = |each: &api::LabelSelectorRequirement| meta::LabelSelectorRequirement {
        key: each.key.clone(),
        operator: format!("{:?}", each.operator),
        values: each.values.clone(),
    };
    let selector = meta::LabelSelector {
        match_labels: match_labels.clone(),
        match_expressions: match_expressions.as_ref().map(|all| all.iter().map(requirement).collect()),
    };
    Selector::try_from(selector).map_err(|error| FieldError::new(at, error))
}

/// Refuses a key that no label can have (k8s.io/apimachinery, `IsQualifiedName`). Such a key would match no node, or
/// every node with NotIn and DoesNotExist.
fn label_key(field: &str, key: &str) -> Result<(), FieldError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let dns_label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_prefix = |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(dns_label);
    if !name.is_empty() && is_label_text(name) && prefix.is_none_or(is_prefix) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{key:?} cannot be the key of a label, as in tier or example.com/tier"),
    ))
}

/// The same for a value, which may be empty.
fn label_value(field: &str, value: &str) -> Result<(), FieldError> {
    if is_label_text(value) {
        return Ok(());
    }
    Err(FieldError::new(field, format!("{value:?} cannot be the value of a label")))
}

fn is_label_text(text: &str) -> bool {
    let ends = |end: Option<u8>| end.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && ends(text.bytes().next())
        && ends(text.bytes().last())
}
