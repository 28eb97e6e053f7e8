//! An explanation as text: what is so, then each cause one step further to the right, then what to do.
use std::cmp::Reverse;

use k8s_openapi::jiff::Timestamp;

use crate::{
    screen::{Paint, Screen, of_state, printable},
    why::cause::{Chain, Explanation, Severity},
    words::age,
};

pub(crate) fn text(explanation: &Explanation, now: Timestamp, screen: &Screen) -> String {
    let mut text = headline(explanation, now, screen);
    for (number, chain) in explanation.chains.iter().enumerate() {
        text.push('\n');
        if number == 1 {
            text += &screen.paint("Also:", Paint::Bold);
            text.push('\n');
        }
        text += &of_chain(chain, screen);
    }
    if !explanation.events.is_empty() {
        text += &format!("\n{}\n", screen.paint("Last events:", Paint::Bold));
        for event in &explanation.events {
            let when = event.time.map_or("?".to_owned(), |time| age(now, time));
            let first = format!("  {when:>6} ago  ");
            text += &screen.wrap(&first, &printable(&format!("{}: {}", event.reason, event.note)));
        }
    }
    if !explanation.unread.is_empty() {
        let parts = explanation.unread.join(", ");
        text += &format!("\n{}", screen.wrap("", &format!("Not read, so a cause may be missing: {parts}.")));
    }
    text
}

fn headline(explanation: &Explanation, now: Timestamp, screen: &Screen) -> String {
    let since = explanation.since.map_or(String::new(), |since| format!(" for {}", age(now, since)));
    let policy =
        explanation.policy.as_ref().map_or("no policy".to_owned(), |policy| format!("policy {policy}"));
    let mode = explanation.mode.as_ref().map_or(String::new(), |mode| format!(", mode {mode}"));
    let state = screen.paint(&explanation.state, of_state(&explanation.state));
    format!("{}: {state}{since} ({policy}{mode})\n", screen.paint(&explanation.node, Paint::Bold))
}

fn of_chain(chain: &Chain, screen: &Screen) -> String {
    let mut text = String::new();
    for cause in &chain.causes {
        let because = if cause.depth == 0 { "" } else { "because: " };
        let first = format!("{}{because}", "  ".repeat(cause.depth));
        text += &screen.wrap(&first, &printable(&cause.what));
        if !cause.means.is_empty() {
            text += &screen.wrap(&" ".repeat(first.len()), &cause.means);
        }
    }
    // What is behind all first.
    let mut causes: Vec<_> = chain.causes.iter().collect();
    causes.sort_by_key(|cause| Reverse(cause.depth));
    let todo: Vec<_> = causes.into_iter().flat_map(|cause| &cause.todo).collect();
    if !todo.is_empty() && chain.severity != Severity::Fine {
        text += &screen.paint("What to do:", Paint::Bold);
        text.push('\n');
        for each in todo {
            text += &screen.wrap("  * ", &printable(&each.text));
            // A command is not broken, so that it can be copied.
            if let Some(command) = &each.command {
                text += &format!("      {}\n", printable(command));
            }
        }
    }
    text
}
