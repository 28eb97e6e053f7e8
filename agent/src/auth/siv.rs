//! AEAD_AES_SIV_CMAC_256 (RFC 5297) with both keys' schedules, and all else that depends on a key alone, made once: a
//! server opens and seals with few keys very often. A key, octets and a nonce in, octets out. AES itself is the `aes`
//! crate's, which takes the processor's instructions where there are any.
use aes::{
    Aes128Enc, Block,
    cipher::{BlockEncrypt, KeyInit},
};
use ntp::{key_exchange::KEY_LEN, nts::Aead};

/// A key, ready for use.
#[derive(Clone)]
pub(crate) struct SivKey {
    mac: Cmac,
    counter: Aes128Enc,
}

/// The synthetic initialization vector, which authenticates, too.
const TAG: usize = 16;

impl SivKey {
    /// Of both halves: what authenticates, and what encrypts (RFC 5297 §2.2).
    pub(crate) fn new(key: [u8; KEY_LEN]) -> Self {
        let (mac, counter) = key.split_at(KEY_LEN / 2);
        let aes = |half: &[u8]| Aes128Enc::new(Block::from_slice(half));
        Self { mac: Cmac::new(aes(mac)), counter: aes(counter) }
    }

    /// S2V (RFC 5297 §2.4) of these strings, the last of which is what is encrypted. That is changed meanwhile, and left as
    /// it was.
    fn vector(&self, headers: [&[u8]; 2], plain: &mut [u8]) -> u128 {
        let sum = headers.iter().fold(self.mac.zero, |sum, header| double(sum) ^ self.mac.of(header));
        let Some(last) = plain.last_chunk_mut::<16>() else {
            return self.mac.of_block(double(sum) ^ padded(plain));
        };
        let before = *last;
        *last = (u128::from_be_bytes(before) ^ sum).to_be_bytes();
        let vector = self.mac.of(plain);
        if let Some(last) = plain.last_chunk_mut() {
            *last = before;
        }
        vector
    }

    /// Encrypts, and decrypts again (RFC 5297 §2.5).
    fn count(&self, vector: u128, octets: &mut [u8]) {
        let first = vector & !(1 << 63 | 1 << 31);
        let mut stream = [Block::default(); AT_ONCE];
        for (part, octets) in octets.chunks_mut(16 * AT_ONCE).enumerate() {
            let blocks = octets.len().div_ceil(16);
            for (n, block) in stream[..blocks].iter_mut().enumerate() {
                *block = first.wrapping_add((part * AT_ONCE + n) as u128).to_be_bytes().into();
            }
            self.counter.encrypt_blocks(&mut stream[..blocks]);
            let stream = stream.iter().flatten();
            octets.iter_mut().zip(stream).for_each(|(octet, random)| *octet ^= random);
        }
    }
}

/// So many blocks are encrypted side by side.
const AT_ONCE: usize = 8;

impl Aead for SivKey {
    fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(TAG + plain.len());
        sealed.extend_from_slice(&[0; TAG]);
        sealed.extend_from_slice(plain);
        let (tag, octets) = sealed.split_at_mut(TAG);
        let vector = self.vector([associated, nonce], octets);
        tag.copy_from_slice(&vector.to_be_bytes());
        self.count(vector, octets);
        sealed
    }

    fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (tag, octets) = sealed.split_first_chunk::<TAG>()?;
        let vector = u128::from_be_bytes(*tag);
        let mut plain = octets.to_vec();
        self.count(vector, &mut plain);
        // One comparison of numbers: how long it takes says nothing of where the two differ.
        (self.vector([associated, nonce], &mut plain) ^ vector == 0).then_some(plain)
    }
}

/// AES-CMAC (RFC 4493).
#[derive(Clone)]
struct Cmac {
    aes: Aes128Enc,
    /// For a last block that is full, and for one that is filled up.
    ends: [u128; 2],
    /// Of sixteen zeros, with which each S2V begins.
    zero: u128,
}

