//! Random octets from the kernel's cryptographic generator, by getrandom. Its error becomes this crate's.
use crate::Error;

/// Fills `buffer` with random octets.
///
/// # Errors
/// If the kernel has neither getrandom nor /dev/urandom.
pub fn fill(buffer: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(buffer).map_err(failed)
}

/// A random number of 64 bits that is not zero, for a request's cookie or a seed.
///
/// # Errors
/// As [`fill`].
pub fn word() -> Result<u64, Error> {
    loop {
        let word = getrandom::u64().map_err(failed)?;
        if word != 0 {
            return Ok(word);
        }
    }
}

fn failed(error: getrandom::Error) -> Error {
    Error::new("getrandom", error.raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ() {
        assert_ne!(word().unwrap(), word().unwrap());
    }

    #[test]
    fn the_whole_buffer_is_filled() {
        let mut buffer = [0; 4096];
        fill(&mut buffer).unwrap();
        assert!(buffer[4032..].iter().any(|&octet| octet != 0));
    }
}
