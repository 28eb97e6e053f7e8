//! Schemas that several types use.
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::rules;

/// A duration.
pub(crate) fn span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 2, "maxLength": 32, "pattern": rules::SPAN})
}

/// The largest number of nodes in a field: the number of nodes that Kubernetes supports.
pub const LARGEST_PORTION: i32 = 5000;

/// A number of nodes or a percentage of them, as in Kubernetes' maxUnavailable. A pattern and limits, but no CEL rule: the
/// API server assumes that such a text is as long as a request can be, so a rule on it would cost too much.
pub(crate) fn number_or_percentage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "nullable": false,
        "minimum": 1,
        "maximum": LARGEST_PORTION,
        "maxLength": 4,
        "pattern": rules::PERCENTAGE,
    })
}
