//! Translation between IPv4 and IPv6 headers, and between ICMP and ICMPv6 errors (RFC 7915), as far as it does not depend
//! on which addresses stand for which.

use super::{Malformed, be16, field, icmp, ipv4, ipv6};
use std::net::IpAddr;

/// RFC 7915 section 5.1: IPv4 packets up to this length, which IPv6 would carry everywhere, may be fragmented on their way.
const FRAGMENTABLE: usize = 1260;
/// RFC 8200 section 5: no IPv6 link carries less.
const LEAST_V6_MTU: u32 = 1280;
/// RFC 791: nor any IPv4 link.
const LEAST_V4_MTU: u32 = 68;
/// The IPv6 header's length beyond that of IPv4's.
const MORE: u32 = (ipv6::LEN - ipv4::LEN) as u32;

/// Options with routes of the sender's: loose and strict (RFC 791 section 3.1).
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// Why a packet is not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// RFC 7915 sections 4.1 and 5.1: "MUST be discarded", "MUST NOT be translated".
    #[error("its sender's route is not over")]
    SourceRoute,
}

/// Which part of a datagram a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub identification: u32,
    /// In units of 8 bytes.
    pub offset: u16,
    /// It is not the last one.
    pub more: bool,
}

/// What an IP header says in either family, but for the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub ipv6: bool,
    /// With ECN; IPv4 calls it the type of service.
    pub traffic_class: u8,
    pub hop_limit: u8,
    /// Of the payload. ICMP is ICMP of the family.
    pub protocol: u8,
    /// Options and extension headers included, in bytes.
    pub len: usize,
    /// What follows it, in bytes, by its own word: a quote may be cut short.
    pub payload: usize,
    /// It is a fragment; with IPv6 also if it is the only one (RFC 6946).
    pub part: Option<Part>,
}

impl Header {
    /// `packet` begins at an IP header.
    pub fn parse(packet: &[u8]) -> Result<Self, Untranslatable> {
        if packet.first().ok_or(Malformed::Truncated)? >> 4 == 4 {
            Self::v4(packet)
        } else {
            Self::v6(packet)
        }
    }

    fn v4(packet: &[u8]) -> Result<Self, Untranslatable> {
        let ip = ipv4::Ipv4::parse(packet, usize::MAX)?;
        let len = ip.header_len();
        if has_source_route(&packet[ipv4::LEN..len]) {
            return Err(Untranslatable::SourceRoute);
        }
        let word = be16(packet, ipv4::at::FRAGMENT);
        let part = ip.is_fragment().then(|| Part {
            identification: be16(packet, ipv4::at::IDENTIFICATION).into(),
            offset: word & 0x1fff,
            more: word & ipv4::MORE_FRAGMENTS != 0,
        });
        Ok(Self {
            ipv6: false,
            traffic_class: packet[ipv4::at::TOS],
            hop_limit: ip.ttl(),
            protocol: ip.protocol(),
            len,
            payload: ip.total_len() - len,
            part,
        })
    }

    fn v6(packet: &[u8]) -> Result<Self, Untranslatable> {
        let ip = ipv6::Ipv6::parse(packet, usize::MAX)?;
        let upper = ipv6::upper_layer(packet, ip.next_header())?;
        if has_segments_left(packet, ip.next_header()) {
            return Err(Untranslatable::SourceRoute);
        }
        let part = upper.fragment.then(|| {
            let header = upper.offset - ipv6::FRAGMENT_LEN;
            let word = be16(packet, header + 2);
            Part {
                identification: u32::from_be_bytes(field(packet, header + 4)),
                offset: word >> 3,
                more: word & 1 != 0,
            }
        });
        Ok(Self {
            ipv6: true,
            traffic_class: (be16(packet, 0) >> 4) as u8,
            hop_limit: ip.hop_limit(),
            protocol: upper.protocol,
            len: upper.offset,
            payload: ip.total_len().checked_sub(upper.offset).ok_or(Malformed::TotalLength)?,
            part,
        })
    }

    /// Length of the header that [`Header::emit`] writes in the given family, in bytes.
    pub fn len_in(&self, ipv6: bool) -> usize {
        match (ipv6, self.part) {
            (false, _) => ipv4::LEN,
            (true, None) => ipv6::LEN,
            (true, Some(_)) => ipv6::LEN + ipv6::FRAGMENT_LEN,
        }
    }

    /// How much longer the packet is in the other family, in bytes, counted without options and extension headers.
    pub fn growth(&self) -> i32 {
        let more = MORE.cast_signed();
        match (self.ipv6, self.part) {
            (true, _) => -more,
            (false, None) => more,
            (false, Some(_)) => more + ipv6::FRAGMENT_LEN as i32,
        }
    }

