//! The Toeplitz hash of receive-side scaling, in software: what a NIC computes, so that the worker that it delivers to is
//! known beforehand.
//!
//! "For each bit in the input, from left to right: if the bit is set, XOR the left-most 32 bits of the key into the
//! result; shift the key left by one bit" (Microsoft, "RSS hashing functions"). So the hash is linear: that of an input is
//! the XOR of what its parts contribute, each at its own place, which the tables here hold by half byte.

use std::net::IpAddr;

/// Bytes of the longest input: two IPv6 addresses and two ports.
const INPUT: usize = 36;
/// Bytes of key that such an input uses: one window of 32 bits for each of its bits.
pub const KEY: usize = INPUT + 4;

/// What each value of each half byte of the input contributes.
#[derive(Clone)]
pub struct Toeplitz(Box<[[u32; 16]; INPUT * 2]>);

impl std::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The tables tell the key.
        f.write_str("Toeplitz(..)")
    }
}

impl Toeplitz {
    /// The hash under `key`; `None` if that is too short for every flow.
    pub fn new(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY] = key.first_chunk()?;
        let window = |bit: usize| {
            let (byte, shift) = (bit / 8, bit % 8);
            let at = |n: usize| u64::from(key.get(byte + n).copied().unwrap_or(0));
            let five = at(0) << 32 | at(1) << 24 | at(2) << 16 | at(3) << 8 | at(4);
            (five >> (8 - shift)) as u32
        };
        let mut tables = Box::new([[0; 16]; INPUT * 2]);
        for (half, table) in tables.iter_mut().enumerate() {
            for (value, sum) in table.iter_mut().enumerate() {
                *sum = (0..4)
                    .filter(|bit| value & (8 >> bit) != 0)
                    .fold(0, |sum, bit| sum ^ window(half * 4 + bit));
            }
        }
        Some(Self(tables))
    }

    /// What `bytes` contribute when they stand at byte `at` of the input.
    #[inline]
    fn part(&self, at: usize, bytes: &[u8]) -> u32 {
        let halves = self.0[at * 2..].chunks_exact(2);
        halves.zip(bytes).fold(0, |sum, (tables, byte)| {
            sum ^ tables[0][usize::from(byte >> 4)] ^ tables[1][usize::from(byte & 15)]
        })
    }

    /// The part of `address` at byte `at`, and the byte that follows it.
    #[inline]
    fn address(&self, at: usize, address: IpAddr) -> (u32, usize) {
        match address {
            IpAddr::V4(v4) => (self.part(at, &v4.octets()), at + 4),
            IpAddr::V6(v6) => (self.part(at, &v6.octets()), at + 16),
        }
    }

    /// The hash of one end of a flow: address, port.
    #[inline]
    pub fn one_end(&self, (address, port): (IpAddr, u16)) -> u32 {
        let (sum, at) = self.address(0, address);
        sum ^ self.part(at, &port.to_be_bytes())
    }

    /// The hash of both ends: source address, destination address, source port, destination port.
    #[inline]
    pub fn both_ends(&self, source: (IpAddr, u16), destination: (IpAddr, u16)) -> u32 {
        let (from, at) = self.address(0, source.0);
        let (to, at) = self.address(at, destination.0);
        from ^ to ^ self.part(at, &source.1.to_be_bytes()) ^ self.part(at + 2, &destination.1.to_be_bytes())
    }

    /// What a port contributes to [`Toeplitz::one_end`] of an address of that family.
    pub fn port_of_one_end(&self, ipv6: bool, port: u16) -> u32 {
        self.part(if ipv6 { 16 } else { 4 }, &port.to_be_bytes())
    }

    /// What a destination port contributes to [`Toeplitz::both_ends`].
    pub fn destination_port_of_both_ends(&self, ipv6: bool, port: u16) -> u32 {
        self.part(if ipv6 { 34 } else { 10 }, &port.to_be_bytes())
    }

    /// Whether the choice of a port alone, as the last part of either kind of input and in either family, reaches every
    /// value of the hash's last `bits` bits. Not under every key: a hash that is linear may have gaps.
    pub fn ports_reach_all(&self, bits: u32) -> bool {
        let mask = 1u32.checked_shl(bits).map_or(u32::MAX, |values| values - 1);
        let parts: [fn(&Self, bool, u16) -> u32; 2] =
            [Self::port_of_one_end, Self::destination_port_of_both_ends];
        parts.iter().all(|part| {
            [false, true]
                .into_iter()
                .all(|ipv6| rank((0..16).map(|bit| part(self, ipv6, 1 << bit) & mask)) == bits)
        })
    }
}

