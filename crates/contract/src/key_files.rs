//! The names of the files that keys become on a node: one for each key of a Secret that a policy names, and one for the keys
//! that NTS cookies are sealed with.

/// The file of the keys that NTS cookies are sealed with. No file of a user's Secret has this name: those have a `_`.
pub const COOKIE_KEYS: &str = "nts-cookie-keys";

/// The file that a key of a Secret becomes. No Secret's name has a `_`, so no two have the same file.
pub fn file_name(secret: &str, key: &str) -> String {
    format!("{secret}_{key}")
}

/// The Secret and the key that a file comes from; none of a file that comes from no Secret.
pub fn secret_and_key(file: &str) -> Option<(&str, &str)> {
    file.split_once('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_tells_where_it_comes_from() {
        assert_eq!(secret_and_key(&file_name("a.b", "c_d")), Some(("a.b", "c_d")));
        assert_eq!(secret_and_key(COOKIE_KEYS), None);
    }
}
