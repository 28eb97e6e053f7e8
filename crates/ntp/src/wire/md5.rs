//! MD5 (RFC 1321), used only for the four octets that represent an IPv6 address in packets (RFC 5905 §7.3). No security
//! depends on it.

/// The digest of the sixteen octets of an address. Up to 55 octets fit into one block.
pub(crate) fn digest(octets: &[u8; 16]) -> [u8; 16] {
    let mut block = [0_u8; 64];
    block[..16].copy_from_slice(octets);
    block[16] = 0x80;
    block[56..].copy_from_slice(&(8 * 16_u64).to_le_bytes());
    let mut words = [0_u32; 16];
    for (word, octets) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]);
    }
    let start = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut digest = [0; 16];
    let sums = start.iter().zip(rounds(start, &words)).map(|(a, b)| a.wrapping_add(b));
    for (slot, word) in digest.chunks_exact_mut(4).zip(sums) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// Rotations of the four rounds.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

fn rounds([mut a, mut b, mut c, mut d]: [u32; 4], words: &[u32; 16]) -> [u32; 4] {
    for step in 0..64_usize {
        let (mix, word) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        // The constants are made of the sines of 1 to 64, as the RFC defines them.
        let sine = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
        let sum = a.wrapping_add(mix).wrapping_add(sine).wrapping_add(words[word % 16]);
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
    }
    [a, b, c, d]
}

/// A digest of octets of any length, for tests: each block is combined with the digest of the blocks before.
#[cfg(test)]
pub(crate) fn chained(octets: &[u8]) -> [u8; 16] {
    let length = octets.len().to_be_bytes();
    [octets, &length].concat().chunks(16).fold([0; 16], |state, chunk| {
        let mut block = state;
        block.iter_mut().zip(chunk).for_each(|(octet, new)| *octet ^= new);
        digest(&block)
    })
}