/// How many of the vectors are independent of each other over GF(2): what XORs of them reach has that dimension.
fn rank(vectors: impl Iterator<Item = u32>) -> u32 {
    let mut basis = [0u32; 32];
    for mut vector in vectors {
        while vector != 0 {
            let leading = vector.ilog2() as usize;
            if basis[leading] == 0 {
                basis[leading] = vector;
                break;
            }
            vector ^= basis[leading];
        }
    }
    basis.iter().filter(|&&vector| vector != 0).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    /// The key of Microsoft's "Verifying the RSS hash calculation".
    const SPECIFIED: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn end(text: &str) -> (IpAddr, u16) {
        let address: SocketAddr = text.parse().unwrap();
        (address.ip(), address.port())
    }

    #[test]
    fn the_vectors_of_the_specification() {
        let toeplitz = Toeplitz::new(&SPECIFIED).unwrap();
        // Destination, source, hash of the addresses, hash of addresses and ports.
        for (to, from, addresses, both) in [
            ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
            ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
            ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
            ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
            ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
            ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
            ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
            (
                "[fe80::200:f8ff:fe21:67cf]:38024",
                "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            let (to, from) = (end(to), end(from));
            assert_eq!(toeplitz.both_ends(from, to), both, "{from:?} to {to:?}");
            // Ports of zero add nothing, which leaves the hash of the addresses alone.
            assert_eq!(toeplitz.both_ends((from.0, 0), (to.0, 0)), addresses, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn ports_reach_every_value_or_are_found_out() {
        let toeplitz = Toeplitz::new(&SPECIFIED).unwrap();
        for bits in 0..17 {
            let values: std::collections::HashSet<u32> = (0..=u16::MAX)
                .map(|port| toeplitz.port_of_one_end(false, port) & ((1 << bits) - 1))
                .collect();
            let reached =
                rank((0..16).map(|bit| toeplitz.port_of_one_end(false, 1 << bit) & ((1 << bits) - 1)));
            assert_eq!(values.len(), 1 << reached);
        }
        assert!(toeplitz.ports_reach_all(7));
        // The key whose hash is symmetric repeats itself, and so do the hashes of ports.
        assert!(!Toeplitz::new(&[0; KEY]).unwrap().ports_reach_all(1));
        assert!(!toeplitz.ports_reach_all(17));
    }

    #[test]
    fn a_short_key_is_no_key() {
        assert!(Toeplitz::new(&SPECIFIED[1..]).is_none());
        assert!(Toeplitz::new(&[]).is_none());
    }

    /// The definition, bit by bit.
    fn by_definition(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
        let window = |at: usize| (0..32).fold(0, |sum: u32, n| sum << 1 | u32::from(bit(key, at + n)));
        (0..input.len() * 8).filter(|&n| bit(input, n) == 1).fold(0, |sum, n| sum ^ window(n))
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            key in proptest::collection::vec(any::<u8>(), KEY..60),
            a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16], sport: u16, dport: u16,
        ) {
            let toeplitz = Toeplitz::new(&key).unwrap();
            let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
            for (from, to) in [(a.to_vec(), b.to_vec()), (c.to_vec(), d.to_vec())] {
                let address = |bytes: &[u8]| -> IpAddr {
                    bytes.try_into().map_or_else(|_| <[u8; 16]>::try_from(bytes).unwrap().into(), |v4: [u8; 4]| v4.into())
                };
                let (source, destination) = ((address(&from), sport), (address(&to), dport));
                let whole = [&from[..], &to[..], &ports[..]].concat();
                prop_assert_eq!(toeplitz.both_ends(source, destination), by_definition(&key, &whole));
                let end = [&from[..], &ports[..2]].concat();
                prop_assert_eq!(toeplitz.one_end(source), by_definition(&key, &end));
                // Linear: the port can be added afterwards.
                let v6 = source.0.is_ipv6();
                prop_assert_eq!(
                    toeplitz.one_end((source.0, 0)) ^ toeplitz.port_of_one_end(v6, sport),
                    toeplitz.one_end(source)
                );
                prop_assert_eq!(
                    toeplitz.both_ends(source, (destination.0, 0)) ^ toeplitz.destination_port_of_both_ends(v6, dport),
                    toeplitz.both_ends(source, destination)
                );
            }
        }
    }
}
