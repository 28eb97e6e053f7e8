//! A label selector like that of Kubernetes, with limits, so that CEL rules have a bounded cost, and with its own
//! descriptions.
use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules;

/// Selects nodes by their labels. All requirements must hold.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::SELECTOR_LABEL_KEYS).message("a label's key must be a name of at most 63 letters, digits, -, _ and ., which begins and ends with a letter or digit, as in tier; or such a name behind a DNS name and a slash, as in example.com/tier").field_path(".matchLabels"),
    validation = Rule::new(rules::SELECTOR_LABEL_VALUES).message("a label's value must be empty, or at most 63 letters, digits, -, _ and ., and must begin and end with a letter or digit").field_path(".matchLabels")
)]
pub struct LabelSelector {
    /// Labels that a node must have, with these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "labels")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements on labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63}
    })
}

/// One requirement on a label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::SELECTOR_KEY).message("a label's key must be a name of at most 63 letters, digits, -, _ and ., which begins and ends with a letter or digit, as in tier; or such a name behind a DNS name and a slash, as in example.com/tier").field_path(".key"),
    validation = Rule::new(rules::SELECTOR_VALUES).message("In and NotIn require values; Exists and DoesNotExist must not have any").field_path(".operator"),
    validation = Rule::new(rules::SELECTOR_VALUES_FORM).message("a label's value must be empty, or at most 63 letters, digits, -, _ and ., and must begin and end with a letter or digit").field_path(".values")
)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// The operator: In, NotIn, Exists or DoesNotExist.
    pub operator: LabelSelectorOperator,
    /// Values for In and NotIn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Option<Vec<String>>,
}

/// The operator of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum LabelSelectorOperator {
    /// The label has one of the values.
    In,
    /// The label does not exist or has none of the values.
    NotIn,
    /// The label exists.
    Exists,
    /// The label does not exist.
    DoesNotExist,
}
