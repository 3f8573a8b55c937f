//! First stage: validate headers once, build the key.

use crate::conn::Table;
use crate::flow::{FlowKey, V4Key, V6Key};
use crate::io::BURST;
use crate::packet::{Packet, RxChecksum};
use crate::rewrite::L3;
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::vlan::Tag;
use crate::wire::{be16, field, icmp, ipv4, ipv6, protocol, tcp, udp};
use arrayvec::ArrayVec;

/// What a packet of a flow is, after parsing. Half a cache line for IPv4.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parsed<K> {
    pub(super) key: K,
    pub(super) hash: u64,
    /// Position in the burst.
    pub(super) at: u8,
    pub(super) tcp_flags: u8,
    /// Offset of the transport header in the frame.
    pub(super) l4: u16,
    /// Length of the frame.
    pub(super) bytes: u32,
}

const _: () = assert!(size_of::<Parsed<V4Key>>() == 32);

/// A packet that is no part of a flow that could be forwarded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Other {
    Arp,
    /// ICMP for IPv4; offset of its header and its length.
    Icmp {
        l4: u16,
        len: u16,
    },
    /// ICMP for IPv6, likewise.
    Icmpv6 {
        l4: u16,
        len: u16,
    },
    /// An ICMP or ICMPv6 error about another packet, likewise.
    IcmpError {
        l4: u16,
        len: u16,
    },
    /// A fragment of a TCP segment or a UDP datagram.
    Fragment,
    /// Tagged with a priority, and of no VLAN.
    PriorityTag,
    Bad(DropReason),
}

/// A burst, sorted.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) v4: ArrayVec<Parsed<V4Key>, BURST>,
    pub(super) v6: ArrayVec<Parsed<V6Key>, BURST>,
    /// Position in the burst, and what is there.
    pub(super) others: ArrayVec<(u8, Other), BURST>,
}

/// A port's hardware address as the first 48 bits of a little-endian word.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MacWord(u64);

const MAC_BITS: u64 = (1 << 48) - 1;

impl MacWord {
    pub(super) fn new(mac: ethernet::Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// Looks at the frame at position `at` of a burst that arrived on a port with the hardware address `mac`.
#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P, at: usize, mac: MacWord, tables: Tables<'_>, sorted: &mut Sorted) {
    let frame = packet.data();
    let frame_len = packet.frame_len();
    // The usual case by constant offsets: a whole frame for us, with IPv4 without options and a UDP or TCP header.
    if let Some(head) = frame.first_chunk::<PLAIN_V4>()
        && u64::from_le_bytes(field(head, 0)) & MAC_BITS == mac.0
        && u32::from_le_bytes(field(head, ethernet::LEN - 2)) & PLAIN_MASK == PLAIN
    {
        // Whatever is unusual is looked at again below, one check after the other.
        if let Some((key, tcp_flags)) = plain_v4(head, frame, frame_len, packet.rx_checksum()) {
            let l4 = (L3 + ipv4::LEN) as u16;
            sorted.v4.push(Parsed::new(key, at, tcp_flags, l4, frame_len).hashed(tables.v4));
            return;
        }
    }
    match general(packet, at, mac) {
        Seen::V4(parsed) => sorted.v4.push(parsed.hashed(tables.v4)),
        Seen::V6(parsed) => sorted.v6.push(parsed.hashed(tables.v6)),
        Seen::Other(other) => sorted.others.push((at as u8, other)),
    }
}

/// Where the keys of a burst will be looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) v4: &'a Table<V4Key>,
    pub(super) v6: &'a Table<V6Key>,
}

impl<K: FlowKey> Parsed<K> {
    /// With the hash of its key, whose bucket is on its way into the cache from now on.
    #[inline(always)]
    pub(super) fn hashed(mut self, table: &Table<K>) -> Self {
        self.hash = table.hash(&self.key);
        table.prefetch(self.hash);
        self
    }

    /// The same packet, under another key.
    pub(super) fn with_key<L>(&self, key: L) -> Parsed<L> {
        let &Self { at, tcp_flags, l4, bytes, .. } = self;
        Parsed { key, hash: 0, at, tcp_flags, l4, bytes }
    }

