//! Which of the last requests came back already: numbers are consecutive, so a ring of bits is enough.

/// Bits in the ring; half of them stand for numbers that may still come.
const BITS: u32 = 1 << 20;

/// Numbers seen among the last half million.
#[derive(Debug)]
pub(crate) struct Seen {
    ring: Vec<u64>,
    /// Numbers from here on have a clear bit.
    next: u32,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { ring: vec![0; BITS as usize / 64], next: 0 }
    }

    /// `number` is about to be sent: makes room ahead of it, a word at a time.
    #[inline(always)]
    pub(crate) fn sending(&mut self, number: u32) {
        if number.is_multiple_of(64) {
            let ahead = number.wrapping_add(BITS / 2);
            self.ring[(ahead % BITS / 64) as usize] = 0;
        }
        self.next = number.wrapping_add(1);
    }

    /// `number` came: whether for the first time. What is older than the ring remembers counts as seen, and what was never
    /// sent too.
    #[inline(always)]
    pub(crate) fn first(&mut self, number: u32) -> bool {
        let age = self.next.wrapping_sub(1).wrapping_sub(number);
        if age >= BITS / 2 {
            return false;
        }
        let word = &mut self.ring[(number % BITS / 64) as usize];
        let bit = 1 << (number % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// Against a set, over several turns of the ring, from any number.
        #[test]
        fn agrees_with_a_set(start: u32, delays in proptest::collection::vec((0u32..40_000, 1u32..70_000), 1..200)) {
            let (mut seen, mut model) = (Seen::new(), HashSet::new());
            let start = start & !63;
            seen.sending(start);
            let mut next = start.wrapping_add(1);
            for (delay, step) in delays {
                for _ in 0..step {
                    seen.sending(next);
                    next = next.wrapping_add(1);
                }
                let number = next.wrapping_sub(1 + delay.min(next.wrapping_sub(start).wrapping_sub(1)));
                prop_assert_eq!(seen.first(number), model.insert(number));
            }
        }
    }

    #[test]
    fn what_was_never_sent_does_not_count() {
        let mut seen = Seen::new();
        seen.sending(0);
        assert!(seen.first(0) && !seen.first(0));
        assert!(!seen.first(1) && !seen.first(BITS));
    }
}
