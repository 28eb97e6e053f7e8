//! The spelling of fields in TOML. It is the same as in the API, so that a policy's `spec` and an agent's `[profile]`
//! look alike. The first agents had another spelling. It is rejected with a message that gives the present one.

/// The message of a TOML parser. If an unknown field is an old spelling, the message gives the present one.
pub fn in_present_spelling(message: &str) -> String {
    let field = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    let Some((field, expected)) = field else { return message.to_owned() };
    let present = camel_case(field);
    if field.contains('_') && expected.contains(&format!("`{present}`")) {
        format!("unknown field `{field}`: it is written `{present}`")
    } else {
        message.to_owned()
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (head, tail) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        text += &head.to_uppercase();
        text += tail;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentFile, Profile};

    #[test]
    fn an_old_spelling_is_refused_with_the_present_one() {
        let check = |text: &str, expected: &str| {
            let error = toml::from_str::<Profile>(text).unwrap_err();
            assert_eq!(in_present_spelling(error.message()), expected, "{text}");
        };
        let poll = "[[upstreams]]\nname = 'a'\nserver = 'h'\n";
        check(&format!("{poll}max_poll = 9"), "unknown field `max_poll`: it is written `maxPoll`");
        check(
            "clock.on_external_step = 'Accept'",
            "unknown field `on_external_step`: it is written `onExternalStep`",
        );
        check("serve.rate_limit = {}", "unknown field `rate_limit`: it is written `rateLimit`");
        let of_agent = toml::from_str::<AgentFile>("[agent]\nstate_directory = '/x'").unwrap_err();
        let present = "unknown field `state_directory`: it is written `stateDirectory`";
        assert_eq!(in_present_spelling(of_agent.message()), present);
    }

    #[test]
    fn other_messages_stay() {
        let error = toml::from_str::<Profile>("[clock]\nmax_slewrate = 5").unwrap_err();
        assert_eq!(in_present_spelling(error.message()), error.message());
        assert!(error.message().starts_with("unknown field `max_slewrate`, expected one of"));
        let error = toml::from_str::<Profile>("mode = 'Obey'").unwrap_err();
        assert_eq!(in_present_spelling(error.message()), error.message());
    }
}
