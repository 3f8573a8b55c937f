//! Whether an address may be one of the balancer's own: a quick no for nearly all clients.

use ctl::config::Prefix;
use std::net::IpAddr;

const BITS: usize = 1 << 16;

/// A set of prefixes, coarsely: one bit for each 16-bit start of an IPv4 address, and one for each fold of the first 32
/// bits of an IPv6 address. What is not in it is in none of the prefixes; what is in it has to be looked up.
#[derive(Debug)]
pub(crate) struct Locality {
    v4: Box<[u64]>,
    v6: Box<[u64]>,
}

impl Default for Locality {
    fn default() -> Self {
        Self { v4: vec![0; BITS / 64].into(), v6: vec![0; BITS / 64].into() }
    }
}

impl Locality {
    pub(crate) fn add(&mut self, prefix: Prefix) {
        let length = usize::from(prefix.length());
        match prefix.address() {
            IpAddr::V4(address) => {
                let first = (u32::from(address) >> 16) as usize;
                let count = if length < 16 { 1 << (16 - length) } else { 1 };
                (first..first + count).for_each(|bit| set(&mut self.v4, bit));
            }
            IpAddr::V6(_) if length < 32 => self.v6.fill(u64::MAX),
            IpAddr::V6(address) => set(&mut self.v6, fold(u128::from(address))),
        }
    }

    pub(crate) fn add_host(&mut self, address: IpAddr) {
        self.add(Prefix::host(address));
    }

    #[inline]
    pub(crate) fn may_hold(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => get(&self.v4, (u32::from(address) >> 16) as usize),
            IpAddr::V6(address) => get(&self.v6, fold(u128::from(address))),
        }
    }
}

#[inline]
fn fold(address: u128) -> usize {
    ((address >> 112) as u16 ^ (address >> 96) as u16).into()
}

#[inline]
fn get(words: &[u64], bit: usize) -> bool {
    words[bit / 64 % (BITS / 64)] >> (bit % 64) & 1 == 1
}

fn set(words: &mut [u64], bit: usize) {
    words[bit / 64 % (BITS / 64)] |= 1 << (bit % 64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Never a wrong no.
        #[test]
        fn what_a_prefix_contains_may_be_local(
            v6: bool, bytes: [u8; 16], length in 0u8..=128, other: [u8; 16],
        ) {
            let address = |bytes: [u8; 16]| {
                let [a, b, c, d, ..] = bytes;
                if v6 { IpAddr::from(bytes) } else { IpAddr::from([a, b, c, d]) }
            };
            let prefix = Prefix::new(address(bytes), if v6 { length } else { length % 33 }).unwrap();
            let mut locality = Locality::default();
            prop_assert!(!locality.may_hold(address(other)));
            locality.add(prefix);
            prop_assert!(locality.may_hold(address(bytes)));
            prop_assert!(locality.may_hold(prefix.address()));
            prop_assert!(!prefix.contains(address(other)) || locality.may_hold(address(other)));
        }
    }
}
