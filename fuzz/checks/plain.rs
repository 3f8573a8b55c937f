//! An idea of a good packet that shares no code with the product: slow, plain, and by the RFCs alone.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each includer uses its part of it"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const ETHERNET: usize = 14;
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// An IP packet whose header is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hops: u8,
    /// Of what follows the IP header and its extensions.
    pub protocol: u8,
    /// Where that begins.
    pub l4: usize,
    /// Where the packet ends; what follows is padding.
    pub total: usize,
    /// Part of a datagram that is in several.
    pub fragment: bool,
    /// The fragment is not the first one.
    pub later: bool,
}

/// What a checksum over the payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Good,
    Bad(&'static str),
    /// A fragment, or of a protocol without a checksum.
    Unknown,
}

pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The one's complement sum of RFC 1071, not inverted; of good bytes it is 0xffff.
pub fn sum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo header of RFC 9293 section 3.1 and RFC 8200 section 8.1.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u32 {
    let mut bytes = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    sum(0, &bytes).into()
}

impl Packet {
    /// The IP packet that `bytes` begins with.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::v4(bytes),
            Some(6) => Self::v6(bytes),
            _ => Err("no IP"),
        }
    }

    fn v4(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < 20 {
            return Err("half an IPv4 header");
        }
        let (l4, total) = (usize::from(bytes[0] & 15) * 4, usize::from(be16(bytes, 2)));
        if l4 < 20 || l4 > bytes.len() {
            return Err("IPv4 header length");
        }
        if total < l4 || total > bytes.len() {
            return Err("IPv4 total length");
        }
        if sum(0, &bytes[..l4]) != 0xffff {
            return Err("IPv4 header checksum");
        }
        let fragment = be16(bytes, 6) & 0x3fff;
        let address =
            |at: usize| IpAddr::from(Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]));
        Ok(Self {
            source: address(12),
            destination: address(16),
            hops: bytes[8],
            protocol: bytes[9],
            l4,
            total,
            fragment: fragment != 0,
            later: fragment & 0x1fff != 0,
        })
    }

    fn v6(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < 40 {
            return Err("half an IPv6 header");
        }
        let total = 40 + usize::from(be16(bytes, 4));
        if total > bytes.len() {
            return Err("IPv6 payload length");
        }
        let address = |at: usize| {
            let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("16 bytes");
            IpAddr::from(Ipv6Addr::from(octets))
        };
        let (mut protocol, mut l4, mut fragment, mut later) = (bytes[6], 40, false, false);
        // RFC 8200 section 4: hop-by-hop, routing, destination options; a fragment header ends the walk.
        for extensions in 0.. {
            let is_extension = matches!(protocol, 0 | 43 | 44 | 60);
            if !is_extension {
                break;
            }
            if extensions > 4 {
                return Err("too many extension headers");
            }
            let rest = &bytes[l4.min(total)..total];
            if rest.len() < 2 {
                return Err("half an extension header");
            }
            let len = if protocol == 44 { 8 } else { 8 + 8 * usize::from(rest[1]) };
            if rest.len() < len {
                return Err("extension header beyond the packet");
            }
            let (number, word) = (protocol, be16(rest, 2));
            protocol = rest[0];
            l4 += len;
            if number == 44 {
                // The two reserved bits mean nothing (section 4.5).
                fragment = word & 0xfff9 != 0;
                later = word & 0xfff8 != 0;
                break;
            }
        }
        Ok(Self {
            source: address(8),
            destination: address(24),
            hops: bytes[7],
            protocol,
            l4,
            total,
            fragment,
            later,
        })
    }

    /// Whether the transport header's lengths are possible.
    pub fn has_transport(&self, bytes: &[u8]) -> bool {
        let segment = &bytes[self.l4.min(self.total)..self.total];
        match self.protocol {
            UDP => segment.len() >= 8 && (8..=segment.len()).contains(&usize::from(be16(segment, 4))),
            TCP => segment.len() >= 20 && (20..=segment.len()).contains(&(usize::from(segment[12] >> 4) * 4)),
            _ => false,
        }
    }

    /// Source and destination port of TCP and UDP.
    pub fn ports(&self, bytes: &[u8]) -> (u16, u16) {
        (be16(bytes, self.l4), be16(bytes, self.l4 + 2))
    }

    /// What is behind the TCP or UDP header of a packet that [has one](Packet::has_transport).
    pub fn data<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.protocol == UDP {
            let len = usize::from(be16(bytes, self.l4 + 4));
            &bytes[self.l4 + 8..self.l4 + len]
        } else {
            let header = usize::from(bytes[self.l4 + 12] >> 4) * 4;
            &bytes[self.l4 + header..self.total]
        }
    }

    /// Lengths and checksum of the payload.
    pub fn payload(&self, bytes: &[u8]) -> Payload {
        if self.fragment {
            return Payload::Unknown;
        }
        let segment = &bytes[self.l4.min(self.total)..self.total];
        let good = |segment: &[u8], start: u32, what| {
            if sum(start, segment) == 0xffff { Payload::Good } else { Payload::Bad(what) }
        };
        let pseudo = |len| pseudo(self.source, self.destination, self.protocol, len);
        match self.protocol {
            TCP if !self.has_transport(bytes) => Payload::Bad("TCP header length"),
            TCP => good(segment, pseudo(segment.len()), "TCP checksum"),
            UDP if !self.has_transport(bytes) => Payload::Bad("UDP length"),
            UDP => {
                let datagram = &segment[..usize::from(be16(segment, 4))];
                match (be16(datagram, 6), self.source) {
                    // RFC 768: the sender made none. RFC 8200 section 8.1: it has to over IPv6.
                    (0, IpAddr::V4(_)) => Payload::Good,
                    (0, IpAddr::V6(_)) => Payload::Bad("UDP without a checksum over IPv6"),
                    _ => good(datagram, pseudo(datagram.len()), "UDP checksum"),
                }
            }
            ICMP | ICMPV6 if segment.len() < 8 => Payload::Bad("ICMP header"),
            ICMP => good(segment, 0, "ICMP checksum"),
            ICMPV6 => good(segment, pseudo(segment.len()), "ICMPv6 checksum"),
            _ => Payload::Unknown,
        }
    }

    /// Where the packet inside a tunnel begins; GUE has `gue_port`, and there is none if that is 0.
    pub fn inner(&self, bytes: &[u8], gue_port: u16) -> Option<usize> {
        let payload = bytes.get(self.l4..self.total)?;
        match self.protocol {
            4 | 41 => Some(self.l4),
            // RFC 2784: no checksum, version 0.
            47 if payload.len() >= 4 && be16(payload, 0) == 0 => Some(self.l4 + 4),
            UDP if gue_port != 0
                && !self.fragment
                && self.has_transport(bytes)
                && self.ports(bytes).1 == gue_port =>
            {
                // Variant 1 has IP's version where variant 0 has 00 (draft-ietf-intarea-gue section 3).
                Some(self.l4 + if payload.get(8)? >> 6 == 0 { 12 } else { 8 })
            }
            _ => None,
        }
    }
}

