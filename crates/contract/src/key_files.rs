//! Names of the files on a node that hold keys: one file for each key of a Secret that a policy names, and one for the
//! keys that seal NTS cookies.

/// The file with the keys that seal NTS cookies. No file from a user's Secret has this name, since those names have a
/// `_`.
pub const COOKIE_KEYS: &str = "nts-cookie-keys";

/// The file for a key of a Secret. A Secret's name has no `_`, so no two keys have the same file.
pub fn file_name(secret: &str, key: &str) -> String {
    format!("{secret}_{key}")
}

/// The Secret and the key that a file comes from; none if the file comes from no Secret.
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
