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

    /// How long a packet of this kind may be that must not exceed `mtu` in the other family, both in bytes; options and
    /// extension headers do not count.
    pub fn size_before(&self, mtu: usize) -> usize {
        let fragment = if self.part.is_some() { ipv6::FRAGMENT_LEN } else { 0 };
        if self.ipv6 { mtu + MORE as usize } else { mtu.saturating_sub(MORE as usize + fragment) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4Header, Ipv6Header};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const V4: (IpAddr, IpAddr) =
        (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    const V6: (IpAddr, IpAddr) =
        (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
    const WIDE: Sizes = Sizes { mtu_told: 9000, mtu_about: 9000, total_len: 1500, fragment: false };

    fn written(header: &Header, ipv6: bool) -> Vec<u8> {
        let mut bytes = vec![0xee; header.len_in(ipv6) + header.payload];
        header.emit(&mut bytes, if ipv6 { V6 } else { V4 }, 77).unwrap();
        bytes
    }

    fn problem(kind: u8, code: u8, rest: u32) -> Problem {
        Problem { kind, code, rest }
    }

    proptest! {
        /// There and back is the same, in what both families can say.
        #[test]
        fn translation_is_undone_by_translation(
            traffic_class: u8, hop_limit: u8, protocol in prop_oneof![Just(6u8), Just(17)], payload in 0usize..3000,
            part: Option<(u16, u16, bool)>, start_v6: bool,
        ) {
            let part = part.map(|(identification, offset, more)| Part {
                identification: identification.into(),
                offset: (offset & 0x1fff).max(1),
                more,
            });
            let mut header = Header { ipv6: start_v6, traffic_class, hop_limit, protocol, len: 0, payload, part };
            header.len = header.len_in(start_v6);
            let first = written(&header, start_v6);
            prop_assert_eq!(Header::parse(&first), Ok(header));
            let other = written(&header, !start_v6);
            let seen = Header::parse(&other).unwrap();
            prop_assert_eq!(seen, Header { ipv6: !start_v6, len: header.len_in(!start_v6), ..header });
            // A fragment header may be there or not with IPv6.
            let spare = if start_v6 && part.is_some() { ipv6::FRAGMENT_LEN } else { 0 };
            prop_assert_eq!(header.size_before(other.len()) + spare, first.len());
            prop_assert_eq!(written(&seen, start_v6), first);
        }

        #[test]
        fn an_independent_parser_agrees(traffic_class: u8, hop_limit: u8, payload in 0usize..1500, fragment: bool) {
            let part = fragment.then_some(Part { identification: 0x1234_abcd, offset: 5, more: true });
            let header = Header { ipv6: true, traffic_class, hop_limit, protocol: 17, len: 40, payload, part };
            let bytes = written(&header, false);
            let (v4, _) = Ipv4Header::from_slice(&bytes).unwrap();
            prop_assert_eq!(v4.header_checksum, v4.calc_header_checksum());
            prop_assert_eq!((v4.time_to_live, usize::from(v4.total_len)), (hop_limit, 20 + payload));
            prop_assert_eq!(v4.dscp.value() << 2 | v4.ecn.value(), traffic_class);
            // Atomic beyond what IPv6 carries everywhere.
            prop_assert_eq!(v4.dont_fragment, !fragment && payload > 1240);
            let identification = if fragment { 0xabcd } else if v4.dont_fragment { 0 } else { 77 };
            prop_assert_eq!(v4.identification, identification);
            let bytes = written(&header, true);
            let (v6, rest) = Ipv6Header::from_slice(&bytes).unwrap();
            prop_assert_eq!((v6.traffic_class, v6.flow_label.value(), v6.hop_limit), (traffic_class, 0, hop_limit));
            prop_assert_eq!((v6.next_header.0, rest.len()), (if fragment { 44 } else { 17 }, v6.payload_length.into()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool, kind: u8, code: u8, rest: u32) {
            if let Some(first) = bytes.first_mut() {
                *first = if v6 { 0x60 } else { 0x40 | *first & 0xf };
            }
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert!(header.len <= bytes.len());
            }
            let problem = problem(kind, code, rest);
            if let Some(told) = problem.to_v6(WIDE) {
                prop_assert!(icmp::v6::is_error(told.kind));
            }
            if let Some(told) = problem.to_v4(WIDE) {
                prop_assert!(icmp::v4::is_error(told.kind));
            }
            prop_assert!(quoted_len(v6, kind, rest, bytes.len()) <= bytes.len());
        }
    }

    /// RFC 7915 section 4.2.
    #[test]
    fn icmp_as_icmpv6() {
        let expected = [
            ((3, 0), Some((1, 0))),
            ((3, 1), Some((1, 0))),
            ((3, 2), Some((4, 1))),
            ((3, 3), Some((1, 4))),
            ((3, 4), Some((2, 0))),
            ((3, 5), Some((1, 0))),
            ((3, 6), Some((1, 0))),
            ((3, 7), Some((1, 0))),
            ((3, 8), Some((1, 0))),
            ((3, 9), Some((1, 1))),
            ((3, 10), Some((1, 1))),
            ((3, 11), Some((1, 0))),
            ((3, 12), Some((1, 0))),
            ((3, 13), Some((1, 1))),
            ((3, 14), None),
            ((3, 15), Some((1, 1))),
            ((3, 16), None),
            ((4, 0), None),
            ((5, 1), None),
            ((11, 0), Some((3, 0))),
            ((11, 1), Some((3, 1))),
            ((12, 0), Some((4, 0))),
            ((12, 1), None),
            ((12, 2), Some((4, 0))),
        ];
        for ((kind, code), told) in expected {
            let said = problem(kind, code, 0).to_v6(WIDE);
            assert_eq!(said.map(|said| (said.kind, said.code)), told, "{kind}/{code}");
        }
        assert_eq!(problem(3, 2, 0).to_v6(WIDE).unwrap().rest, 6);
        // Figure 3.
        let pointers = [
            (0, Some(0)),
            (1, Some(1)),
            (2, Some(4)),
            (3, Some(4)),
            (4, None),
            (7, None),
            (8, Some(7)),
            (9, Some(6)),
            (10, None),
            (11, None),
            (12, Some(8)),
            (15, Some(8)),
            (16, Some(24)),
            (19, Some(24)),
            (20, None),
        ];
        for (at, told) in pointers {
            assert_eq!(problem(12, 0, at << 24).to_v6(WIDE).map(|said| said.rest), told, "{at}");
        }
    }

    /// RFC 7915 section 5.2.
    #[test]
    fn icmpv6_as_icmp() {
        let expected = [
            ((1, 0), Some((3, 1))),
            ((1, 1), Some((3, 10))),
            ((1, 2), Some((3, 1))),
            ((1, 3), Some((3, 1))),
            ((1, 4), Some((3, 3))),
            ((1, 5), None),
            ((2, 0), Some((3, 4))),
            ((3, 0), Some((11, 0))),
            ((3, 1), Some((11, 1))),
            ((4, 0), Some((12, 0))),
            ((4, 1), Some((3, 2))),
            ((4, 2), None),
            ((100, 0), None),
        ];
        for ((kind, code), told) in expected {
            let said = problem(kind, code, 0).to_v4(WIDE);
            assert_eq!(said.map(|said| (said.kind, said.code)), told, "{kind}/{code}");
        }
        // Figure 6.
        let pointers = [
            (0, Some(0)),
            (1, Some(1)),
            (2, None),
            (3, None),
            (4, Some(2)),
            (5, Some(2)),
            (6, Some(9)),
            (7, Some(8)),
            (8, Some(12)),
            (23, Some(12)),
            (24, Some(16)),
            (39, Some(16)),
            (40, None),
        ];
        for (at, told) in pointers {
            assert_eq!(problem(4, 0, at).to_v4(WIDE).map(|said| said.rest >> 24), told, "{at}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_other_family() {
        let to_v6 = |mtu, sizes| problem(3, 4, mtu).to_v6(sizes).unwrap().rest;
        assert_eq!(to_v6(1400, WIDE), 1420);
        assert_eq!(to_v6(1000, WIDE), 1280, "no IPv6 link has less");
        assert_eq!(to_v6(1400, Sizes { mtu_told: 1300, ..WIDE }), 1300);
        assert_eq!(to_v6(1400, Sizes { mtu_about: 1290, ..WIDE }), 1310);
        // RFC 1191 section 7: the router does not say.
        assert_eq!(to_v6(0, WIDE), 1512);
        assert_eq!(to_v6(0, Sizes { total_len: 1492, ..WIDE }), 1280);
        let to_v4 = |mtu, sizes| problem(2, 0, mtu).to_v4(sizes).unwrap().rest;
        assert_eq!(to_v4(1400, WIDE), 1380);
        assert_eq!(to_v4(1400, Sizes { fragment: true, ..WIDE }), 1372);
        assert_eq!(to_v4(1400, Sizes { mtu_told: 1300, ..WIDE }), 1300);
        assert_eq!(to_v4(1400, Sizes { mtu_about: 1310, ..WIDE }), 1290);
        assert_eq!(to_v4(u32::MAX, Sizes { mtu_told: 9000, mtu_about: u32::MAX, ..WIDE }), 9000);
        assert_eq!(to_v4(5, WIDE), 68);
    }

    #[test]
    fn what_is_behind_a_quote_is_no_part_of_it() {
        assert_eq!(quoted_len(false, 11, 32 << 16, 200), 128);
        assert_eq!(quoted_len(true, 3, 16 << 24, 200), 128);
        assert_eq!(quoted_len(true, 3, 16 << 24, 100), 100);
        assert_eq!(quoted_len(true, 2, 1280, 200), 200);
        assert_eq!(quoted_len(false, 3, 1400, 200), 200);
    }

    #[test]
    fn routes_of_the_senders_are_noticed_until_they_are_over() {
        let options = [
            (&[][..], false),
            (&[131, 7, 4, 1, 2, 3, 4, 0], true),
            (&[131, 7, 8, 1, 2, 3, 4, 0], false),
            (&[1, 137, 7, 4, 1, 2, 3, 4], true),
            // Record route; then a strict one.
            (&[7, 3, 4, 1, 137, 7, 4, 9, 9, 9, 9, 0], true),
            (&[0, 131, 7, 4], false),
            (&[131, 9, 4, 0], false),
        ];
        for (options, routed) in options {
            assert_eq!(has_source_route(options), routed, "{options:?}");
        }
        let header = Header {
            ipv6: true,
            traffic_class: 0,
            hop_limit: 9,
            protocol: 17,
            len: 40,
            payload: 8,
            part: None,
        };
        let mut packet = written(&header, true);
        packet[6] = 0;
        // Hop-by-hop options, then a routing header.
        packet.splice(40..40, [43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]);
        packet[5] += 16;
        let seen = Header::parse(&packet).unwrap();
        assert_eq!((seen.len, seen.payload, seen.protocol), (56, 8, 17));
        packet[51] = 1;
        assert_eq!(Header::parse(&packet), Err(Untranslatable::SourceRoute));
    }
}
