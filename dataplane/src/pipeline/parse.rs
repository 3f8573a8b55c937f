//! First stage: validate headers once, build the key.

use crate::conn::Handle;
use crate::flow::{V4Key, V6Key};
use crate::packet::{Packet, RxChecksum};
use crate::rewrite::L3;
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{be16, ipv4, ipv6, protocol, tcp, udp};

/// What a packet of a flow is, after parsing and, later, the look-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parsed<K> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) candidate: Handle,
    /// Position in the burst.
    pub(super) at: u8,
    pub(super) tcp_flags: u8,
    /// Offset of the transport header in the frame.
    pub(super) l4: u16,
    /// Length of the frame.
    pub(super) bytes: u32,
}

/// What the first look at a frame says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    V4(Parsed<V4Key>),
    V6(Parsed<V6Key>),
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
    Bad(DropReason),
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

/// Looks at a frame that arrived on a port with the hardware address `mac`.
#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P, at: usize, mac: MacWord) -> Seen {
    let frame = packet.data();
    let Some(header) = frame.first_chunk::<{ ethernet::LEN }>() else {
        return Seen::Bad(DropReason::Truncated);
    };
    let destination = u64::from_le_bytes(crate::wire::field(header, 0)) & MAC_BITS;
    let ethertype = be16(header, 12);
    if destination != mac.0 {
        return elsewhere(packet, destination, ethertype);
    }
    let bytes = packet.frame_len();
    match ethertype {
        ethertype::IPV4 => v4(frame, bytes, at, packet.rx_checksum()),
        ethertype::IPV6 => v6(frame, bytes, at),
        ethertype::ARP => Seen::Arp,
        _ => Seen::Bad(DropReason::UnknownEthertype),
    }
}

/// A frame that is not addressed to the port: only requests for hardware addresses are of interest.
#[cold]
fn elsewhere<P: Packet>(packet: &P, destination: u64, ethertype: u16) -> Seen {
    if destination & 1 == 0 {
        return Seen::Bad(DropReason::NotOurMac);
    }
    match ethertype {
        ethertype::ARP => Seen::Arp,
        ethertype::IPV6 => match v6(packet.data(), packet.frame_len(), 0) {
            Seen::V6(_) => Seen::Bad(DropReason::Multicast),
            other => other,
        },
        ethertype::IPV4 => Seen::Bad(DropReason::Multicast),
        _ => Seen::Bad(DropReason::UnknownEthertype),
    }
}

#[inline(always)]
fn v4(frame: &[u8], frame_len: usize, at: usize, checked: RxChecksum) -> Seen {
    let bytes = &frame[L3..];
    let ip = match ipv4::Ipv4::parse(bytes, frame_len - L3) {
        Ok(ip) => ip,
        Err(error) => return Seen::Bad(DropReason::of_ip(error)),
    };
    let header_len = ip.header_len();
    let good = match checked {
        RxChecksum::Unknown => ipv4::checksum_ok(&bytes[..header_len]),
        RxChecksum::Ipv4Good => true,
        RxChecksum::Ipv4Bad => false,
    };
    if !good {
        return Seen::Bad(DropReason::IpChecksum);
    }
    // RFC 1812 section 5.3.7: loopback, "this network", multicast and reserved addresses are nobody's source.
    let Some(header) = bytes.first_chunk::<{ ipv4::LEN }>() else { return Seen::Bad(DropReason::Truncated) };
    if matches!(header[ipv4::at::SOURCE], 0 | 127 | 224..) {
        return Seen::Bad(DropReason::IpSource);
    }
    if ip.is_fragment() {
        return Seen::Bad(DropReason::Fragment);
    }
    let l4 = L3 + header_len;
    let segment = ip.total_len() - header_len;
    let number = ip.protocol();
    if number == protocol::ICMP {
        return Seen::Icmp { l4: l4 as u16, len: segment as u16 };
    }
    let (ports, tcp_flags) = match transport(frame, l4, segment, number) {
        Ok(found) => found,
        Err(reason) => return Seen::Bad(reason),
    };
    if ip.ttl() <= 1 {
        return Seen::Bad(DropReason::HopLimit);
    }
    let key = V4Key::from_headers(header, ports, number);
    Seen::V4(Parsed {
        key,
        hash: 0,
        candidate: Handle::NONE,
        at: at as u8,
        tcp_flags,
        l4: l4 as u16,
        bytes: frame_len as u32,
    })
}

#[inline(always)]
fn v6(frame: &[u8], frame_len: usize, at: usize) -> Seen {
    let bytes = &frame[L3..];
    let ip = match ipv6::Ipv6::parse(bytes, frame_len - L3) {
        Ok(ip) => ip,
        Err(error) => return Seen::Bad(DropReason::of_ip(error)),
    };
    let total = ip.total_len();
    let mut number = ip.next_header();
    let mut offset = ipv6::LEN;
    if number != protocol::TCP && number != protocol::UDP {
        let present = &bytes[..bytes.len().min(total)];
        match ipv6::upper_layer(present, number) {
            Ok(upper) if upper.fragment => return Seen::Bad(DropReason::Fragment),
            Ok(upper) => (number, offset) = (upper.protocol, upper.offset),
            Err(error) => return Seen::Bad(DropReason::of_ip(error)),
        }
    }
    let Some(header) = bytes.first_chunk::<{ ipv6::LEN }>() else { return Seen::Bad(DropReason::Truncated) };
    let l4 = L3 + offset;
    let segment = total - offset;
    if number == protocol::ICMPV6 {
        return Seen::Icmpv6 { l4: l4 as u16, len: segment as u16 };
    }
    // RFC 4291 section 2.7: a multicast address is nobody's source; section 2.5: nor are :: and ::1 on a link.
    let source_start = header[ipv6::at::SOURCE];
    if source_start == 0xff
        || (source_start == 0 && (ip.source().is_loopback() || ip.source().is_unspecified()))
    {
        return Seen::Bad(DropReason::IpSource);
    }
    let (ports, tcp_flags) = match transport(frame, l4, segment, number) {
        Ok(found) => found,
        Err(reason) => return Seen::Bad(reason),
    };
    if ip.hop_limit() <= 1 {
        return Seen::Bad(DropReason::HopLimit);
    }
    let key = V6Key::from_headers(header, ports, number);
    Seen::V6(Parsed {
        key,
        hash: 0,
        candidate: Handle::NONE,
        at: at as u8,
        tcp_flags,
        l4: l4 as u16,
        bytes: frame_len as u32,
    })
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
            Ok((crate::wire::field(header, 0), 0))
        }
        protocol::TCP => {
            let short = if segment < tcp::LEN { DropReason::TcpHeader } else { DropReason::Truncated };
            let header = bytes.first_chunk::<{ tcp::LEN }>().ok_or(short)?;
            let tcp = tcp::Tcp::parse(header, segment).map_err(|_| DropReason::TcpHeader)?;
            Ok((crate::wire::field(header, 0), tcp.flags()))
        }
        _ => Err(DropReason::UnknownProtocol),
    }
}
