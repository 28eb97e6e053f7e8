//! `GET /synchronized?bound=1ms`: whether programs on this node may rely on its clock. Pods ask it before they start.
//! The clock's report and the query in, the answer out.
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{ClockReport, LargestBound, Reason, Synchronized};

/// Answers 200 if the clock is as right as the client asks, 503 if not, and in both cases the reason. `watched` is true
/// while the engine's event loop is alive.
pub(super) fn answer(clock: ClockReport, watched: bool, query: &[(String, String)]) -> Response {
    let largest = match parse_query(query) {
        Ok(largest) => largest,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let clock = if watched { clock } else { unwatched(clock) };
    let answer = Synchronized::new(&clock, largest);
    let status = if answer.synchronized { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer)).into_response()
}

/// The report while the event loop stands still: the agent would not detect that another process moves the clock.
fn unwatched(clock: ClockReport) -> ClockReport {
    let message = "The engine's loop stands still".to_owned();
    ClockReport { synchronized: false, reason: Reason::Unknown, message, ..clock }
}

/// Parses `bound=1ms`, at most once.
fn parse_query(query: &[(String, String)]) -> Result<Option<LargestBound>, String> {
    match query {
        [] => Ok(None),
        [(key, value)] if key == "bound" => value.parse().map(Some).map_err(|e| format!("bound: {e}\n")),
        [(key, _)] => Err(format!("{key:?} is unknown: bound=1ms is known\n")),
        _ => Err("more than one parameter: bound=1ms is the only one\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reporter, tests::snapshot};

    #[test]
    fn a_clock_is_not_right_while_the_event_loop_stands_still() {
        let reporter = Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned());
        let snapshot = snapshot();
        reporter.engine(snapshot.at, Some(snapshot.clone()), &[]);
        let clock = reporter.clock(snapshot.at, 0.0);
        assert_eq!(answer(clock.clone(), true, &[]).status(), StatusCode::OK);
        assert_eq!(answer(clock.clone(), false, &[]).status(), StatusCode::SERVICE_UNAVAILABLE);
        let answer = Synchronized::new(&unwatched(clock), None);
        assert_eq!((answer.synchronized, answer.reason), (false, Reason::Unknown), "{}", answer.message);
    }

    #[test]
    fn queries() {
        let check = |pairs: &[(&str, &str)], expected: Result<Option<&str>, &str>| {
            let query: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let found = parse_query(&query);
            match (&found, expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(found.map(|bound| bound.to_string()).as_deref(), expected);
                }
                (Err(why), Err(expected)) => assert!(why.contains(expected) && why.ends_with('\n'), "{why}"),
                _ => panic!("{pairs:?}: {found:?}"),
            }
        };
        check(&[], Ok(None));
        check(&[("bound", "1ms")], Ok(Some("1ms")));
        check(&[("bound", "1m30s")], Ok(Some("90s")));
        check(&[("bound", "1")], Err("bound: \"1\" is not a duration"));
        check(&[("bound", "")], Err("is not a duration"));
        check(&[("bound", "0s")], Err("is zero"));
        check(&[("limit", "1ms")], Err("\"limit\" is unknown"));
        check(&[("bound", "1ms"), ("bound", "2ms")], Err("more than one"));
    }
}