/// Every length and every checksum of a frame that must be right, tunnels included. ARP has neither.
pub fn verify(frame: &[u8], gue_port: u16) -> Result<(), &'static str> {
    if frame.len() < ETHERNET {
        return Err("half an Ethernet header");
    }
    match be16(frame, 12) {
        0x0806 => return Ok(()),
        0x0800 | 0x86dd => {}
        _ => return Err("neither IP nor ARP"),
    }
    let mut bytes = &frame[ETHERNET..];
    loop {
        let packet = Packet::parse(bytes)?;
        if let Payload::Bad(what) = packet.payload(bytes) {
            return Err(what);
        }
        match packet.inner(bytes, gue_port) {
            Some(at) => bytes = bytes[..packet.total].get(at..).ok_or("nothing in the tunnel")?,
            None => return Ok(()),
        }
    }
}

/// Makes the header checksum of the IPv4 packet that `bytes` begins with right, if there is one.
pub fn seal_v4(bytes: &mut [u8]) {
    let Some(len) = bytes.first().map(|first| usize::from(first & 15) * 4) else { return };
    if (20..=bytes.len()).contains(&len) {
        bytes[10..12].fill(0);
        let sum = !sum(0, &bytes[..len]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Makes the checksum of the TCP, UDP or ICMP payload right, if it can be told where it is.
pub fn seal(bytes: &mut [u8]) {
    if bytes.first().is_some_and(|first| first >> 4 == 4) {
        seal_v4(bytes);
    }
    let Ok(packet) = Packet::parse(bytes) else { return };
    let (at, start) = match packet.protocol {
        TCP => (16, true),
        UDP => (6, true),
        ICMP => (2, false),
        ICMPV6 => (2, true),
        _ => return,
    };
    let Some(segment) = bytes.get_mut(packet.l4..packet.total).filter(|segment| segment.len() >= at + 2)
    else {
        return;
    };
    segment[at..at + 2].fill(0);
    let start =
        if start { pseudo(packet.source, packet.destination, packet.protocol, segment.len()) } else { 0 };
    let mut checksum = !sum(start, segment);
    if packet.protocol == UDP && checksum == 0 {
        checksum = 0xffff;
    }
    segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
