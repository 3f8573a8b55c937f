//! A flow: the 5-tuple of a packet, as the exact key of the connection table.
//!
//! Keys hold addresses and ports as they stand in the packet (network byte order), so that building one is a few loads
//! and rewriting a packet from one is a few stores.

use crate::wire::checksum::PartSum;
use crate::wire::{ipv4, ipv6};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First of the ports that health checks are made from: 64512 to 65535 of a port's own addresses. Nothing else uses
/// them, so what arrives there answers a check. The identifiers of echo requests are the same numbers.
pub const FIRST_PROBE_PORT: u16 = 64_512;

/// Per-boot key of the table hash. Without it nobody can aim packets at one bucket.
#[derive(Clone, Copy)]
pub struct Secret([u64; 6]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret from 48 random bytes.
    pub fn new(random: [u8; 48]) -> Self {
        let mut words = [0; 6];
        for (word, bytes) in words.iter_mut().zip(random.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks of 8"));
        }
        Self(words)
    }

    /// A secret from the kernel's generator.
    pub fn random() -> std::io::Result<Self> {
        let mut random = [0; 48];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
        Ok(Self::new(random))
    }

    /// Mixes an endpoint (address and port): which worker owns its connections.
    pub fn mix_endpoint(&self, address: IpAddr, port: u16) -> u64 {
        let (high, low) = match address {
            IpAddr::V4(v4) => (0, u64::from(u32::from(v4))),
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                ((bits >> 64) as u64, bits as u64)
            }
        };
        let first = multiply_fold(low ^ self.0[4], high ^ self.0[5]);
        multiply_fold(first ^ u64::from(port) ^ self.0[3], self.0[2])
    }
}

impl Secret {
    /// Mixes what tells a datagram in fragments from others.
    pub fn mix_datagram(&self, source: IpAddr, destination: IpAddr, identification: u32) -> u64 {
        let source = self.mix_endpoint(source, identification as u16);
        let destination = self.mix_endpoint(destination, (identification >> 16) as u16);
        multiply_fold(source ^ self.0[0], destination.rotate_left(32) ^ self.0[1])
    }
}

/// The two halves of the 128-bit product, XORed: every bit of the result depends on every bit of both factors.
#[inline(always)]
fn multiply_fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4Key {}
    impl Sealed for super::V6Key {}
}

