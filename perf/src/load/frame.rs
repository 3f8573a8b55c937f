//! Frames of the generator: written from templates whose checksums are summed up but for what differs from packet to
//! packet, and marked so that they are known again.

use crate::traffic::{self, Family, SERVICE_PORT};
use dataplane::wire::checksum::Sum;
use dataplane::wire::ethernet::{self, Mac, ethertype};
use dataplane::wire::{ipv4, ipv6, protocol, tcp, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a stamp at the start of a payload.
pub(crate) const STAMP: usize = 18;
/// Shortest frame without its frame check sequence (IEEE 802.3 clause 3.2.8).
pub(crate) const SHORTEST: usize = 60;
/// Bytes of the frame check sequence, which frame sizes count and buffers do not hold.
pub(crate) const FCS: usize = 4;
/// Hop limit of what the generator sends.
pub(crate) const HOPS: u8 = 64;

/// In a stamp: a request, and its answer.
pub(crate) const REQUEST: u16 = 0x5c1d;
pub(crate) const REPLY: u16 = 0x5c1e;
/// In the window field of a TCP segment: part of a stream, with a stamp; a SYN that nobody answers; part of a conversation.
pub(crate) const WINDOW_STREAM: u16 = 0x5c20;
pub(crate) const WINDOW_SYN: u16 = 0x5c21;
pub(crate) const WINDOW_TALK: u16 = 0x5c22;

/// Offset of the IP header.
pub(crate) const L3: usize = ethernet::LEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Where things are in a frame without options, from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) family: Family,
    pub(crate) transport: Transport,
}

impl Layout {
    /// The four bytes of the source address by which clients differ.
    pub(crate) const fn client(self) -> usize {
        match self.family {
            Family::V4 => L3 + ipv4::at::SOURCE,
            Family::V6 => L3 + ipv6::at::SOURCE + 12,
        }
    }

    pub(crate) const fn l4(self) -> usize {
        match self.family {
            Family::V4 => L3 + ipv4::LEN,
            Family::V6 => L3 + ipv6::LEN,
        }
    }

    pub(crate) const fn checksum(self) -> usize {
        match self.transport {
            Transport::Udp => self.l4() + udp::at::CHECKSUM,
            Transport::Tcp => self.l4() + tcp::at::CHECKSUM,
        }
    }

    pub(crate) const fn payload(self) -> usize {
        match self.transport {
            Transport::Udp => self.l4() + udp::LEN,
            Transport::Tcp => self.l4() + tcp::LEN,
        }
    }

    /// The shortest frame with a stamp.
    pub(crate) fn shortest(self) -> usize {
        (self.payload() + STAMP).max(SHORTEST)
    }
}

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) mark: u16,
    pub(crate) flow: u32,
    /// Counts requests.
    pub(crate) number: u32,
    /// When it was sent, by the time stamp counter.
    pub(crate) cycles: u64,
}

impl Stamp {
    #[inline(always)]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP] = payload.first_chunk()?;
        let [a, b, f0, f1, f2, f3, n0, n1, n2, n3, cycles @ ..] = *bytes;
        Some(Self {
            mark: u16::from_be_bytes([a, b]),
            flow: u32::from_le_bytes([f0, f1, f2, f3]),
            number: u32::from_le_bytes([n0, n1, n2, n3]),
            cycles: u64::from_le_bytes(cycles),
        })
    }

    #[inline(always)]
    pub(crate) fn bytes(self) -> [u8; STAMP] {
        let mut bytes = [0; STAMP];
        bytes[..2].copy_from_slice(&self.mark.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.flow.to_le_bytes());
        bytes[6..10].copy_from_slice(&self.number.to_le_bytes());
        bytes[10..].copy_from_slice(&self.cycles.to_le_bytes());
        bytes
    }

    /// Its sum as 32-bit words in the order of bytes that loads give; at an even offset, as every payload is.
    #[inline(always)]
    fn sum(self) -> u64 {
        u64::from(self.mark.to_be())
            + u64::from(self.flow)
            + u64::from(self.number)
            + (self.cycles & 0xffff_ffff)
            + (self.cycles >> 32)
    }
}

/// Adds up bytes as little-endian 16-bit words, which give the sum with its bytes swapped (RFC 1071 section 2 (B)).
fn words(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(*pair.get(1).unwrap_or(&0)) << 8).sum()
}