    /// Writes the header between these addresses, in their family (RFC 7915 sections 4.1, 5.1 and 5.1.1).
    /// `identification` is for an IPv4 packet that was no fragment and may become some.
    pub fn emit(
        &self,
        bytes: &mut [u8],
        ends: (IpAddr, IpAddr),
        identification: u16,
    ) -> Result<(), Malformed> {
        match ends {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = u16::try_from(ipv4::LEN + self.payload).map_err(|_| Malformed::TotalLength)?;
                let (identification, flags) = match self.part {
                    Some(part) => {
                        let more = if part.more { ipv4::MORE_FRAGMENTS } else { 0 };
                        (part.identification as u16, more | part.offset & 0x1fff)
                    }
                    None if usize::from(total) <= FRAGMENTABLE => (identification, 0),
                    None => (0, ipv4::DONT_FRAGMENT),
                };
                ipv4::emit(bytes, source, destination, self.protocol, self.hop_limit, total)?;
                bytes[ipv4::at::TOS] = self.traffic_class;
                bytes[ipv4::at::IDENTIFICATION..ipv4::at::FRAGMENT]
                    .copy_from_slice(&identification.to_be_bytes());
                bytes[ipv4::at::FRAGMENT..ipv4::at::TTL].copy_from_slice(&flags.to_be_bytes());
                ipv4::seal(&mut bytes[..ipv4::LEN]);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extension = self.len_in(true) - ipv6::LEN;
                let payload = u16::try_from(extension + self.payload).map_err(|_| Malformed::TotalLength)?;
                let next = if self.part.is_some() { ipv6::extension::FRAGMENT } else { self.protocol };
                if bytes.len() < ipv6::LEN + extension {
                    return Err(Malformed::Truncated);
                }
                ipv6::emit(bytes, source, destination, next, self.hop_limit, payload)?;
                let word = 6 << 12 | u16::from(self.traffic_class) << 4;
                bytes[..2].copy_from_slice(&word.to_be_bytes());
                if let Some(part) = self.part {
                    let header = &mut bytes[ipv6::LEN..ipv6::LEN + ipv6::FRAGMENT_LEN];
                    header[..2].copy_from_slice(&[self.protocol, 0]);
                    let word = part.offset << 3 | u16::from(part.more);
                    header[2..4].copy_from_slice(&word.to_be_bytes());
                    header[4..].copy_from_slice(&part.identification.to_be_bytes());
                }
            }
            _ => return Err(Malformed::Version),
        }
        Ok(())
    }
}

/// Whether IPv4 options name a router that the packet has not been to: "an unexpired source route option" (RFC 7915
/// section 4.1). Options that are broken are none.
fn has_source_route(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [1, ref rest @ ..] => options = rest,
            [kind, len, ref rest @ ..]
                if kind > 1 && usize::from(len) >= 2 && usize::from(len) <= rest.len() + 2 =>
            {
                // The pointer is beyond the option when the route is over.
                if SOURCE_ROUTES.contains(&kind)
                    && rest.first().is_some_and(|&pointer| len >= 3 && pointer <= len)
                {
                    return true;
                }
                options = &rest[usize::from(len) - 2..];
            }
            _ => return false,
        }
    }
}

/// Whether a routing header that [`ipv6::upper_layer`] went over says where the packet goes from here (RFC 8200
/// section 4.4).
fn has_segments_left(packet: &[u8], first: u8) -> bool {
    let (mut kind, mut at) = (first, ipv6::LEN);
    while let (
        ipv6::extension::HOP_BY_HOP | ipv6::extension::ROUTING | ipv6::extension::DESTINATION_OPTIONS,
        Some(&[next, len, _, left]),
    ) = (kind, packet.get(at..).and_then(|rest| rest.first_chunk()))
    {
        if kind == ipv6::extension::ROUTING && left != 0 {
            return true;
        }
        kind = next;
        at += 8 + 8 * usize::from(len);
    }
    false
}

/// Type, code and second word of an ICMP or ICMPv6 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    pub kind: u8,
    pub code: u8,
    pub rest: u32,
}

/// What an error about a packet that is too big is translated by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of the links to the next hops: towards who hears of it, and towards who complained.
    pub mtu_told: u32,
    pub mtu_about: u32,
    /// Of the packet that is quoted, header included.
    pub total_len: u32,
    /// It is a fragment, and has a header of its own for that in IPv6.
    pub fragment: bool,
}

impl Problem {
    const fn new(kind: u8, code: u8, rest: u32) -> Self {
        Self { kind, code, rest }
    }