    #[inline(always)]
    fn new(key: K, at: usize, tcp_flags: u8, l4: u16, frame_len: usize) -> Self {
        Self { key, hash: 0, at: at as u8, tcp_flags, l4, bytes: frame_len as u32 }
    }
}

/// EtherType of IPv4, then version 4 with a header of five words, as three bytes of a little-endian word.
const PLAIN: u32 = u32::from_le_bytes([(ethertype::IPV4 >> 8) as u8, ethertype::IPV4 as u8, 0x45, 0]);
const PLAIN_MASK: u32 = 0x00ff_ffff;

/// Ethernet, IPv4 without options, UDP.
const PLAIN_V4: usize = L3 + ipv4::LEN + udp::LEN;

/// A packet whose headers are those of `head`: its key and TCP flags; `None` if it needs a full look.
#[inline(always)]
fn plain_v4(
    head: &[u8; PLAIN_V4],
    frame: &[u8],
    frame_len: usize,
    checked: RxChecksum,
) -> Option<(V4Key, u8)> {
    const L4: usize = L3 + ipv4::LEN;
    let total = usize::from(be16(head, L3 + ipv4::at::TOTAL_LENGTH));
    let ip = head[L3..].first_chunk::<{ ipv4::LEN }>()?;
    let sum_good = match checked {
        RxChecksum::Unknown => ipv4::checksum_ok(ip),
        RxChecksum::Ipv4Good => true,
        RxChecksum::Ipv4Bad => false,
    };
    // One after the other: a branch that is never taken is cheaper than to gather what the checks say.
    if !sum_good {
        return None;
    }
    if L3 + total > frame_len || be16(ip, ipv4::at::FRAGMENT) & ipv4::MF_OR_OFFSET != 0 {
        return None;
    }
    // Not 0, 127 or 224 and above.
    let source = ip[ipv4::at::SOURCE];
    if source.wrapping_sub(1) >= 223 || source == 127 || ip[ipv4::at::TTL] <= 1 {
        return None;
    }
    match ip[ipv4::at::PROTOCOL] {
        protocol::UDP => {
            let len = usize::from(be16(head, L4 + udp::at::LENGTH));
            if len < udp::LEN || ipv4::LEN + len > total {
                return None;
            }
            Some((V4Key::from_headers(ip, field(head, L4), protocol::UDP), 0))
        }
        protocol::TCP => {
            let tcp = frame.get(L4..).and_then(|rest| rest.first_chunk::<{ tcp::LEN }>())?;
            let header_len = usize::from(tcp[tcp::at::DATA_OFFSET] >> 4) * 4;
            if header_len < tcp::LEN || ipv4::LEN + header_len > total {
                return None;
            }
            Some((V4Key::from_headers(ip, field(head, L4), protocol::TCP), tcp[tcp::at::FLAGS]))
        }
        _ => None,
    }
}

/// What a full look at a frame says.
enum Seen {
    V4(Parsed<V4Key>),
    V6(Parsed<V6Key>),
    Other(Other),
}

impl Seen {
    const fn bad(reason: DropReason) -> Self {
        Self::Other(Other::Bad(reason))
    }
}

/// Looks at any frame.
fn general<P: Packet>(packet: &P, at: usize, mac: MacWord) -> Seen {
    let frame = packet.data();
    let Some(header) = frame.first_chunk::<{ ethernet::LEN }>() else {
        return Seen::bad(DropReason::Truncated);
    };
    let destination =
        u64::from_le_bytes([header[0], header[1], header[2], header[3], header[4], header[5], 0, 0]);
    let ethertype = be16(header, 12);
    if destination != mac.0 {
        return elsewhere(packet, destination, ethertype);
    }
    let bytes = packet.frame_len();
    match ethertype {
        ethertype::IPV4 => v4(frame, bytes, at, packet.rx_checksum()),
        ethertype::IPV6 => v6(frame, bytes, at),
        ethertype::ARP => Seen::Other(Other::Arp),
        _ => tagged(frame),
    }
}

