//! The token that agents and operator share, from its Secret. `keeper` watches the Secret, and creates it if that is
//! wanted and there is none. `known` has the rules for its content, and what polls use of it.
mod known;

mod keeper;

pub(crate) use keeper::{Keeper, TokenSecret};
pub(crate) use known::{NoToken, Tokens, read};

#[cfg(test)]
mod tests;
