//! The formats on the wire, decoded and encoded: packets, extension fields, MACs, NTS, and NTS key exchange.
pub mod extension;
pub mod key_exchange;
pub mod mac;
pub(crate) mod md5;
pub(crate) mod nts;
pub mod packet;
