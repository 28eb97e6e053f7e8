//! A field that cannot be carried out, and a number that a type cannot hold.

/// Why the operator cannot carry out a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {problem}")]
pub(crate) struct FieldError {
    field: String,
    problem: String,
}

impl FieldError {
    /// An error at `field`, whose path begins with `spec`.
    pub(crate) fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

/// The number in this field as a smaller type.
pub(super) fn fit<T: TryFrom<i32>>(field: &str, number: i32) -> Result<T, FieldError> {
    T::try_from(number).map_err(|_| FieldError::new(field, format!("{number} is out of range")))
}