    /// The ICMPv6 error that says what this ICMP error says; `None`: there is none (RFC 7915 section 4.2).
    #[must_use]
    pub fn to_v6(self, sizes: Sizes) -> Option<Self> {
        use icmp::{v4, v6};
        let unreachable = |code| Some(Self::new(v6::DESTINATION_UNREACHABLE, code, 0));
        match (self.kind, self.code) {
            // Net, host, source route, unknown and isolated ones, for this type of service: no route.
            (v4::DESTINATION_UNREACHABLE, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => unreachable(0),
            // Protocol: the next header is unrecognized.
            (v4::DESTINATION_UNREACHABLE, 2) => {
                Some(Self::new(v6::PARAMETER_PROBLEM, 1, ipv6::at::NEXT_HEADER as u32))
            }
            (v4::DESTINATION_UNREACHABLE, 3) => unreachable(4),
            (v4::DESTINATION_UNREACHABLE, v4::code::FRAGMENTATION_NEEDED) => {
                let mtu = match self.rest & 0xffff {
                    0 => plateau_below(sizes.total_len),
                    mtu => mtu,
                };
                let most = sizes.mtu_told.min(sizes.mtu_about.saturating_add(MORE)).min(mtu + MORE);
                Some(Self::new(v6::PACKET_TOO_BIG, 0, most.max(LEAST_V6_MTU)))
            }
            // Prohibited.
            (v4::DESTINATION_UNREACHABLE, 9 | 10 | 13 | 15) => unreachable(1),
            (v4::TIME_EXCEEDED, code) => Some(Self::new(v6::TIME_EXCEEDED, code, 0)),
            (v4::PARAMETER_PROBLEM, 0 | 2) => {
                let pointer = match self.rest >> 24 {
                    at @ 0..=1 => at,
                    2..=3 => 4,
                    8 => 7,
                    9 => 6,
                    12..=15 => 8,
                    16..=19 => 24,
                    _ => return None,
                };
                Some(Self::new(v6::PARAMETER_PROBLEM, 0, pointer))
            }
            _ => None,
        }
    }

    /// The ICMP error that says what this ICMPv6 error says (RFC 7915 section 5.2).
    #[must_use]
    pub fn to_v4(self, sizes: Sizes) -> Option<Self> {
        use icmp::{v4, v6};
        let unreachable = |code| Some(Self::new(v4::DESTINATION_UNREACHABLE, code, 0));
        match (self.kind, self.code) {
            // No route, beyond the scope, address unreachable: the host.
            (v6::DESTINATION_UNREACHABLE, 0 | 2 | 3) => unreachable(v4::code::HOST_UNREACHABLE),
            (v6::DESTINATION_UNREACHABLE, 1) => unreachable(10),
            (v6::DESTINATION_UNREACHABLE, 4) => unreachable(3),
            (v6::PACKET_TOO_BIG, _) => {
                let shorter = MORE + if sizes.fragment { ipv6::FRAGMENT_LEN as u32 } else { 0 };
                let mtu = self.rest.min(sizes.mtu_about).saturating_sub(shorter).min(sizes.mtu_told);
                let mtu = mtu.clamp(LEAST_V4_MTU, u16::MAX.into());
                Some(Self::new(v4::DESTINATION_UNREACHABLE, v4::code::FRAGMENTATION_NEEDED, mtu))
            }
            (v6::TIME_EXCEEDED, code) => Some(Self::new(v4::TIME_EXCEEDED, code, 0)),
            (v6::PARAMETER_PROBLEM, 0) => {
                let pointer = match self.rest {
                    at @ 0..=1 => at,
                    4..=5 => 2,
                    6 => 9,
                    7 => 8,
                    8..=23 => 12,
                    24..=39 => 16,
                    _ => return None,
                };
                Some(Self::new(v4::PARAMETER_PROBLEM, 0, pointer << 24))
            }
            // The next header is unrecognized: protocol unreachable.
            (v6::PARAMETER_PROBLEM, 1) => unreachable(2),
            _ => None,
        }
    }
}

/// RFC 1191 section 7: what the MTU probably is where a router says that a packet of `total_len` bytes is too long, and not
/// what would not be.
fn plateau_below(total_len: u32) -> u32 {
    const PLATEAUS: [u32; 10] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296, LEAST_V4_MTU];
    PLATEAUS.into_iter().find(|&mtu| mtu < total_len).unwrap_or(LEAST_V4_MTU)
}

/// How much of what an error quotes is the packet: behind it there may be other things (RFC 4884 section 4), which are not
/// translated. `rest` is the second word of the error, `quoted` all that follows that.
pub fn quoted_len(ipv6: bool, kind: u8, rest: u32, quoted: usize) -> usize {
    let has_length = if ipv6 {
        matches!(kind, icmp::v6::DESTINATION_UNREACHABLE | icmp::v6::TIME_EXCEEDED)
    } else {
        matches!(
            kind,
            icmp::v4::DESTINATION_UNREACHABLE | icmp::v4::TIME_EXCEEDED | icmp::v4::PARAMETER_PROBLEM
        )
    };
    // In words of 64 and of 32 bits.
    let length = if ipv6 { (rest >> 24) as usize * 8 } else { (rest >> 16 & 0xff) as usize * 4 };
    if has_length && length > 0 { length.min(quoted) } else { quoted }
}