/// The checksum field, as its bytes lie, of a little-endian sum.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// A client's part of its address and its port: those of [`traffic::client`].
#[inline(always)]
pub(crate) fn client(flow: u32, family: Family) -> (u32, u16) {
    let port = 1024 + (flow & 0x7fff) as u16;
    match family {
        Family::V4 => (0xc612_0000 | flow >> 15, port),
        Family::V6 => (flow >> 15, port),
    }
}

/// A frame from a client to the service, but for the client and the stamp (or sequence numbers).
#[derive(Debug, Clone)]
pub(crate) struct Template {
    layout: Layout,
    bytes: Vec<u8>,
    /// Of the IPv4 header without the client's address.
    ip_sum: u64,
    /// Of the segment and its pseudo header without what differs.
    sum: u64,
}

impl Template {
    /// A frame of `len` bytes with a stamp, as the layout's shortest at least; for TCP with `flags`.
    pub(crate) fn stream(layout: Layout, len: usize, flags: u8, to: Mac) -> Self {
        let len = len.max(layout.shortest());
        Self::new(layout, len, len - layout.payload(), flags, WINDOW_STREAM, to)
    }

    /// A TCP segment with `payload` zero bytes of data.
    pub(crate) fn segment(family: Family, payload: usize, window: u16, to: Mac) -> Self {
        let layout = Layout { family, transport: Transport::Tcp };
        Self::new(layout, (layout.payload() + payload).max(SHORTEST), payload, 0, window, to)
    }

