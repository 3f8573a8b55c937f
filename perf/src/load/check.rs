//! What a packet that comes back must look like, down to its checksums, and which backend its flow belongs to.

use super::fragment::FRAGMENT_MARK;
use super::frame::{self, HOPS, L3, Layout, REPLY, Stamp, Transport, be16, field};
use super::world::{Mode, Role, World};
use crate::traffic::{self, Family, SERVICE_PORT};
use dataplane::wire::ethernet::{Ethernet, Mac, ethertype};
use dataplane::wire::{ipv4, ipv6, protocol, udp};
use serde::Serialize;
use std::net::IpAddr;

/// Why a packet is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Hardware addresses: not from the balancer, or not to whom it should go.
    Ethernet,
    /// Not the IP addresses that the mode demands.
    Address,
    /// Not the ports that the mode demands.
    Port,
    /// The IPv4 header's checksum.
    HeaderChecksum,
    /// The checksum of UDP or TCP.
    TransportChecksum,
    /// Lengths that contradict each other or the frame, or a hop limit that went up.
    Header,
    /// Another backend than before.
    Backend,
}

/// Packets by what was wrong with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    pub(crate) ethernet: u64,
    pub(crate) address: u64,
    pub(crate) port: u64,
    pub(crate) header_checksum: u64,
    pub(crate) transport_checksum: u64,
    pub(crate) header: u64,
    pub(crate) other_backend: u64,
}

impl Faults {
    pub(crate) fn count(&mut self, fault: Fault) {
        *match fault {
            Fault::Ethernet => &mut self.ethernet,
            Fault::Address => &mut self.address,
            Fault::Port => &mut self.port,
            Fault::HeaderChecksum => &mut self.header_checksum,
            Fault::TransportChecksum => &mut self.transport_checksum,
            Fault::Header => &mut self.header,
            Fault::Backend => &mut self.other_backend,
        } += 1;
    }

    pub(crate) fn total(&self) -> u64 {
        self.ethernet
            + self.address
            + self.port
            + self.header_checksum
            + self.transport_checksum
            + self.header
            + self.other_backend
    }
}

/// A flow that has not shown its backend yet.
const UNKNOWN: u8 = u8::MAX;

/// Checks packets against the scene, and remembers each flow's backend.
#[derive(Debug)]
pub(crate) struct Checker {
    family: Family,
    mode: Mode,
    backend_port: u16,
    /// By flow.
    backends: Vec<u8>,
}

/// Offset of the IP packet that the balancer was given, in a received frame, and where its transport header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) l3: usize,
    pub(crate) l4: usize,
    pub(crate) protocol: u8,
    /// One fragment of several; not the first, if there is an offset.
    pub(crate) fragment: bool,
    pub(crate) offset: bool,
}

impl Inner {
    pub(crate) fn transport(&self) -> Option<Transport> {
        match self.protocol {
            protocol::UDP => Some(Transport::Udp),
            protocol::TCP => Some(Transport::Tcp),
            _ => None,
        }
    }

    /// Offset of the data after the transport header, if there is one.
    pub(crate) fn payload(&self) -> Option<usize> {
        if self.offset {
            return Some(self.l4);
        }
        Some(
            self.l4
                + match self.transport()? {
                    Transport::Udp => udp::LEN,
                    Transport::Tcp => dataplane::wire::tcp::LEN,
                },
        )
    }
}

/// IPv6 fragment header (RFC 8200 section 4.5).
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const FRAGMENT_LEN: usize = 8;
/// IP in IP (RFC 2003, RFC 2473), and GRE (RFC 2784).
const IPIP: u8 = 4;
const IPV6_IN: u8 = 41;
const GRE: u8 = 47;
const GRE_LEN: usize = 4;
/// GUE (draft-ietf-intarea-gue): its port, and the header of variant 0 (variant 1 has none).
const GUE_PORT: u16 = 6080;
const GUE_LEN: usize = 4;

/// Finds the packet's headers at `l3`, of the version that its first nibble names.
pub(crate) fn headers(frame: &[u8], l3: usize) -> Option<Inner> {
    let first = *frame.get(l3)?;
    match first >> 4 {
        4 => {
            let fragment = be16(frame, l3 + ipv4::at::FRAGMENT) & ipv4::MF_OR_OFFSET;
            Some(Inner {
                l3,
                l4: l3 + usize::from(first & 0x0f) * 4,
                protocol: *frame.get(l3 + ipv4::at::PROTOCOL)?,
                fragment: fragment != 0,
                offset: fragment & 0x1fff != 0,
            })
        }
        6 => {
            let next = *frame.get(l3 + ipv6::at::NEXT_HEADER)?;
            let l4 = l3 + ipv6::LEN;
            if next != FRAGMENT {
                return Some(Inner { l3, l4, protocol: next, fragment: false, offset: false });
            }
            let offset = be16(frame, l4 + 2) & !7 != 0;
            Some(Inner { l3, l4: l4 + FRAGMENT_LEN, protocol: *frame.get(l4)?, fragment: true, offset })
        }
        _ => None,
    }
}

