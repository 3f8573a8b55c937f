//! Packet headers: one file each.
//!
//! A view borrows exactly the bytes of its header as a fixed-size array. Its constructor makes the one length
//! check (and whatever the header's RFC demands of a receiver); after it, no accessor can fail. Views neither
//! allocate nor copy, and know nothing of ports or drivers.
//!
//! Offsets and lengths are in bytes unless a name says otherwise.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod fragment;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod quote;
pub mod tcp;
pub mod translate;
pub mod udp;
pub mod vlan;

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    pub const ICMP: u8 = 1;
    /// IPv4 in IP (RFC 2003).
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    /// IPv6 in IP (RFC 2473, RFC 4213).
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
}

/// Why bytes are not the header that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("fewer bytes than the header needs")]
    Truncated,
    #[error("IP version is not the one that the EtherType names")]
    Version,
    #[error("header length field below the minimum or beyond the packet")]
    HeaderLength,
    #[error("length field contradicts the bytes present")]
    TotalLength,
    #[error("header checksum is wrong")]
    Checksum,
    #[error("a field holds a value that its RFC forbids")]
    Field,
}

/// The first `N` bytes of `bytes`.
pub(crate) fn head<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], Malformed> {
    bytes.first_chunk().ok_or(Malformed::Truncated)
}

/// The first `N` bytes of `bytes`, writable.
pub(crate) fn head_mut<const N: usize>(bytes: &mut [u8]) -> Result<&mut [u8; N], Malformed> {
    bytes.first_chunk_mut().ok_or(Malformed::Truncated)
}

/// `N` bytes of a fixed-size array from `at`: with a constant `at` the check disappears at compile time.
#[inline(always)]
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// As [`field`], to be changed in place.
#[inline(always)]
pub(crate) fn field_mut<const N: usize>(bytes: &mut [u8], at: usize) -> &mut [u8; N] {
    bytes[at..].first_chunk_mut().expect("the caller's array has the field")
}

/// A big-endian 16-bit field.
#[inline(always)]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(bytes, at))
}