    fn new(layout: Layout, len: usize, payload: usize, flags: u8, window: u16, to: Mac) -> Self {
        let mut bytes = vec![0; len];
        let (l4, at) = (layout.l4(), layout.payload());
        let segment = at + payload - l4;
        let number = match layout.transport {
            Transport::Udp => protocol::UDP,
            Transport::Tcp => protocol::TCP,
        };
        let destination = traffic::vip(layout.family);
        let kind = if destination.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
        let mut written = ethernet::emit(&mut bytes, to, super::world::World::gateway_mac(), kind);
        // Client 0: its address is subtracted from the sums again.
        let source = traffic::client(0, layout.family).0;
        match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = (l4 - L3 + segment) as u16;
                written = written.and(ipv4::emit(&mut bytes[L3..], from, to, number, HOPS, total));
                bytes[L3 + ipv4::at::CHECKSUM..L3 + ipv4::at::SOURCE].fill(0);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                written = written.and(ipv6::emit(&mut bytes[L3..], from, to, number, HOPS, segment as u16));
            }
            _ => {}
        }
        match layout.transport {
            Transport::Udp => {
                written = written.and(udp::emit(&mut bytes[l4..], 0, SERVICE_PORT, segment as u16));
            }
            Transport::Tcp => {
                bytes[l4 + 2..l4 + 4].copy_from_slice(&SERVICE_PORT.to_be_bytes());
                bytes[l4 + tcp::at::DATA_OFFSET] = 5 << 4;
                bytes[l4 + tcp::at::FLAGS] = flags;
                bytes[l4 + WINDOW..l4 + tcp::at::CHECKSUM].copy_from_slice(&window.to_be_bytes());
            }
        }
        debug_assert!(written.is_ok());
        bytes[layout.client()..layout.client() + 4].fill(0);
        let addresses = if layout.family == Family::V4 {
            &bytes[L3 + ipv4::at::SOURCE..l4]
        } else {
            &bytes[L3 + ipv6::at::SOURCE..l4]
        };
        let sum = words(addresses)
            + words(&bytes[l4..at])
            + u64::from(u16::from(number).to_be())
            + u64::from((segment as u16).to_be());
        let ip_sum = if layout.family == Family::V4 { words(&bytes[L3..l4]) } else { 0 };
        Self { layout, bytes, ip_sum, sum }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// To whom the frame goes on the link.
    pub(crate) fn set_destination(&mut self, mac: Mac) {
        self.bytes[..6].copy_from_slice(&mac.0);
    }

    /// TCP flags from now on.
    pub(crate) fn set_flags(&mut self, flags: u8) {
        if self.layout.transport == Transport::Tcp {
            let at = self.layout.l4() + tcp::at::FLAGS;
            self.sum =
                self.sum - u64::from(u16::from(self.bytes[at]).to_be()) + u64::from(u16::from(flags).to_be());
            self.bytes[at] = flags;
        }
    }

    /// Copies the template; the shortest length, which is the usual one, without a call.
    #[inline(always)]
    fn copy(&self, frame: &mut [u8]) {
        if let (Some(to), Some(from)) =
            (frame.first_chunk_mut::<SHORTEST>(), self.bytes.first_chunk::<SHORTEST>())
        {
            *to = *from;
        }
        if frame.len() > SHORTEST {
            frame[SHORTEST..].copy_from_slice(&self.bytes[SHORTEST..]);
        }
    }

    /// Writes the client's address and port; returns what they add to the sum.
    #[inline(always)]
    fn put_client(&self, frame: &mut [u8], flow: u32) -> u64 {
        let (address, port) = client(flow, self.layout.family);
        let (address, port) = (address.to_be_bytes(), port.to_be_bytes());
        let at = self.layout.client();
        frame[at..at + 4].copy_from_slice(&address);
        let l4 = self.layout.l4();
        frame[l4..l4 + 2].copy_from_slice(&port);
        let address = u64::from(u32::from_ne_bytes(address));
        if self.layout.family == Family::V4 {
            let checksum = fold(self.ip_sum + address);
            frame[L3 + ipv4::at::CHECKSUM..L3 + ipv4::at::SOURCE].copy_from_slice(&checksum.to_ne_bytes());
        }
        address + u64::from(u16::from_ne_bytes(port))
    }

    #[inline(always)]
    fn put_checksum(&self, frame: &mut [u8], sum: u64) {
        let checksum = match (fold(sum), self.layout.transport) {
            // RFC 768: zero means that there is none.
            (0, Transport::Udp) => 0xffff,
            (checksum, _) => checksum,
        };
        let at = self.layout.checksum();
        frame[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    }

    /// Fills `frame`, as long as the template, with a stamped packet of the stamp's flow.
    #[inline(always)]
    pub(crate) fn write(&self, frame: &mut [u8], stamp: Stamp) {
        self.copy(frame);
        let sum = self.sum + self.put_client(frame, stamp.flow) + stamp.sum();
        let at = self.layout.payload();
        frame[at..at + STAMP].copy_from_slice(&stamp.bytes());
        self.put_checksum(frame, sum);
    }

    /// Fills `frame` with a segment of `flow`.
    #[inline(always)]
    pub(crate) fn write_segment(&self, frame: &mut [u8], flow: u32, segment: Segment) {
        self.copy(frame);
        let mut sum = self.sum + self.put_client(frame, flow);
        let l4 = self.layout.l4();
        let (sequence, acknowledgment) =
            (segment.sequence.to_be_bytes(), segment.acknowledgment.to_be_bytes());
        frame[l4 + tcp::at::SEQUENCE..l4 + tcp::at::ACKNOWLEDGMENT].copy_from_slice(&sequence);
        frame[l4 + tcp::at::ACKNOWLEDGMENT..l4 + tcp::at::DATA_OFFSET].copy_from_slice(&acknowledgment);
        frame[l4 + tcp::at::FLAGS] = segment.flags;
        sum += u64::from(u32::from_ne_bytes(sequence)) + u64::from(u32::from_ne_bytes(acknowledgment));
        sum += u64::from(u16::from(segment.flags).to_be());
        self.put_checksum(frame, sum);
    }
}

/// Offset of the window field from the start of a TCP header (RFC 9293 section 3.1).
pub(crate) const WINDOW: usize = 14;
/// The PSH flag.
pub(crate) const PSH: u8 = 0x08;

/// What differs between the segments of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
}

/// Turns a received packet round: from whom it was sent to, to whom it came from, through the balancer at `to`. The
/// transport checksum stays right, since a sum does not mind the order.
#[inline(always)]
pub(crate) fn turn(frame: &mut [u8], layout: Layout, to: Mac) {
    let (head, rest) = frame.split_at_mut(L3);
    head.copy_within(0..6, 6);
    head[..6].copy_from_slice(&to.0);
    match layout.family {
        Family::V4 => {
            let (source, destination) = (ipv4::at::SOURCE, ipv4::at::DESTINATION);
            for at in 0..4 {
                rest.swap(source + at, destination + at);
            }
            rest[ipv4::at::TTL] = HOPS;
            rest[ipv4::at::CHECKSUM..source].fill(0);
            let checksum = Sum::default().bytes(&rest[..ipv4::LEN]).checksum();
            rest[ipv4::at::CHECKSUM..source].copy_from_slice(&checksum.to_be_bytes());
        }
        Family::V6 => {
            let (source, destination) = rest[ipv6::at::SOURCE..ipv6::LEN].split_at_mut(16);
            source.swap_with_slice(destination);
            rest[ipv6::at::HOP_LIMIT] = HOPS;
        }
    }
    let l4 = layout.l4();
    let (source, destination) = frame[l4..l4 + 4].split_at_mut(2);
    source.swap_with_slice(destination);
}

