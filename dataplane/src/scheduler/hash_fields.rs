//! What of a flow a scheduler hashes.

use crate::flow::FlowKey;
use ctl::config::HashField;
use std::net::{IpAddr, Ipv4Addr};

/// A set of fields of the 5-tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashFields(u8);

impl HashFields {
    /// Addresses, ports and protocol.
    pub const ALL: Self = Self(0b1111);
    pub const SOURCE_ADDRESS: Self = Self(0b0001);
    const PORTS: u8 = 0b1010;

    pub fn new(fields: &[HashField]) -> Self {
        let bit = |field: &HashField| match field {
            HashField::SourceAddress => 0b0001,
            HashField::SourcePort => 0b0010,
            HashField::DestinationAddress => 0b0100,
            HashField::DestinationPort => 0b1000,
        };
        Self(fields.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// The hash of these fields of a flow: the same on every balancer with this `seed`. Without any port the protocol
    /// counts for nothing either, so that a client finds one backend by TCP and by UDP.
    pub fn hash<K: FlowKey>(self, key: &K, seed: u64) -> u64 {
        match self {
            Self::ALL => key.stable_hash(seed),
            Self::SOURCE_ADDRESS => key.stable_source_hash(seed),
            Self(bits) => {
                let end = |(address, port): (IpAddr, u16), bits: u8| {
                    // The unspecified address of either family.
                    let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    (if bits & 1 != 0 { address } else { none }, if bits & 2 != 0 { port } else { 0 })
                };
                let protocol = if bits & Self::PORTS != 0 { key.protocol() } else { 0 };
                K::new(protocol, end(key.source(), bits), end(key.destination(), bits >> 2)).stable_hash(seed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{V4Key, V6Key};
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    /// Whether two flows that differ only in what `change` changes have different hashes, by fields looked at.
    fn looked_at<K: FlowKey>(one: K, other: K) -> Vec<bool> {
        let hash = |bits, key: &K| HashFields(bits).hash(key, 7);
        (1..16).map(|bits| hash(bits, &one) != hash(bits, &other)).collect()
    }

    fn subsets_with(field: HashField) -> Vec<bool> {
        let HashFields(bit) = HashFields::new(&[field]);
        (1..16u8).map(|bits| bits & bit != 0).collect()
    }

    proptest! {
        #[test]
        fn a_field_counts_exactly_when_it_is_named(a: u128, b: u128, c: u128, ports: [u16; 3]) {
            prop_assume!(a as u32 != c as u32 && b as u32 != c as u32 && ports[0] != ports[2] && ports[1] != ports[2]);
            let v4 = |bits: u128| IpAddr::from((bits as u32).to_be_bytes());
            let v6 = |bits: u128| IpAddr::from(Ipv6Addr::from(bits));
            let [p, q, r] = ports;
            for (field, from, to) in [
                (HashField::SourceAddress, (c, p), (b, q)),
                (HashField::SourcePort, (a, r), (b, q)),
                (HashField::DestinationAddress, (a, p), (c, q)),
                (HashField::DestinationPort, (a, p), (b, r)),
            ] {
                let four = |(a, p), (b, q)| V4Key::new(6, (v4(a), p), (v4(b), q));
                let six = |(a, p), (b, q)| V6Key::new(6, (v6(a), p), (v6(b), q));
                prop_assert_eq!(looked_at(four((a, p), (b, q)), four(from, to)), subsets_with(field));
                prop_assert_eq!(looked_at(six((a, p), (b, q)), six(from, to)), subsets_with(field));
            }
        }
    }

    #[test]
    fn all_and_none_are_what_they_were() {
        let key = V4Key::new(17, ([10, 0, 0, 1].into(), 5), ([10, 0, 0, 2].into(), 6));
        assert_eq!(HashFields::new(HashField::ALL), HashFields::ALL);
        assert_eq!(HashFields::ALL.hash(&key, 3), key.stable_hash(3));
        assert_eq!(HashFields::new(&[HashField::SourceAddress]).hash(&key, 3), key.stable_source_hash(3));
    }
}