/// The stable hash of bytes that describe a flow or a backend: the same on every machine and in every version.
pub fn stable_hash(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// A flow's key in one address family. Sealed: keys are plain integers, for which zeroed memory is a value.
pub trait FlowKey: sealed::Sealed + Copy + Eq + Debug + Default + Send + Sync + 'static {
    /// The keyed hash of the table: high bits name the bucket, low bits the tag.
    fn hash(&self, secret: &Secret) -> u64;
    /// The same flow seen from its other end.
    #[must_use]
    fn reversed(self) -> Self;
    /// Key of a flow by its parts. IPv6 keys hold IPv4 addresses too ([`V6Key`]); in IPv4 keys an IPv6 address becomes the
    /// unspecified one.
    fn new(protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self;
    fn protocol(&self) -> u8;
    fn source(&self) -> (IpAddr, u16);
    fn destination(&self) -> (IpAddr, u16);
    /// The hash of addresses, ports and protocol that must agree across balancers: keyed by configuration alone.
    fn stable_hash(&self, seed: u64) -> u64;
    /// Likewise, of the source address alone.
    fn stable_source_hash(&self, seed: u64) -> u64;
    /// What the addresses contribute to a checksum.
    fn address_sum(&self) -> PartSum;
    /// What the ports contribute to a checksum.
    fn port_sum(&self) -> PartSum;
}

/// Ports and protocol as both families keep them: source port, destination port (network order), protocol, zeros.
#[inline(always)]
fn rest(ports: [u8; 4], protocol: u8) -> u64 {
    u64::from(u32::from_le_bytes(ports)) | u64::from(protocol) << 32
}

#[inline(always)]
fn swap_ports(rest: u64) -> u64 {
    rest & !0xffff_ffff | u64::from((rest as u32).rotate_left(16))
}

fn source_port(rest: u64) -> u16 {
    (rest as u16).swap_bytes()
}

fn destination_port(rest: u64) -> u16 {
    ((rest >> 16) as u16).swap_bytes()
}

fn port_bytes(source: u16, destination: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
    [a, b, c, d]
}

/// IPv4: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C, align(16))]
pub struct V4Key {
    /// Source, then destination.
    addresses: u64,
    rest: u64,
}

impl V4Key {
    /// From the fixed IPv4 header and the first four bytes of the transport header.
    #[inline(always)]
    pub fn from_headers(ip: &[u8; ipv4::LEN], ports: [u8; 4], protocol: u8) -> Self {
        let addresses = u64::from_le_bytes(crate::wire::field(ip, ipv4::at::SOURCE));
        Self { addresses, rest: rest(ports, protocol) }
    }

    /// Source and destination address as in the header.
    #[inline(always)]
    pub fn address_bytes(&self) -> [u8; 8] {
        self.addresses.to_le_bytes()
    }

    /// Source and destination port as in the header.
    #[inline(always)]
    pub fn port_bytes(&self) -> [u8; 4] {
        (self.rest as u32).to_le_bytes()
    }
}

impl FlowKey for V4Key {
    #[inline(always)]
    fn hash(&self, Secret(s): &Secret) -> u64 {
        multiply_fold(multiply_fold(self.addresses ^ s[0], self.rest ^ s[1]) ^ s[2], s[3])
    }

    #[inline(always)]
    fn reversed(self) -> Self {
        Self { addresses: self.addresses.rotate_left(32), rest: swap_ports(self.rest) }
    }

    fn new(protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let octets = |address| match address {
            IpAddr::V4(v4) => Ipv4Addr::octets(&v4),
            IpAddr::V6(_) => [0; 4],
        };
        let addresses = u64::from(u32::from_le_bytes(octets(source.0)))
            | u64::from(u32::from_le_bytes(octets(destination.0))) << 32;
        Self { addresses, rest: rest(port_bytes(source.1, destination.1), protocol) }
    }

    fn protocol(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    fn source(&self) -> (IpAddr, u16) {
        (Ipv4Addr::from((self.addresses as u32).to_le_bytes()).into(), source_port(self.rest))
    }

    fn destination(&self) -> (IpAddr, u16) {
        (Ipv4Addr::from(((self.addresses >> 32) as u32).to_le_bytes()).into(), destination_port(self.rest))
    }

    fn stable_hash(&self, seed: u64) -> u64 {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&self.address_bytes());
        bytes[8..].copy_from_slice(&self.rest.to_le_bytes()[..5]);
        stable_hash(&bytes, seed)
    }

    fn stable_source_hash(&self, seed: u64) -> u64 {
        stable_hash(&self.address_bytes()[..4], seed)
    }

    #[inline(always)]
    fn address_sum(&self) -> PartSum {
        PartSum::default().word(self.addresses)
    }

    #[inline(always)]
    fn port_sum(&self) -> PartSum {
        PartSum::default().word(self.rest & 0xffff_ffff)
    }
}

/// IPv6: 40 bytes.
///
/// The side of a connection between address families on which it is IPv4 has a key of this kind too, with IPv4-mapped
/// addresses (RFC 4291 section 2.5.5.2), which no packet may bear. Seen from outside, such a key has IPv4 addresses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct V6Key {
    source: [u64; 2],
    destination: [u64; 2],
    rest: u64,
}

impl V6Key {
    /// From the fixed IPv6 header and the first four bytes of the transport header.
    #[inline(always)]
    pub fn from_headers(ip: &[u8; ipv6::LEN], ports: [u8; 4], protocol: u8) -> Self {
        use crate::wire::field;
        let word = |at| u64::from_le_bytes(field(ip, at));
        Self {
            source: [word(ipv6::at::SOURCE), word(ipv6::at::SOURCE + 8)],
            destination: [word(ipv6::at::DESTINATION), word(ipv6::at::DESTINATION + 8)],
            rest: rest(ports, protocol),
        }
    }

    /// Source and destination address as in the header.
    #[inline(always)]
    pub fn address_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.source.iter().chain(&self.destination)) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Source and destination port as in the header.
    #[inline(always)]
    pub fn port_bytes(&self) -> [u8; 4] {
        (self.rest as u32).to_le_bytes()
    }
}

impl FlowKey for V6Key {
    #[inline(always)]
    fn hash(&self, Secret(s): &Secret) -> u64 {
        let source = multiply_fold(self.source[0] ^ s[0], self.source[1] ^ s[1]);
        let destination = multiply_fold(self.destination[0] ^ s[2], self.destination[1] ^ s[3]);
        multiply_fold(source ^ destination.rotate_left(32) ^ s[4], self.rest ^ s[5])
    }

