//! Octets on the wire, read and written: packets, extension fields, MACs, NTS, and its key exchange.
pub mod extension;
pub mod key_exchange;
pub mod mac;
pub(crate) mod md5;
pub(crate) mod nts;
pub mod packet;
