//! Tunnels to backends: a packet travels, as it is, behind a header of the balancer's own, or with the backend's address.
//!
//! A tunnel is a file here that says what stands between the outer IP header and the inner packet, or how the packet is
//! readdressed, and a line in [`kind`]. All that can be known beforehand is put together on the control thread; for each
//! packet only lengths, checksums, the traffic class and what spreads flows are filled in.

mod gre;
mod gue;
mod inner;
mod ipip;
mod l3dsr;

pub use inner::Inner;
pub use l3dsr::{Mark, Readdressing};

use crate::packet::Packet;
use crate::rewrite::L3;
use crate::wire::checksum::PartSum;
use crate::wire::ethernet::ethertype;
use crate::wire::{be16, field, field_mut, ipv4, ipv6, protocol};
use arrayvec::ArrayVec;
use ctl::config::Tunnel;
use std::net::IpAddr;
use std::sync::Arc;

/// Hop limit of what the balancer itself sends (RFC 1700's default). The inner packet's is not copied: the tunnel is
/// one hop to it (RFC 2003 section 3.1).
const HOP_LIMIT: u8 = 64;
/// Don't Fragment, with an identification of zero: an atomic datagram (RFC 6864 section 4.1).
const DONT_FRAGMENT: [u8; 4] = [0, 0, 0x40, 0];
/// Longest [`Layer::header`]: UDP and GUE.
const MAX_LAYER: usize = 12;
/// EtherType and the longer outer IP header.
const MAX_OUTER: usize = 2 + ipv6::LEN;
/// Where in a frame the EtherType is: behind the hardware addresses.
const ETHERTYPE_AT: usize = L3 - 2;
/// Most outer source addresses of one tunnel.
pub const MAX_SOURCES: usize = 256;

/// What one kind of tunnel puts between the outer IP header and the inner packet.
struct Layer {
    /// Protocol number in the outer IP header.
    protocol: u8,
    /// Up to the inner packet, as far as it is the same for all packets.
    header: ArrayVec<u8, MAX_LAYER>,
}

/// What one kind of tunnel does with a packet.
enum Kind {
    Wrap(Layer),
    Readdress(Mark),
}

/// The registered tunnels.
fn kind(options: &Options) -> Option<Kind> {
    match options.tunnel {
        Tunnel::None => None,
        Tunnel::Ipip => Some(Kind::Wrap(ipip::layer(options.inner_v6))),
        Tunnel::Gue => Some(Kind::Wrap(gue::layer(options.inner_v6, options.gue))),
        Tunnel::Gre => Some(Kind::Wrap(gre::layer(options.inner_v6))),
        Tunnel::L3dsr => options.mark.map(Kind::Readdress),
    }
}

/// Where the inner packet begins behind an outer IP header of protocol `number`; `None` if that is no tunnel's, or too
/// little of it is there. `payload` is what follows the outer IP header, perhaps cut short.
pub fn inner_offset(number: u8, payload: &[u8]) -> Option<usize> {
    let at = match number {
        protocol::IPV4 | protocol::IPV6 => 0,
        protocol::UDP => gue::inner_offset(payload)?,
        protocol::GRE => gre::inner_offset(payload)?,
        _ => return None,
    };
    (at <= payload.len()).then_some(at)
}

/// How GUE is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GueForm {
    /// UDP port of the backends.
    pub port: u16,
    /// Variant 1, IP directly behind UDP; otherwise variant 0, with a header between.
    pub direct: bool,
}

/// A service's tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub tunnel: Tunnel,
    pub gue: GueForm,
    /// The family of the service's packets.
    pub inner_v6: bool,
    /// With L3DSR.
    mark: Option<Mark>,
    /// Outer source addresses, by the family of the backend: IPv4, IPv6.
    sources: [Arc<[IpAddr]>; 2],
}

impl Options {
    /// Of `sources` the first [`MAX_SOURCES`] of each family count.
    pub fn new(tunnel: Tunnel, gue: GueForm, inner_v6: bool, sources: &[IpAddr]) -> Self {
        let of =
            |v6| sources.iter().copied().filter(|source| source.is_ipv6() == v6).take(MAX_SOURCES).collect();
        Self { tunnel, gue, inner_v6, mark: None, sources: [of(false), of(true)] }
    }

    /// Likewise, with what L3DSR says to backends.
    #[must_use]
    pub fn with_mark(self, mark: Mark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// Every outer source address that was configured.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().flat_map(|sources| sources.iter().copied())
    }
}

/// The way of packets to one backend that is reached through a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Behind headers.
    Wrap(Encapsulation),
    /// Without.
    Readdress(Readdressing),
}

