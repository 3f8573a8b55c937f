//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Sum of 16-bit words in one's complement, not yet folded or complemented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes as big-endian 16-bit words; an odd last byte counts as if followed by zero. Every part but the last
    /// must have an even length.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // RFC 1071 section 2: the order of bytes within words does not matter, so sum 32 bits at a time, natively.
        let mut sum = 0u64;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut last = [0; 4];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        sum += u64::from(u32::from_ne_bytes(last));
        Self(self.0 + u64::from(u16::from_be(fold(sum))))
    }

    /// Adds what another sum holds, which began at an even offset.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + u64::from(fold(other.0)))
    }

    /// Adds one 16-bit word.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Adds the IPv4 pseudo header (RFC 9293 section 3.1): `length` is that of the transport header and its data.
    #[must_use]
    pub fn pseudo_v4(self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Self {
        self.bytes(&source.octets()).bytes(&destination.octets()).word(u16::from(protocol)).word(length)
    }

    /// Adds the IPv6 pseudo header (RFC 8200 section 8.1): `length` is that of the upper-layer header and its data.
    #[must_use]
    pub fn pseudo_v6(self, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Self {
        self.bytes(&source.octets())
            .bytes(&destination.octets())
            .word((length >> 16) as u16)
            .word(length as u16)
            .word(u16::from(protocol))
    }

    /// The value for the checksum field.
    #[must_use]
    pub fn checksum(self) -> u16 {
        !fold(self.0)
    }
}

/// Folds a sum of words into 16 bits with end-around carry.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What some whole 32-bit words of a packet contribute to a checksum, summed in the order of bytes that loads give
/// (RFC 1071 section 2 (B): the order does not matter until the end).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartSum {
    sum: u64,
    words: u64,
}

impl PartSum {
    /// Adds eight bytes, loaded little-endian; bytes that are not there are zero.
    #[must_use]
    #[inline(always)]
    pub fn word(self, word: u64) -> Self {
        Self { sum: self.sum + (word & 0xffff_ffff) + (word >> 32), words: self.words + 2 }
    }

    /// Both.
    #[must_use]
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, words: self.words + other.words }
    }

    /// The checksum of what was summed, as it stands in the packet.
    #[must_use]
    #[inline(always)]
    pub fn checksum_field(self) -> [u8; 2] {
        (!fold(self.sum)).to_le_bytes()
    }
}

