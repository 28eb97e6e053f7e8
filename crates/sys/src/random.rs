//! Random octets from the kernel's cryptographic generator.
use crate::Error;

/// Fills `buffer` with random octets.
///
/// # Errors
/// If the kernel has no getrandom, or if a signal comes before its generator was first seeded.
pub fn fill(buffer: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        // SAFETY: the pointer and the length are those of a live, exclusively borrowed slice.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        filled += usize::try_from(got).map_err(|_| Error::last("getrandom"))?;
    }
    Ok(())
}

/// A random number of 64 bits that is not zero, for a request's cookie or a seed.
///
/// # Errors
/// As [`fill`].
pub fn word() -> Result<u64, Error> {
    loop {
        let mut octets = [0; 8];
        fill(&mut octets)?;
        let word = u64::from_ne_bytes(octets);
        if word != 0 {
            return Ok(word);
        }
    }
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
