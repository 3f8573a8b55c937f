//! Datagrams in two fragments each.

use super::check::{FRAGMENT, FRAGMENT_LEN};
use super::frame::{FCS, L3, Layout, STAMP, Stamp, Template, Transport};
use crate::traffic::Family;
use dataplane::wire::checksum::Sum;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::{ipv4, ipv6, protocol};

/// In the stamp at the start of a fragment that is not the first.
pub(crate) const FRAGMENT_MARK: u16 = 0x5c1f;
/// More Fragments, in IPv4 and in IPv6.
const MF_V4: u16 = 0x2000;
const MF_V6: u16 = 1;

/// Makes datagrams of one size and cuts them.
#[derive(Debug)]
pub(crate) struct Fragments {
    family: Family,
    template: Template,
    whole: Vec<u8>,
    /// Bytes after the IP header in the first fragment, a multiple of eight.
    first: usize,
    /// Every other datagram is sent last fragment first.
    backwards: bool,
}

impl Fragments {
    /// Of datagrams whose whole frame would have `size` bytes, or what two stamps need.
    pub(crate) fn new(family: Family, size: u16) -> Self {
        let layout = Layout { family, transport: Transport::Udp };
        // The first fragment ends at a multiple of eight after its stamp; the second has a stamp too.
        let first = (layout.payload() + STAMP - layout.l4()).next_multiple_of(8);
        let len = (usize::from(size) - FCS).max(layout.l4() + first + STAMP);
        let template = Template::stream(layout, len, 0, Mac::default());
        Self { family, whole: vec![0; template.len()], template, first, backwards: false }
    }

    pub(crate) fn set_destination(&mut self, mac: Mac) {
        self.template.set_destination(mac);
    }

    /// Two frames, in the order in which they are sent.
    pub(crate) fn write(&mut self, stamp: Stamp) -> [Vec<u8>; 2] {
        let layout = Layout { family: self.family, transport: Transport::Udp };
        let l4 = layout.l4();
        self.template.write(&mut self.whole, stamp);
        let second = l4 + self.first;
        let rest = Stamp { mark: FRAGMENT_MARK, ..stamp }.bytes();
        self.whole[second..second + STAMP].copy_from_slice(&rest);
        let at = layout.checksum();
        self.whole[at..at + 2].fill(0);
        let len = self.whole.len() - l4;
        let sum = super::frame::transport_sum(&self.whole, L3, l4, self.family, protocol::UDP, len);
        let checksum = if sum.checksum() == 0 { 0xffff } else { sum.checksum() };
        self.whole[at..at + 2].copy_from_slice(&checksum.to_be_bytes());

        self.backwards = !self.backwards;
        let frames = [(l4, second, true), (second, self.whole.len(), false)]
            .map(|(from, to, more)| self.cut(from, to, more, stamp.number));
        if self.backwards {
            let [a, b] = frames;
            [b, a]
        } else {
            frames
        }
    }

    /// A frame with the bytes `from..to` of the whole.
    fn cut(&self, from: usize, to: usize, more: bool, identification: u32) -> Vec<u8> {
        let layout = Layout { family: self.family, transport: Transport::Udp };
        let offset = (from - layout.l4()) as u16;
        let mut frame = self.whole[..layout.l4()].to_vec();
        let header = &mut frame[L3..];
        match self.family {
            Family::V4 => {
                // RFC 791: the offset counts units of eight bytes.
                let field = (offset / 8) | if more { MF_V4 } else { 0 };
                let total = (ipv4::LEN + to - from) as u16;
                header[ipv4::at::TOTAL_LENGTH..ipv4::at::TOTAL_LENGTH + 2]
                    .copy_from_slice(&total.to_be_bytes());
                header[4..6].copy_from_slice(&(identification as u16).to_be_bytes());
                header[ipv4::at::FRAGMENT..ipv4::at::TTL].copy_from_slice(&field.to_be_bytes());
                header[ipv4::at::CHECKSUM..ipv4::at::SOURCE].fill(0);
                let checksum = Sum::default().bytes(header).checksum();
                header[ipv4::at::CHECKSUM..ipv4::at::SOURCE].copy_from_slice(&checksum.to_be_bytes());
            }
            Family::V6 => {
                // RFC 8200 section 4.5: the offset's low three bits are flags.
                let field = offset | if more { MF_V6 } else { 0 };
                let length = (FRAGMENT_LEN + to - from) as u16;
                header[ipv6::at::PAYLOAD_LENGTH..ipv6::at::NEXT_HEADER]
                    .copy_from_slice(&length.to_be_bytes());
                header[ipv6::at::NEXT_HEADER] = FRAGMENT;
                frame.extend([protocol::UDP, 0]);
                frame.extend(field.to_be_bytes());
                frame.extend(identification.to_be_bytes());
            }
        }
        frame.extend_from_slice(&self.whole[from..to]);
        frame.resize(frame.len().max(super::frame::SHORTEST), 0);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::headers;
    use super::*;

    #[test]
    fn fragments_put_together_are_the_datagram() {
        for family in [Family::V4, Family::V6] {
            for size in [64, 200, 1518] {
                let mut fragments = Fragments::new(family, size);
                for number in 0..4 {
                    let stamp = Stamp { mark: super::super::frame::REQUEST, flow: 7, number, cycles: 99 };
                    let frames = fragments.write(stamp);
                    let mut datagram = vec![0; fragments.whole.len()];
                    let l4 = Layout { family, transport: Transport::Udp }.l4();
                    for (n, frame) in frames.iter().enumerate() {
                        let inner = headers(frame, L3).expect("IP");
                        assert!(inner.fragment);
                        assert_eq!(inner.offset, (n == 0) == (number % 2 == 0), "both orders");
                        let offset = if inner.offset { fragments.first } else { 0 };
                        let mark = if inner.offset { FRAGMENT_MARK } else { stamp.mark };
                        let at = inner.payload().expect("UDP");
                        assert_eq!(Stamp::read(&frame[at..]), Some(Stamp { mark, ..stamp }));
                        let len = (frame.len() - inner.l4).min(datagram.len() - l4 - offset);
                        datagram[l4 + offset..l4 + offset + len]
                            .copy_from_slice(&frame[inner.l4..inner.l4 + len]);
                    }
                    assert_eq!(datagram[l4..], fragments.whole[l4..]);
                }
            }
        }
    }
}