impl Way {
    /// To `backend`, from `own` where the options name no source address of its family. `None` without a tunnel, or where
    /// one would need a source address and there is none.
    pub fn new(options: &Options, backend: IpAddr, own: Option<IpAddr>) -> Option<Self> {
        match kind(options)? {
            Kind::Wrap(layer) => Encapsulation::new(options, &layer, backend, own).map(Self::Wrap),
            Kind::Readdress(mark) => Readdressing::new(mark, backend).map(Self::Readdress),
        }
    }

    /// Bytes that a packet grows by.
    #[inline]
    pub fn overhead(&self) -> usize {
        match self {
            Self::Wrap(encapsulation) => encapsulation.overhead(),
            Self::Readdress(_) => 0,
        }
    }

    /// Sends the packet in a frame this way: all but its hardware addresses and hop limit. `hash` is the flow's: packets of
    /// one flow look alike from outside.
    #[inline(always)]
    pub fn apply<P: Packet>(&self, packet: &mut P, hash: u64) -> Result<(), Failure> {
        match self {
            Self::Wrap(encapsulation) => encapsulation.apply(packet, hash),
            Self::Readdress(readdressing) => {
                let inner = packet.data_mut().get_mut(L3..).ok_or(Failure::Truncated)?;
                readdressing.apply(inner).ok_or(Failure::Truncated)
            }
        }
    }

    /// The backend's end, if there are headers that say which.
    pub fn end(&self) -> Option<TunnelEnd> {
        match self {
            Self::Wrap(encapsulation) => Some(encapsulation.end()),
            Self::Readdress(_) => None,
        }
    }

    /// Where packets are readdressed to, if they are.
    pub fn readdressing(&self) -> Option<&Readdressing> {
        match self {
            Self::Wrap(_) => None,
            Self::Readdress(readdressing) => Some(readdressing),
        }
    }

    /// Outer source addresses.
    pub fn sources(&self) -> &[IpAddr] {
        match self {
            Self::Wrap(encapsulation) => &encapsulation.sources,
            Self::Readdress(_) => &[],
        }
    }
}

/// The way into a tunnel to one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encapsulation {
    /// EtherType and outer IP header.
    outer: [u8; MAX_OUTER],
    /// What follows, and how many bytes of it there are.
    layer: [u8; MAX_LAYER],
    layer_len: u8,
    /// Outer family.
    v6: bool,
    udp: bool,
    /// What of the outer IPv4 header is the same for all packets contributes this to its checksum: all but the first word,
    /// the checksum and the source.
    fixed: PartSum,
    /// Outer source addresses, at least one, as they stand in the header. Which one a flow uses follows from its hash, so
    /// that the backend's receive-side scaling tells flows apart.
    sources: Arc<[IpAddr]>,
}

/// Where a tunnel leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TunnelEnd {
    pub address: IpAddr,
    pub protocol: u8,
    /// Of UDP; 0 without.
    pub port: u16,
}

/// Why a packet could not be encapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No room in front of the packet.
    Headroom,
    /// The headers that would have to be read are not in the first segment.
    Truncated,
}

impl Encapsulation {
    /// `None` without any source address.
    fn new(options: &Options, layer: &Layer, backend: IpAddr, own: Option<IpAddr>) -> Option<Self> {
        let v6 = backend.is_ipv6();
        let configured = &options.sources[usize::from(v6)];
        let sources = if configured.is_empty() { own.into_iter().collect() } else { Arc::clone(configured) };
        let mut outer = [0; MAX_OUTER];
        let ethertype = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
        outer[..2].copy_from_slice(&ethertype.to_be_bytes());
        let mut fixed = PartSum::default();
        let ip = &mut outer[2..];
        match (backend, *sources.first()?) {
            (IpAddr::V4(to), IpAddr::V4(from)) => {
                ipv4::emit(ip, from, to, layer.protocol, HOP_LIMIT, 0).ok()?;
                ip[ipv4::at::IDENTIFICATION..ipv4::at::TTL].copy_from_slice(&DONT_FRAGMENT);
                ip[ipv4::at::CHECKSUM..ipv4::at::SOURCE].fill(0);
                let word = |at| u64::from(u32::from_le_bytes(field(ip, at)));
                fixed = fixed.word(word(4) | word(8) << 32).word(word(ipv4::at::DESTINATION));
            }
            (IpAddr::V6(to), IpAddr::V6(from)) => {
                ipv6::emit(ip, from, to, layer.protocol, HOP_LIMIT, 0).ok()?;
            }
            _ => return None,
        }
        let mut bytes = [0; MAX_LAYER];
        bytes[..layer.header.len()].copy_from_slice(&layer.header);
        let (layer_len, udp) = (layer.header.len() as u8, layer.protocol == protocol::UDP);
        Some(Self { outer, layer: bytes, layer_len, v6, udp, fixed, sources })
    }

