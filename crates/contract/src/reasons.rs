//! Makes one text of the reasons why upstreams give no time: pairs of name and reason in; a text that groups the names
//! by reason out. Operator and agent use the same words.

/// Most reasons in the text, and most names for each reason, to keep a message short.
const MOST: usize = 4;

/// `a: It does not answer. b, c: It …`; empty if there is none.
pub fn reasons<'a>(upstreams: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, why) in upstreams {
        match groups.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => groups.push((why, vec![name])),
        }
    }
    // The most frequent reasons first; otherwise the order of the upstreams.
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let rest: usize = groups.iter().skip(MOST).map(|(_, names)| names.len()).sum();
    let mut parts: Vec<_> =
        groups.iter().take(MOST).map(|(why, names)| format!("{}: {why}", list(names))).collect();
    if rest > 0 {
        parts.push(format!("And {rest} more."));
    }
    parts.join(" ")
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_reason_is_named_together() {
        assert_eq!(reasons([]), "");
        assert_eq!(reasons([("a", "It is silent.")]), "a: It is silent.");
        let three = [("a", "No route."), ("b", "It is silent."), ("c", "It is silent.")];
        assert_eq!(reasons(three), "b, c: It is silent. a: No route.");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(reasons(names.map(|name| (name, "Silent."))), "a, b, c, d and 2 more: Silent.");
        assert_eq!(reasons(names.map(|name| (name, name))), "a: a b: b c: c d: d And 2 more.");
    }
}
