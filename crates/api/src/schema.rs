//! Schemas that several types use.
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::rules;

/// A duration.
pub(crate) fn span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 2, "maxLength": 32, "pattern": rules::SPAN})
}

/// A number or a percentage, as in Kubernetes' maxUnavailable. A CEL rule limits both.
pub(crate) fn number_or_percentage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 4})
}
