//! Network interfaces by name.
use std::ffi::CString;

use crate::Error;

/// The kernel's number of the interface `name`, in this process's network namespace: the scope of a link-local address.
///
/// # Errors
/// [`Error::not_found`].
pub fn index(name: &str) -> Result<u32, Error> {
    let text = CString::new(name).map_err(|_| Error::new("if_nametoindex", libc::ENODEV))?;
    // SAFETY: the name is a live string that ends in a zero; the call keeps no pointer to it.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(Error::last("if_nametoindex")),
        index => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_nonsense_is_not() {
        assert!(index("lo").unwrap() > 0);
        assert!(index("no-such-if").unwrap_err().not_found());
        assert!(index("l\0").unwrap_err().not_found());
    }
}
