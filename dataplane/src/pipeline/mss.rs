//! Limiting the segment size that SYNs offer (RFC 9293 section 3.7.1), for services that ask for it.

use super::{Context, Shared};
use crate::conn::Entry;
use crate::rewrite::{L3, Rewrite};
use crate::wire::checksum::Delta;
use crate::wire::{be16, ipv4, ipv6, tcp};
use ctl::config::Mss;

/// Option kinds (RFC 9293 section 3.1).
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;

/// Limits the MSS option of a SYN of this connection, in either direction. `l4` is the offset of the TCP header.
#[cold]
#[inline(never)]
pub(super) fn clamp<K: Rewrite>(
    entry: &Entry<K>,
    shared: &Shared,
    arrival: Context<'_>,
    l4: usize,
    frame: &mut [u8],
) {
    let services = arrival.snapshot.services();
    let backend = arrival.snapshot.backend(entry.backend).filter(|backend| !backend.removed);
    let setting = backend.and_then(|backend| services.get(backend.service as usize)?.mss);
    let most = match setting {
        None => return,
        Some(Mss::Bytes(bytes)) => bytes,
        Some(Mss::Auto) => {
            // Each way with the header that packets leave with: the families of the two ends may differ.
            let most = |way: usize| {
                let ip = if entry.keys[1 - way].source().0.is_ipv6() { ipv6::LEN } else { ipv4::LEN };
                let frame = shared.neighbors.get(entry.next_hops[way]).max_frame;
                frame.saturating_sub((L3 + ip + tcp::LEN) as u16)
            };
            if entry.one_way { most(1) } else { most(0).min(most(1)) }
        }
    };
    if let Some(segment) = frame.get_mut(l4..) {
        limit(segment, most);
    }
}

/// Lowers the MSS option in a TCP header to `most`, if there is one and it is larger, and updates the checksum.
fn limit(segment: &mut [u8], most: u16) {
    let Some(end) = segment.get(tcp::at::DATA_OFFSET).map(|offset| usize::from(offset >> 4) * 4) else {
        return;
    };
    let mut at = tcp::LEN;
    while at + 4 <= end.min(segment.len()) {
        match (segment[at], usize::from(segment[at + 1])) {
            (NOP, _) => at += 1,
            (MSS, 4) => {
                let old = be16(segment, at + 2);
                if old > most {
                    let (mut before, mut after) = (old.to_be_bytes(), most.to_be_bytes());
                    segment[at + 2..at + 4].copy_from_slice(&after);
                    if at % 2 == 1 {
                        // Its bytes are in two words of the sum, each in the other half.
                        before.reverse();
                        after.reverse();
                    }
                    let checksum = be16(segment, tcp::at::CHECKSUM);
                    let checksum = Delta::replace(&before, &after).apply(checksum);
                    segment[tcp::at::CHECKSUM..tcp::at::CHECKSUM + 2]
                        .copy_from_slice(&checksum.to_be_bytes());
                }
                return;
            }
            // RFC 9293 section 3.1: a length counts kind and length too; a smaller one is broken.
            (END, _) | (_, 0 | 1) => return,
            (_, len) => at += len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{TcpHeader, TcpHeaderSlice};
    use proptest::prelude::*;

    fn segment(options: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader::new(1000, 80, 7, 9);
        header.syn = true;
        header.set_options_raw(options).unwrap();
        header.checksum = header.calc_checksum_ipv4_raw([1, 2, 3, 4], [5, 6, 7, 8], &[]).unwrap();
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes
    }

    fn is_sound(bytes: &[u8]) -> bool {
        let header = TcpHeaderSlice::from_slice(bytes).unwrap().to_header();
        header.checksum == header.calc_checksum_ipv4_raw([1, 2, 3, 4], [5, 6, 7, 8], &[]).unwrap()
    }

    proptest! {
        #[test]
        fn lowers_wherever_it_stands(nops in 0usize..8, offered: u16, most in 536u16.., scale in any::<bool>()) {
            let [high, low] = offered.to_be_bytes();
            let mut options = vec![1; nops];
            if scale {
                options.extend([3, 3, 7]);
            }
            options.extend([2, 4, high, low, 4, 2]);
            let before = segment(&options);
            let mut after = before.clone();
            limit(&mut after, most);
            prop_assert!(is_sound(&after));
            let at = 20 + nops + if scale { 5 } else { 2 };
            prop_assert_eq!(be16(&after, at), offered.min(most));
            if offered <= most {
                prop_assert_eq!(before, after);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), most: u16) {
            limit(&mut bytes, most);
        }
    }

    #[test]
    fn what_has_none_stays() {
        for options in
            [&[][..], &[1, 1, 1, 1], &[0, 2, 4, 0xff, 0xff], &[5, 0, 2, 4, 0xff, 0xff], &[2, 3, 0xff, 1]]
        {
            let before = segment(options);
            let mut after = before.clone();
            limit(&mut after, 600);
            assert_eq!(before, after, "{options:?}");
        }
    }
}