/// What a rewrite adds to a checksum: the folded sum of `~m + m'` over the changed words (RFC 1624, equation 3).
///
/// Computed once per connection and added to every packet of it. Kept in the order of bytes in which it stands in a
/// packet, so that none has to be swapped there: one's complement sums do not mind (RFC 1071 section 2 (B)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// The IPv4 header's change when the hop limit goes down by one: it is the high byte of its word.
    pub const HOP: Self = Self((!0x0100u16).to_be());
    /// None.
    pub const NONE: Self = Self(0);

    /// The change when the bytes `old` become `new`, both of the same even length and word-aligned in the packet.
    #[must_use]
    pub fn replace(old: &[u8], new: &[u8]) -> Self {
        debug_assert_eq!(old.len(), new.len());
        let removed = Sum::default().bytes(old);
        let added = Sum::default().bytes(new);
        Self(fold(u64::from(removed.checksum()) + added.0).to_be())
    }

    /// The change when the words that make up `old` become those that make up `new`, as many and in the same places.
    #[must_use]
    #[inline(always)]
    pub fn between(old: PartSum, new: PartSum) -> Self {
        debug_assert_eq!(old.words, new.words);
        // The complements of n words add up to n times all ones less the words' sum.
        let removed = old.words * 0xffff_ffff - old.sum;
        Self(u16::from_le(fold(removed + new.sum)))
    }

    /// Both changes.
    #[must_use]
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(fold(u64::from(self.0) + u64::from(other.0)))
    }

    /// The change that undoes this one.
    #[must_use]
    #[inline(always)]
    pub fn inverse(self) -> Self {
        Self(!self.0)
    }

    /// The checksum field after this change: `HC' = ~(~HC + ~m + m')`.
    #[must_use]
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        u16::from_be(self.apply_in_place(checksum.to_be()))
    }

    /// As [`Delta::apply`], for the field in the order of bytes in which it stands in the packet.
    #[must_use]
    #[inline(always)]
    fn apply_in_place(self, field: u16) -> u16 {
        // Without the sum's overflow beyond 16 bits there is no carry to add; with it, exactly one.
        let (sum, carry) = (!field).overflowing_add(self.0);
        !(sum + u16::from(carry))
    }

    /// Changes a checksum field.
    #[inline(always)]
    pub fn update(self, field: &mut [u8; 2]) {
        *field = self.apply_in_place(u16::from_ne_bytes(*field)).to_ne_bytes();
    }

    /// Changes a UDP checksum field: see [`Delta::apply_udp`].
    #[inline(always)]
    pub fn update_udp(self, field: &mut [u8; 2]) {
        let before = u16::from_ne_bytes(*field);
        if before == 0 {
            return;
        }
        let after = self.apply_in_place(before);
        *field = if after == 0 { [0xff; 2] } else { after.to_ne_bytes() };
    }

    /// As [`Delta::apply`] for UDP: a field of zero means "none" and stays (RFC 768), and a result of zero is sent
    /// as all ones.
    #[must_use]
    #[inline(always)]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            value => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 read literally: the model for everything else.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_rfc_1071_section_3() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn example_of_rfc_1624_section_4() {
        // Header checksum 0xDD2F, a word changes from 0x5555 to 0x3285: 0x0000, where RFC 1141 gave 0xFFFF.
        let delta = Delta::replace(&[0x55, 0x55], &[0x32, 0x85]);
        assert_eq!(delta.apply(0xdd2f), 0x0000);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).checksum(), naive(&bytes));
        }

        #[test]
        fn parts_add_up(a in proptest::collection::vec(any::<u8>(), 0..40), b in proptest::collection::vec(any::<u8>(), 0..40)) {
            let even = a.len() & !1;
            let whole: Vec<u8> = a[..even].iter().chain(&b).copied().collect();
            prop_assert_eq!(Sum::default().bytes(&a[..even]).bytes(&b).checksum(), naive(&whole));
        }

        #[test]
        fn incremental_equals_recomputed(mut bytes in proptest::collection::vec(any::<u8>(), 40), at in 0usize..16, new: [u8; 6]) {
            // The first word is the checksum field itself, as in a header whose sum verifies.
            bytes[0] = 0; bytes[1] = 0;
            // A header is never all zero, the only case in which one's complement has two right answers.
            bytes[39] |= 1;
            let before = naive(&bytes);
            let at = 2 + at * 2;
            let delta = Delta::replace(&bytes[at..at + 6], &new);
            bytes[at..at + 6].copy_from_slice(&new);
            bytes[39] |= 1;
            let after = naive(&bytes);
            prop_assert_eq!(delta.apply(before), after);
            prop_assert_eq!(delta.inverse().apply(delta.apply(before)), before);
        }

        #[test]
        fn part_sums_give_the_same_change(old: [u8; 16], new: [u8; 16], checksum: u16) {
            let sum = |bytes: [u8; 16]| {
                let bits = u128::from_le_bytes(bytes);
                PartSum::default().word(bits as u64).and(PartSum::default().word((bits >> 64) as u64))
            };
            let whole = Delta::replace(&old, &new);
            prop_assert_eq!(Delta::between(sum(old), sum(new)).apply(checksum), whole.apply(checksum));
        }

        #[test]
        fn hop_is_one_less(mut word: [u8; 2], rest: [u8; 8]) {
            prop_assume!(word[0] > 0);
            let before = naive(&[&word[..], &rest[..], &[1]].concat());
            word[0] -= 1;
            prop_assert_eq!(Delta::HOP.apply(before), naive(&[&word[..], &rest[..], &[1]].concat()));
        }
    }
}