/// Turns a stamped request into its answer, sent at `cycles`.
#[inline(always)]
pub(crate) fn answer(frame: &mut [u8], layout: Layout, to: Mac, stamp: Stamp, cycles: u64) {
    turn(frame, layout, to);
    let new = Stamp { mark: REPLY, cycles, ..stamp };
    let at = layout.payload();
    frame[at..at + STAMP].copy_from_slice(&new.bytes());
    let mut delta = u64::from(!stamp.mark.to_be()) + u64::from(new.mark.to_be());
    for shift in [0, 32] {
        let [before, after] = [stamp.cycles, cycles].map(|cycles| (cycles >> shift) as u32);
        delta += u64::from(!before) + u64::from(after);
    }
    if layout.transport == Transport::Tcp {
        let flags = layout.l4() + tcp::at::FLAGS;
        let before = frame[flags];
        // A SYN is answered by a SYN with ACK.
        frame[flags] = before | tcp::flag::ACK;
        delta += u64::from(!u16::from(before).to_be()) + u64::from(u16::from(frame[flags]).to_be());
    }
    let at = layout.checksum();
    let field = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let checksum = match fold(u64::from(!field) + delta) {
        0 if layout.transport == Transport::Udp => 0xffff,
        checksum => checksum,
    };
    frame[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
}

/// Writes flags and numbers into a TCP segment of `len` bytes in all, and its checksum.
pub(crate) fn rewrite_segment(frame: &mut [u8], layout: Layout, segment: Segment, len: usize) {
    let l4 = layout.l4();
    frame[l4 + tcp::at::SEQUENCE..l4 + tcp::at::ACKNOWLEDGMENT]
        .copy_from_slice(&segment.sequence.to_be_bytes());
    frame[l4 + tcp::at::ACKNOWLEDGMENT..l4 + tcp::at::DATA_OFFSET]
        .copy_from_slice(&segment.acknowledgment.to_be_bytes());
    frame[l4 + tcp::at::FLAGS] = segment.flags;
    frame[l4 + tcp::at::CHECKSUM..l4 + tcp::at::CHECKSUM + 2].fill(0);
    let checksum = transport_sum(frame, L3, l4, layout.family, protocol::TCP, len).checksum();
    frame[l4 + tcp::at::CHECKSUM..l4 + tcp::at::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Sum of the pseudo header of the IP packet at `l3` and `len` bytes from `l4`: zero as a checksum if they verify.
pub(crate) fn transport_sum(
    frame: &[u8],
    l3: usize,
    l4: usize,
    family: Family,
    number: u8,
    len: usize,
) -> Sum {
    let sum = Sum::default();
    let sum = match family {
        Family::V4 => {
            let [source, destination] = [ipv4::at::SOURCE, ipv4::at::DESTINATION]
                .map(|at| Ipv4Addr::from(field::<4>(frame, l3 + at)));
            sum.pseudo_v4(source, destination, number, len as u16)
        }
        Family::V6 => {
            let [source, destination] = [ipv6::at::SOURCE, ipv6::at::DESTINATION]
                .map(|at| Ipv6Addr::from(field::<16>(frame, l3 + at)));
            sum.pseudo_v6(source, destination, number, len as u32)
        }
    };
    sum.bytes(frame.get(l4..l4 + len).unwrap_or_default())
}

/// `N` bytes from `at`, or zeroes where the frame ends before.
#[inline(always)]
pub(crate) fn field<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    frame.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[inline(always)]
pub(crate) fn be16(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(frame, at))
}

#[inline(always)]
pub(crate) fn be32(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(frame, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const TO: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn layouts() -> impl Strategy<Value = Layout> {
        let layout = |(family, transport)| Layout { family, transport };
        let families = prop_oneof![Just(Family::V4), Just(Family::V6)];
        (families, prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]).prop_map(layout)
    }

    /// An independent parser's word on addresses, ports, lengths and checksums.
    fn endpoints(frame: &[u8]) -> ((IpAddr, u16), (IpAddr, u16)) {
        let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
        let payload;
        let (from, to) = match packet.net.as_ref().expect("IP") {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.calc_header_checksum(), header.header_checksum);
                payload = ip.payload().payload.to_vec();
                (IpAddr::V4(header.source.into()), IpAddr::V4(header.destination.into()))
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header().to_header();
                payload = ip.payload().payload.to_vec();
                (IpAddr::V6(header.source.into()), IpAddr::V6(header.destination.into()))
            }
            other @ NetSlice::Arp(_) => panic!("{other:?}"),
        };
        let checksum = |calculated: u16, given: u16| assert_eq!(calculated, given, "{frame:02x?}");
        let ports = match (packet.transport.expect("a transport"), from, to) {
            (TransportSlice::Udp(udp), IpAddr::V4(a), IpAddr::V4(b)) => {
                let header = udp.to_header();
                checksum(
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload()).expect("sum"),
                    header.checksum,
                );
                (header.source_port, header.destination_port)
            }
            (TransportSlice::Udp(udp), IpAddr::V6(a), IpAddr::V6(b)) => {
                let header = udp.to_header();
                checksum(
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload()).expect("sum"),
                    header.checksum,
                );
                (header.source_port, header.destination_port)
            }
            (TransportSlice::Tcp(tcp), IpAddr::V4(a), IpAddr::V4(b)) => {
                let header = tcp.to_header();
                checksum(
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), tcp.payload()).expect("sum"),
                    header.checksum,
                );
                (header.source_port, header.destination_port)
            }
            (TransportSlice::Tcp(tcp), IpAddr::V6(a), IpAddr::V6(b)) => {
                let header = tcp.to_header();
                checksum(
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), tcp.payload()).expect("sum"),
                    header.checksum,
                );
                (header.source_port, header.destination_port)
            }
            other => panic!("{other:?}"),
        };
        assert!(!payload.is_empty());
        ((from, ports.0), (to, ports.1))
    }

    proptest! {
        #[test]
        fn requests_and_answers_agree_with_an_independent_parser(
            layout in layouts(), len in 60usize..1514, flow: u32, number: u32, cycles: u64, later: u64
        ) {
            let template = Template::stream(layout, len, tcp::flag::SYN, TO);
            prop_assert_eq!(template.len(), len.max(layout.shortest()));
            let stamp = Stamp { mark: REQUEST, flow, number, cycles };
            let mut frame = vec![0xee; template.len()];
            template.write(&mut frame, stamp);
            let service = (traffic::vip(layout.family), SERVICE_PORT);
            let client = traffic::client(flow, layout.family);
            prop_assert_eq!(endpoints(&frame), (client, service));
            prop_assert_eq!(Stamp::read(&frame[layout.payload()..]), Some(stamp));

            answer(&mut frame, layout, TO, stamp, later);
            prop_assert_eq!(endpoints(&frame), (service, client));
            let expected = Stamp { mark: REPLY, cycles: later, ..stamp };
            prop_assert_eq!(Stamp::read(&frame[layout.payload()..]), Some(expected));
        }

        #[test]
        fn segments_agree_with_an_independent_parser(
            v6: bool, flow: u32, sequence: u32, acknowledgment: u32, data in 0usize..40
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let layout = Layout { family, transport: Transport::Tcp };
            let template = Template::segment(family, data, WINDOW_TALK, TO);
            let mut frame = vec![0xee; template.len()];
            let segment = Segment { flags: tcp::flag::SYN, sequence, acknowledgment };
            template.write_segment(&mut frame, flow, segment);
            let service = (traffic::vip(family), SERVICE_PORT);
            let client = traffic::client(flow, family);
            prop_assert_eq!(endpoints(&frame), (client, service));
            prop_assert_eq!(be16(&frame, layout.l4() + WINDOW), WINDOW_TALK);

            turn(&mut frame, layout, TO);
            let back = Segment { flags: PSH | tcp::flag::ACK, sequence: acknowledgment, acknowledgment: sequence };
            rewrite_segment(&mut frame, layout, back, tcp::LEN + data);
            prop_assert_eq!(endpoints(&frame), (service, client));
        }
    }
}
