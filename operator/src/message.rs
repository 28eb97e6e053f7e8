//! Texts for users.
use crate::term::WriteError;

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = said(error);
    let mut cause = if refusal(error).is_some() { None } else { error.source() };
    while let Some(error) = cause {
        let next = said(error);
        // Some errors print their cause themselves.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = if refusal(error).is_some() { None } else { error.source() };
    }
    text
}

fn said(error: &(dyn std::error::Error + 'static)) -> String {
    refusal(error).map_or_else(|| error.to_string(), str::to_owned)
}

/// The API server's message. kube prints it twice, with every field of it.
fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let error = match error.downcast_ref::<WriteError>() {
        Some(WriteError::Api(error)) => Some(error),
        _ => error.downcast_ref::<kube::Error>(),
    };
    match error {
        Some(kube::Error::Api(status)) => Some(&status.message),
        _ => None,
    }
}

/// A number of nodes as a text.
pub(crate) fn plural(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// The first entries of a list, and the number of the others, to keep a message short.
pub(crate) fn some(list: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let list: Vec<_> = list.collect();
    let shown = list[..list.len().min(SHOWN)].join(", ");
    if list.len() > SHOWN { format!("{shown} and {} more", list.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot annotate pod a")]
    struct Outer(#[source] WriteError);

    #[test]
    fn a_refusal_of_the_api_server_is_told_once() {
        let status = kube::core::Status::failure("pods \"a\" is forbidden: no", "Forbidden").with_code(403);
        let error = Outer(WriteError::Api(kube::Error::Api(Box::new(status))));
        assert_eq!(chain(&error), "cannot annotate pod a: pods \"a\" is forbidden: no");
        assert_eq!(
            chain(&Outer(WriteError::Timeout)),
            "cannot annotate pod a: the API server takes too long"
        );
    }

    #[test]
    fn lists_are_for_reading() {
        assert_eq!(some((0..2).map(|n| n.to_string())), "0, 1");
        assert_eq!(some((0..7).map(|n| n.to_string())), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!((plural(1), plural(2)), ("1 node".to_owned(), "2 nodes".to_owned()));
    }
}