    #[inline]
    fn overhead(&self) -> usize {
        usize::from(self.layer_len) + if self.v6 { ipv6::LEN } else { ipv4::LEN }
    }

    fn end(&self) -> TunnelEnd {
        let outer = &self.outer[2..];
        let (address, protocol) = if self.v6 {
            let address = field::<16>(outer, ipv6::at::DESTINATION);
            (address.into(), outer[ipv6::at::NEXT_HEADER])
        } else {
            let address = field::<4>(outer, ipv4::at::DESTINATION);
            (address.into(), outer[ipv4::at::PROTOCOL])
        };
        TunnelEnd { address, protocol, port: if self.udp { be16(&self.layer, 2) } else { 0 } }
    }

    /// Puts the headers in front of the packet in a frame. The hardware addresses are left to be written. `hash` is the
    /// flow's.
    #[inline(always)]
    fn apply<P: Packet>(&self, packet: &mut P, hash: u64) -> Result<(), Failure> {
        let inner = Inner::parse(packet.data().get(L3..).unwrap_or_default()).ok_or(Failure::Truncated)?;
        // What the link padded a short frame with stays behind. A frame in several segments is too long for padding.
        if packet.frame_len() > L3 + inner.total_len {
            let _ = packet.set_len(L3 + inner.total_len);
        }
        let tunnel = self.overhead();
        let frame = packet.prepend(tunnel).ok_or(Failure::Headroom)?;
        let (head, body) = frame.split_at_mut_checked(L3 + tunnel).ok_or(Failure::Truncated)?;
        let total = tunnel + inner.total_len;
        // Independent bits: 32 choose the source address, others the UDP source port and the flow label.
        let source = self.sources[(((hash >> 32) * self.sources.len() as u64) >> 32) as usize];
        // Lengths that are constants are moves; a copy of any length is a call.
        let layer = match source {
            IpAddr::V4(source) => {
                let (outer, layer) = self.put::<{ ipv4::LEN }>(head).ok_or(Failure::Truncated)?;
                let [high, low] = (total as u16).to_be_bytes();
                let first = [outer[0], inner.traffic_class, high, low];
                let words = [first, source.octets()].map(|word| u64::from(u32::from_le_bytes(word)));
                outer[..4].copy_from_slice(&first);
                outer[ipv4::at::SOURCE..][..4].copy_from_slice(&source.octets());
                *field_mut(outer, ipv4::at::CHECKSUM) =
                    self.fixed.word(words[0] | words[1] << 32).checksum_field();
                layer
            }
            IpAddr::V6(source) => {
                let (outer, layer) = self.put::<{ ipv6::LEN }>(head).ok_or(Failure::Truncated)?;
                // RFC 6438 section 3: the flow label tells flows of a tunnel apart for ECMP.
                let first = 6 << 28 | u32::from(inner.traffic_class) << 20 | (hash >> 12) as u32 & 0xf_ffff;
                outer[..4].copy_from_slice(&first.to_be_bytes());
                let payload = total - ipv6::LEN;
                outer[ipv6::at::PAYLOAD_LENGTH..][..2].copy_from_slice(&(payload as u16).to_be_bytes());
                outer[ipv6::at::SOURCE..][..16].copy_from_slice(&source.octets());
                layer
            }
        };
        if self.udp {
            let (outer, layer) = head.split_at_mut_checked(layer).ok_or(Failure::Truncated)?;
            gue::finish(&outer[L3..], layer, body, &inner, hash).ok_or(Failure::Truncated)?;
        }
        Ok(())
    }

    /// Writes what all packets have alike into the front of a frame, which ends where the inner packet begins. Returns the
    /// outer IP header, `OUTER` bytes long, and where the layer starts.
    #[inline(always)]
    fn put<'a, const OUTER: usize>(&self, head: &'a mut [u8]) -> Option<(&'a mut [u8; OUTER], usize)> {
        let (front, layer) = head.split_at_mut_checked(L3 + OUTER)?;
        match (usize::from(self.layer_len), layer) {
            (4, layer) => layer.first_chunk_mut::<4>()?.copy_from_slice(&self.layer[..4]),
            (8, layer) => layer.first_chunk_mut::<8>()?.copy_from_slice(&self.layer[..8]),
            (12, layer) => layer.first_chunk_mut::<12>()?.copy_from_slice(&self.layer[..12]),
            (len, layer) => layer.get_mut(..len)?.copy_from_slice(self.layer.get(..len)?),
        }
        let (front, outer) = front.split_last_chunk_mut::<OUTER>()?;
        front.get_mut(ETHERTYPE_AT..)?.first_chunk_mut::<2>()?.copy_from_slice(&self.outer[..2]);
        outer.copy_from_slice(&self.outer[2..2 + OUTER]);
        Some((outer, L3 + OUTER))
    }
}

#[cfg(test)]
mod tests;