/// A frame for us that is none of IP and ARP: perhaps it is tagged, where no VLANs are expected.
#[cold]
fn tagged(frame: &[u8]) -> Seen {
    match Tag::parse(frame) {
        Ok(Tag::None) => Seen::bad(DropReason::UnknownEthertype),
        Ok(Tag::Priority) => Seen::Other(Other::PriorityTag),
        Ok(Tag::Vlan(_)) => Seen::bad(DropReason::VlanUnknown),
        Ok(Tag::Nested) => Seen::bad(DropReason::VlanNested),
        Err(_) => Seen::bad(DropReason::Truncated),
    }
}

/// A frame that is not addressed to the port: only requests for hardware addresses are of interest.
#[cold]
fn elsewhere<P: Packet>(packet: &P, destination: u64, ethertype: u16) -> Seen {
    if destination & 1 == 0 {
        return Seen::bad(DropReason::NotOurMac);
    }
    match ethertype {
        ethertype::ARP => Seen::Other(Other::Arp),
        ethertype::IPV6 => match v6(packet.data(), packet.frame_len(), 0) {
            Seen::V6(_) | Seen::Other(Other::Fragment | Other::IcmpError { .. }) => {
                Seen::bad(DropReason::Multicast)
            }
            other => other,
        },
        ethertype::IPV4 => Seen::bad(DropReason::Multicast),
        _ => tagged(packet.data()),
    }
}

fn v4(frame: &[u8], frame_len: usize, at: usize, checked: RxChecksum) -> Seen {
    let bytes = &frame[L3..];
    let ip = match ipv4::Ipv4::parse(bytes, frame_len - L3) {
        Ok(ip) => ip,
        Err(error) => return Seen::bad(DropReason::of_ip(error)),
    };
    let header_len = ip.header_len();
    let good = match checked {
        RxChecksum::Unknown => ipv4::checksum_ok(&bytes[..header_len]),
        RxChecksum::Ipv4Good => true,
        RxChecksum::Ipv4Bad => false,
    };
    if !good {
        return Seen::bad(DropReason::IpChecksum);
    }
    // RFC 1812 section 5.3.7: loopback, "this network", multicast and reserved addresses are nobody's source.
    let Some(header) = bytes.first_chunk::<{ ipv4::LEN }>() else { return Seen::bad(DropReason::Truncated) };
    if matches!(header[ipv4::at::SOURCE], 0 | 127 | 224..) {
        return Seen::bad(DropReason::IpSource);
    }
    if ip.is_fragment() {
        return fragment(ip.protocol(), ip.ttl());
    }
    let l4 = L3 + header_len;
    let segment = ip.total_len() - header_len;
    let number = ip.protocol();
    if number == protocol::ICMP {
        let (l4, len) = (l4 as u16, segment as u16);
        let error = frame.get(usize::from(l4)).is_some_and(|&kind| len > 0 && icmp::v4::is_error(kind));
        return Seen::Other(if error { Other::IcmpError { l4, len } } else { Other::Icmp { l4, len } });
    }
    let (ports, tcp_flags) = match transport(frame, l4, segment, number) {
        Ok(found) => found,
        Err(reason) => return Seen::bad(reason),
    };
    if ip.ttl() <= 1 {
        return Seen::bad(DropReason::HopLimit);
    }
    let key = V4Key::from_headers(header, ports, number);
    Seen::V4(Parsed::new(key, at, tcp_flags, l4 as u16, frame_len))
}

/// A fragment whose payload is of protocol `number`.
fn fragment(number: u8, hops: u8) -> Seen {
    match number {
        protocol::ICMP | protocol::ICMPV6 => Seen::bad(DropReason::IcmpFragment),
        protocol::TCP | protocol::UDP if hops <= 1 => Seen::bad(DropReason::HopLimit),
        protocol::TCP | protocol::UDP => Seen::Other(Other::Fragment),
        _ => Seen::bad(DropReason::Fragment),
    }
}

/// Whether the packet with a fragment header is all of its datagram (RFC 6946): then it is as any other. Not ICMPv6: RFC 6980
/// has neighbour discovery in fragments ignored.
fn is_whole(packet: &[u8], upper: ipv6::UpperLayer) -> bool {
    let word = be16(packet, upper.offset - ipv6::FRAGMENT_LEN + 2);
    word & !ipv6::FRAGMENT_RESERVED == 0 && upper.protocol != protocol::ICMPV6
}