/// The packet in the tunnel, and the outer headers.
pub(crate) fn decapsulate(frame: &[u8], mode: Mode) -> Option<(Inner, Inner)> {
    let outer = headers(frame, L3)?;
    let l3 = match (mode, outer.protocol) {
        (Mode::Ipip, IPIP | IPV6_IN) => outer.l4,
        (Mode::Gre, GRE) => outer.l4 + GRE_LEN,
        (Mode::Gue, protocol::UDP) if be16(frame, outer.l4 + 2) == GUE_PORT => {
            let data = outer.l4 + udp::LEN;
            // The version of the IP header tells variant 1 from variant 0, whose first two bits are zero.
            data + if *frame.get(data)? >> 6 == 0 { GUE_LEN } else { 0 }
        }
        _ => return None,
    };
    Some((headers(frame, l3)?, outer))
}

impl Checker {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            family: world.scene.family,
            mode: world.scene.mode,
            backend_port: world.backend_port(),
            backends: vec![UNKNOWN; world.scene.flows as usize],
        }
    }

    /// Checks a packet of `flow` (of the numbered flows, if `numbered`: others belong to no backend in particular).
    pub(crate) fn check(
        &mut self,
        frame: &[u8],
        world: &World,
        balancer: Mac,
        flow: u32,
        reply: bool,
        numbered: bool,
    ) -> Result<(), Fault> {
        let ethernet = Ethernet::parse(frame).map_err(|_| Fault::Header)?;
        let role = world.role(ethernet.destination()).ok_or(Fault::Ethernet)?;
        if ethernet.source() != balancer {
            return Err(Fault::Ethernet);
        }
        let inner = if self.mode.is_tunnel() {
            let (inner, outer) = decapsulate(frame, self.mode).ok_or(Fault::Header)?;
            let Role::Backend(n) = role else { return Err(Fault::Ethernet) };
            self.check_outer(frame, &outer, n)?;
            inner
        } else {
            headers(frame, L3).ok_or(Fault::Header)?
        };
        let len = check_ip(frame, &inner, self.family)?;
        let family = self.family;
        let client = traffic::client(flow, family);
        let service = (traffic::vip(family), SERVICE_PORT);
        let (source, destination) = addresses(frame, inner.l3, family);
        let ports = (!inner.offset).then(|| (be16(frame, inner.l4), be16(frame, inner.l4 + 2)));
        let differ = |ports: Option<(u16, u16)>, source: Option<u16>, destination: u16| {
            ports.is_some_and(|(from, to)| source.is_some_and(|source| from != source) || to != destination)
        };
        let backend = match (role, reply, self.mode) {
            (Role::Gateway, false, Mode::Echo) | (Role::Backend(_), false, Mode::Dsr) => {
                if source != client.0 || destination != service.0 {
                    return Err(Fault::Address);
                }
                if differ(ports, Some(client.1), service.1) {
                    return Err(Fault::Port);
                }
                if let Role::Backend(n) = role { Some(n) } else { None }
            }
            (Role::Backend(n), false, Mode::Ipip | Mode::Gue | Mode::Gre) => {
                if source != client.0 || destination != service.0 {
                    return Err(Fault::Address);
                }
                if differ(ports, Some(client.1), service.1) {
                    return Err(Fault::Port);
                }
                Some(n)
            }
            (Role::Backend(n), false, Mode::Nat | Mode::FullNat) => {
                let full = self.mode == Mode::FullNat;
                if destination != traffic::backend(n, family) || (source == client.0) == full {
                    return Err(Fault::Address);
                }
                if differ(ports, (!full).then_some(client.1), self.backend_port) {
                    return Err(Fault::Port);
                }
                Some(n)
            }
            (Role::Gateway, true, Mode::Nat | Mode::FullNat) => {
                if source != service.0 || destination != client.0 {
                    return Err(Fault::Address);
                }
                if differ(ports, Some(service.1), client.1) {
                    return Err(Fault::Port);
                }
                None
            }
            _ => return Err(Fault::Ethernet),
        };
        check_transport(frame, &inner, family, len)?;
        match (backend, self.backends.get_mut(flow as usize)) {
            (Some(n), Some(known)) if numbered => {
                if *known != UNKNOWN && *known != n {
                    return Err(Fault::Backend);
                }
                *known = n;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The outer headers: to the backend, and with right checksums.
    fn check_outer(&self, frame: &[u8], outer: &Inner, n: u8) -> Result<(), Fault> {
        // The generator's backends have addresses of the service's family.
        let len = check_ip(frame, outer, self.family)?;
        if addresses(frame, outer.l3, self.family).1 != traffic::backend(n, self.family) {
            return Err(Fault::Address);
        }
        let no_checksum = be16(frame, outer.l4 + udp::at::CHECKSUM) == 0;
        if outer.protocol != protocol::UDP || no_checksum {
            return Ok(());
        }
        check_transport(frame, outer, self.family, len)
    }

    /// Flows whose backend is known.
    pub(crate) fn known(&self) -> usize {
        self.backends.iter().filter(|&&n| n != UNKNOWN).count()
    }
}

fn addresses(frame: &[u8], l3: usize, family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (
            field::<4>(frame, l3 + ipv4::at::SOURCE).into(),
            field::<4>(frame, l3 + ipv4::at::DESTINATION).into(),
        ),
        Family::V6 => (
            field::<16>(frame, l3 + ipv6::at::SOURCE).into(),
            field::<16>(frame, l3 + ipv6::at::DESTINATION).into(),
        ),
    }
}

/// The IP header; returns the length of what follows it, fragment header not counted.
fn check_ip(frame: &[u8], inner: &Inner, family: Family) -> Result<usize, Fault> {
    let present = frame.len().saturating_sub(inner.l3);
    let kind = if family == Family::V4 { ethertype::IPV4 } else { ethertype::IPV6 };
    if inner.l3 == L3 && be16(frame, 12) != kind {
        return Err(Fault::Header);
    }
    let header = frame.get(inner.l3..).unwrap_or_default();
    let (total, hops) = match family {
        Family::V4 => {
            let ip = ipv4::Ipv4::parse(header, present).map_err(|_| Fault::Header)?;
            if !ipv4::checksum_ok(&header[..ip.header_len()]) {
                return Err(Fault::HeaderChecksum);
            }
            (ip.total_len(), ip.ttl())
        }
        Family::V6 => {
            let ip = ipv6::Ipv6::parse(header, present).map_err(|_| Fault::Header)?;
            (ip.total_len(), header[ipv6::at::HOP_LIMIT])
        }
    };
    // An outer header has a hop limit of its own.
    if hops == 0 || hops > HOPS && inner.protocol != IPIP {
        return Err(Fault::Header);
    }
    (inner.l3 + total).checked_sub(inner.l4).ok_or(Fault::Header)
}

/// The transport checksum over all that the packet has. The fragments of a datagram are checked by the first: the
/// generator repeats its stamp at the start of each, but for the mark, and fills the rest with zeroes: their sum is known.
fn check_transport(frame: &[u8], inner: &Inner, family: Family, len: usize) -> Result<(), Fault> {
    if inner.fragment {
        return check_fragment(frame, inner, family, len);
    }
    let wrong = match inner.transport() {
        Some(Transport::Udp) => {
            usize::from(be16(frame, inner.l4 + udp::at::LENGTH)) != len
                || be16(frame, inner.l4 + udp::at::CHECKSUM) == 0
                || frame::transport_sum(frame, inner.l3, inner.l4, family, protocol::UDP, len).checksum() != 0
        }
        Some(Transport::Tcp) => {
            frame::transport_sum(frame, inner.l3, inner.l4, family, protocol::TCP, len).checksum() != 0
        }
        None => return Err(Fault::Header),
    };
    if wrong { Err(Fault::TransportChecksum) } else { Ok(()) }
}

fn check_fragment(frame: &[u8], inner: &Inner, family: Family, len: usize) -> Result<(), Fault> {
    if inner.offset {
        return Ok(());
    }
    let whole = be16(frame, inner.l4 + udp::at::LENGTH);
    let mut stamp: [u8; frame::STAMP] = field(frame, inner.l4 + udp::LEN);
    stamp[..2].copy_from_slice(&FRAGMENT_MARK.to_be_bytes());
    let present = frame::transport_sum(frame, inner.l3, inner.l4, family, protocol::UDP, len);
    // The pseudo header has the length of the whole datagram, not of the fragment.
    let sum = present.word(!(len as u16)).word(whole).bytes(&stamp);
    if usize::from(whole) > len && sum.checksum() == 0 { Ok(()) } else { Err(Fault::TransportChecksum) }
}

/// Whether a stamp is an answer's.
pub(crate) fn is_reply(stamp: Stamp) -> bool {
    stamp.mark == REPLY
}

/// The layout of a packet without a tunnel around it.
pub(crate) fn layout(family: Family, transport: Transport) -> Layout {
    Layout { family, transport }
}