impl Cmac {
    fn new(aes: Aes128Enc) -> Self {
        let full = double(encrypt(&aes, 0));
        let zero = encrypt(&aes, full);
        Self { aes, ends: [full, double(full)], zero }
    }

    fn of(&self, message: &[u8]) -> u128 {
        // The last block is another one, also when it is full; of nothing, it is empty.
        let (blocks, last) = message.split_at(message.len().saturating_sub(1) / 16 * 16);
        let (blocks, _) = blocks.as_chunks::<16>();
        let state =
            blocks.iter().fold(0, |state, block| encrypt(&self.aes, state ^ u128::from_be_bytes(*block)));
        let last = match last.try_into() {
            Ok(full) => u128::from_be_bytes(full) ^ self.ends[0],
            Err(_) => padded(last) ^ self.ends[1],
        };
        encrypt(&self.aes, state ^ last)
    }

    /// Of sixteen octets.
    fn of_block(&self, block: u128) -> u128 {
        encrypt(&self.aes, block ^ self.ends[0])
    }
}

fn encrypt(aes: &Aes128Enc, block: u128) -> u128 {
    let mut block = Block::from(block.to_be_bytes());
    aes.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

/// Multiplies by x in the field of 2^128 (RFC 5297 §2.3), without a branch on what is secret.
fn double(value: u128) -> u128 {
    value << 1 ^ (value >> 127) * 0x87
}

/// Less than sixteen octets, a one bit, and zeros.
fn padded(octets: &[u8]) -> u128 {
    let mut block = [0; 16];
    block[..octets.len()].copy_from_slice(octets);
    block[octets.len()] = 0x80;
    u128::from_be_bytes(block)
}

#[cfg(test)]
mod tests {
    use aes_siv::siv::Aes128Siv;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not() {
        let key = SivKey::new([7; KEY_LEN]);
        let sealed = key.seal(&[1; 16], b"header", b"cookie");
        assert_eq!(sealed.len(), 16 + 6);
        assert_eq!(key.open(&[1; 16], b"header", &sealed).as_deref(), Some(&b"cookie"[..]));
        assert_eq!(key.open(&[2; 16], b"header", &sealed), None);
        assert_eq!(key.open(&[1; 16], b"Header", &sealed), None);
        assert_eq!(SivKey::new([8; KEY_LEN]).open(&[1; 16], b"header", &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(key.open(&[1; 16], b"header", &sealed[..length]), None);
        }
    }

    fn reference(key: &[u8; KEY_LEN], headers: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        <Aes128Siv as aes_siv::KeyInit>::new(key.into()).encrypt(headers, plain).unwrap()
    }

    /// RFC 5297 A.2 has two headers beside a nonce. What we are held against agrees with that; so the nonce is the last
    /// header, and we agree with the standard if the two agree.
    #[test]
    fn the_reference_is_the_standard() {
        let octets = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let key = octets("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f");
        let first =
            octets("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100");
        let second = octets("102030405060708090a0");
        let nonce = octets("09f911029d74e35bd84156c5635688c0");
        let plain = b"this is some plaintext to encrypt using SIV-AES";
        let expected = "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829\
                        ea64ad544a272e9c485b62a3fd5c0d";
        assert_eq!(reference(&key.try_into().unwrap(), &[&first, &second, &nonce], plain), octets(expected));
    }

    proptest! {
        #[test]
        fn it_is_what_the_reference_is(
            key in any::<[u8; KEY_LEN]>(),
            nonce in proptest::collection::vec(any::<u8>(), 0..40),
            associated in proptest::collection::vec(any::<u8>(), 0..80),
            plain in proptest::collection::vec(any::<u8>(), 0..300),
            flip in any::<prop::sample::Index>(),
        ) {
            let own = SivKey::new(key);
            let mut sealed = own.seal(&nonce, &associated, &plain);
            prop_assert_eq!(&sealed, &reference(&key, &[&associated, &nonce], &plain));
            prop_assert_eq!(own.open(&nonce, &associated, &sealed), Some(plain));
            let bit = flip.index(8 * sealed.len());
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(own.open(&nonce, &associated, &sealed), None);
        }
    }
}