/// RFC 4291 section 2.7: a multicast address is nobody's source; section 2.5: nor are :: and ::1 on a link, nor IPv4-mapped
/// addresses, by which keys name IPv4 addresses.
#[inline(always)]
fn is_nobody(header: &[u8; ipv6::LEN], ip: ipv6::Ipv6<'_>) -> bool {
    let start = header[ipv6::at::SOURCE];
    start == 0xff || (start == 0 && is_special(ip.source()))
}

fn is_special(source: std::net::Ipv6Addr) -> bool {
    source.is_loopback() || source.is_unspecified() || source.to_ipv4_mapped().is_some()
}

#[inline(always)]
fn v6(frame: &[u8], frame_len: usize, at: usize) -> Seen {
    let bytes = &frame[L3..];
    let ip = match ipv6::Ipv6::parse(bytes, frame_len - L3) {
        Ok(ip) => ip,
        Err(error) => return Seen::bad(DropReason::of_ip(error)),
    };
    let total = ip.total_len();
    let mut number = ip.next_header();
    let mut offset = ipv6::LEN;
    if number != protocol::TCP && number != protocol::UDP {
        let present = &bytes[..bytes.len().min(total)];
        match ipv6::upper_layer(present, number) {
            Ok(upper) if upper.fragment && !is_whole(present, upper) => {
                return match bytes.first_chunk() {
                    Some(header) if is_nobody(header, ip) => Seen::bad(DropReason::IpSource),
                    _ => fragment(upper.protocol, ip.hop_limit()),
                };
            }
            Ok(upper) => (number, offset) = (upper.protocol, upper.offset),
            Err(error) => return Seen::bad(DropReason::of_ip(error)),
        }
    }
    let Some(header) = bytes.first_chunk::<{ ipv6::LEN }>() else { return Seen::bad(DropReason::Truncated) };
    let l4 = L3 + offset;
    let segment = total - offset;
    if number == protocol::ICMPV6 {
        let (l4, len) = (l4 as u16, segment as u16);
        let error = frame.get(usize::from(l4)).is_some_and(|&kind| len > 0 && icmp::v6::is_error(kind));
        return Seen::Other(if error { Other::IcmpError { l4, len } } else { Other::Icmpv6 { l4, len } });
    }
    if is_nobody(header, ip) {
        return Seen::bad(DropReason::IpSource);
    }
    let (ports, tcp_flags) = match transport(frame, l4, segment, number) {
        Ok(found) => found,
        Err(reason) => return Seen::bad(reason),
    };
    if ip.hop_limit() <= 1 {
        return Seen::bad(DropReason::HopLimit);
    }
    let key = V6Key::from_headers(header, ports, number);
    Seen::V6(Parsed::new(key, at, tcp_flags, l4 as u16, frame_len))
}

/// Ports, and the flags if it is TCP, of the transport header at `l4`, whose segment is `segment` bytes long.
#[inline(always)]
fn transport(frame: &[u8], l4: usize, segment: usize, number: u8) -> Result<([u8; 4], u8), DropReason> {
    let bytes = frame.get(l4..).ok_or(DropReason::Truncated)?;
    match number {
        protocol::UDP => {
            let short = if segment < udp::LEN { DropReason::UdpLength } else { DropReason::Truncated };
            let header = bytes.first_chunk::<{ udp::LEN }>().ok_or(short)?;
            udp::Udp::parse(header, segment).map_err(|_| DropReason::UdpLength)?;
            Ok((field(header, 0), 0))
        }
        protocol::TCP => {
            let short = if segment < tcp::LEN { DropReason::TcpHeader } else { DropReason::Truncated };
            let header = bytes.first_chunk::<{ tcp::LEN }>().ok_or(short)?;
            let tcp = tcp::Tcp::parse(header, segment).map_err(|_| DropReason::TcpHeader)?;
            Ok((field(header, 0), tcp.flags()))
        }
        _ => Err(DropReason::UnknownProtocol),
    }
}