    #[inline(always)]
    fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, rest: swap_ports(self.rest) }
    }

    fn new(protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let words = |address| {
            let octets = match address {
                // Of neither family: what a stable hash does not look at.
                IpAddr::V4(v4) if v4.is_unspecified() => [0; 16],
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
            };
            let bits = u128::from_le_bytes(octets);
            [bits as u64, (bits >> 64) as u64]
        };
        Self {
            source: words(source.0),
            destination: words(destination.0),
            rest: rest(port_bytes(source.1, destination.1), protocol),
        }
    }

    fn protocol(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    fn source(&self) -> (IpAddr, u16) {
        (v6_address(self.source), source_port(self.rest))
    }

    fn destination(&self) -> (IpAddr, u16) {
        (v6_address(self.destination), destination_port(self.rest))
    }

    fn stable_hash(&self, seed: u64) -> u64 {
        let mut bytes = [0; 37];
        bytes[..32].copy_from_slice(&self.address_bytes());
        bytes[32..].copy_from_slice(&self.rest.to_le_bytes()[..5]);
        stable_hash(&bytes, seed)
    }

    fn stable_source_hash(&self, seed: u64) -> u64 {
        stable_hash(&self.address_bytes()[..16], seed)
    }

    #[inline(always)]
    fn address_sum(&self) -> PartSum {
        let [a, b] = self.source;
        let [c, d] = self.destination;
        PartSum::default().word(a).word(b).word(c).word(d)
    }

    #[inline(always)]
    fn port_sum(&self) -> PartSum {
        PartSum::default().word(self.rest & 0xffff_ffff)
    }
}

fn v6_address([low, high]: [u64; 2]) -> IpAddr {
    let bits = u128::from(low) | u128::from(high) << 64;
    Ipv6Addr::from(bits.to_le_bytes()).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Delta;
    use proptest::prelude::*;

    fn check<K: FlowKey>(protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) {
        let key = K::new(protocol, source, destination);
        assert_eq!((key.protocol(), key.source(), key.destination()), (protocol, source, destination));
        let back = key.reversed();
        assert_eq!((back.source(), back.destination()), (destination, source));
        assert_eq!(back.reversed(), key);
    }

    proptest! {
        #[test]
        fn parts_survive(a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16], sport: u16, dport: u16, protocol: u8) {
            check::<V4Key>(protocol, (a.into(), sport), (b.into(), dport));
            check::<V6Key>(protocol, (c.into(), sport), (d.into(), dport));
            prop_assume!(a != [0; 4] && b != [0; 4]);
            check::<V6Key>(protocol, (a.into(), sport), (b.into(), dport));
        }

        /// What the transport checksum of one family turns into that of the other stands on this.
        #[test]
        fn a_mapped_address_adds_to_a_checksum_what_the_address_does(a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16], sum: u16) {
            prop_assume!(a != [0; 4] && b != [0; 4]);
            let mapped = V6Key::new(6, (a.into(), 1), (b.into(), 2));
            let other = V6Key::new(6, (c.into(), 1), (d.into(), 2));
            let there = Delta::between(other.address_sum(), mapped.address_sum()).apply(sum);
            let bytes = [&c[..], &d].concat();
            let short = [&a[..], &b, &[0; 24]].concat();
            let expected = Delta::replace(&bytes, &short).apply(sum);
            // 0 and all ones are one number in one's complement.
            prop_assert!(there == expected || [there, expected] == [0, 0xffff] || [there, expected] == [0xffff, 0]);
        }

        #[test]
        fn headers_and_parts_give_the_same_key(a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16], ports: [u8; 4]) {
            let [s0, s1, d0, d1] = ports;
            let (sport, dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            let mut ip = [0; ipv4::LEN];
            ipv4::emit(&mut ip, a.into(), b.into(), 6, 64, 20).unwrap();
            prop_assert_eq!(V4Key::from_headers(&ip, ports, 6), V4Key::new(6, (a.into(), sport), (b.into(), dport)));
            let mut ip = [0; ipv6::LEN];
            ipv6::emit(&mut ip, c.into(), d.into(), 17, 64, 0).unwrap();
            prop_assert_eq!(V6Key::from_headers(&ip, ports, 17), V6Key::new(17, (c.into(), sport), (d.into(), dport)));
        }
    }

    #[test]
    fn hash_spreads_and_depends_on_the_secret() {
        // 65,536 sequential flows into 65,536 cells: a random function fills 1 - 1/e of them, 41,427 on average with a
        // standard deviation of 96.
        for seed in 0..4u8 {
            let secret = Secret::new(std::array::from_fn(|i| {
                (i as u8).wrapping_mul(37) ^ seed.wrapping_mul(91) ^ 0x5a
            }));
            for shift in [0, 16, 32, 48] {
                let mut seen = vec![false; 1 << 16];
                for port in 0..=u16::MAX {
                    let key = V4Key::new(17, ([10, 0, 0, 1].into(), port), ([192, 0, 2, 1].into(), 53));
                    seen[usize::from((key.hash(&secret) >> shift) as u16)] = true;
                }
                let filled = seen.iter().filter(|&&s| s).count();
                assert!((40_500..42_300).contains(&filled), "{filled} cells at shift {shift}");
            }
        }
    }
}
