//! Frames as others make them.

use super::super::bed::{GATEWAY_MAC, PORT_MACS, WAN, mac_of};
use super::super::plain::{self, ETHERNET, ICMP, ICMPV6, TCP, UDP};
use super::Reader;
use std::net::IpAddr;

pub type End = (IpAddr, u16);

/// What a packet looks like beside its ends.
pub struct Shape {
    /// Flags of TCP; `None`: UDP.
    flags: Option<u8>,
    hops: u8,
    len: usize,
    /// IPv4 options, or an extension header.
    options: bool,
    /// UDP without a checksum.
    unsummed: bool,
    /// Bytes of link-layer padding.
    padding: usize,
    dscp: u8,
    sequence: u32,
}

impl Shape {
    pub fn read(reader: &mut Reader<'_>, tcp: bool) -> Self {
        let (flags, how, len) = (reader.byte(), reader.byte(), reader.byte());
        Self {
            flags: tcp.then_some(flags & 0x3f),
            hops: if how & 7 == 7 { how >> 6 } else { 64 },
            // Mostly short; some around the MTU.
            len: if len >= 240 { 1360 + usize::from(len - 240) * 12 } else { usize::from(len) },
            options: how & 8 != 0,
            unsummed: how & 16 != 0,
            padding: if how & 32 != 0 { 6 } else { 0 },
            dscp: how,
            // As expected, in the window, or beyond.
            sequence: [1000, 1000, 5000, 0x8000_0000][usize::from(how >> 6)],
        }
    }

    /// With some way to go.
    pub fn alive(self) -> Self {
        Self { hops: 64, ..self }
    }
}

/// To the balancer's `port`, from the gateway or the hosts of a link.
pub fn ethernet(port: u8, ethertype: u16) -> [u8; ETHERNET] {
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(&PORT_MACS[usize::from(port)].0);
    header[6..12].copy_from_slice(&GATEWAY_MAC.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    header
}

/// What would have gone to the balancer comes from its host.
pub fn from_host(mut frame: Vec<u8>) -> Vec<u8> {
    let (to, from) = frame[..12].split_at_mut(6);
    to.swap_with_slice(from);
    frame
}

/// An IP packet in a frame to `port`; all that can be summed up is left to [`plain::seal`].
fn ip(port: u8, ends: (IpAddr, IpAddr), protocol: u8, hops: u8, options: bool, payload: &[u8]) -> Vec<u8> {
    match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut frame = ethernet(port, 0x0800).to_vec();
            let header = if options { 24 } else { 20 };
            let total = (header + payload.len()) as u16;
            frame.extend([0x40 | (header as u8 / 4), 0]);
            frame.extend(total.to_be_bytes());
            frame.extend([0x12, 0x34, 0, 0, hops, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            // Four times "no operation".
            frame.extend(&[1; 4][..header - 20]);
            frame.extend(payload);
            frame
        }
        (from, to) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let mut frame = ethernet(port, 0x86dd).to_vec();
            let extension: &[u8] = if options { &[protocol, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(((extension.len() + payload.len()) as u16).to_be_bytes());
            frame.extend([if options { 60 } else { protocol }, hops]);
            frame.extend(octets(from));
            frame.extend(octets(to));
            frame.extend(extension);
            frame.extend(payload);
            frame
        }
    }
}

/// A TCP segment or UDP datagram.
pub fn packet(port: u8, from: End, to: End, shape: &Shape) -> Vec<u8> {
    let mut segment = Vec::with_capacity(shape.len + 24);
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    let protocol = if let Some(flags) = shape.flags {
        // A SYN offers an MSS.
        let syn = flags & 2 != 0;
        segment.extend(shape.sequence.to_be_bytes());
        segment.extend([0, 0, 1, 0xf4, if syn { 0x60 } else { 0x50 }, flags, 0x20, 0, 0, 0, 0, 0]);
        if syn {
            segment.extend([2, 4, 5, 0xb4]);
        }
        TCP
    } else {
        segment.extend(((8 + shape.len) as u16).to_be_bytes());
        segment.extend([0, 0]);
        UDP
    };
    let start = segment.len();
    segment.extend((0..shape.len).map(|n| n as u8 ^ 0x5a));
    let mut frame = ip(port, (from.0, to.0), protocol, shape.hops, shape.options, &segment);
    if from.0.is_ipv4() {
        frame[ETHERNET + 1] = shape.dscp;
    }
    plain::seal(&mut frame[ETHERNET..]);
    if shape.unsummed && protocol == UDP && from.0.is_ipv4() {
        let at = frame.len() - (segment.len() - start) - 2;
        frame[at..at + 2].fill(0);
    }
    if shape.padding > 0 {
        frame.resize(frame.len() + shape.padding, 0xaa);
    }
    frame
}

/// An error of `kind` that `ends.0` sends to `ends.1`, about the packet that `quote` is the beginning of.
pub fn icmp_error(port: u8, ends: (IpAddr, IpAddr), kind: u8, rest: u8, quote: &[u8]) -> Vec<u8> {
    let v4 = ends.0.is_ipv4();
    // Mostly the ones that mean something.
    let (kind, code) = match (kind % 8, v4) {
        (0 | 1, true) => (3, 4),
        (2, true) => (3, kind >> 3),
        (3, true) => (11, 0),
        (4, true) => (12, 0),
        (0 | 1, false) => (2, 0),
        (2, false) => (1, kind >> 3),
        (3, false) => (3, 0),
        (4, false) => (4, 0),
        (n, _) => (kind.rotate_left(3), n),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, rest, 0];
    message.extend(quote);
    let mut frame = ip(port, ends, if v4 { ICMP } else { ICMPV6 }, 60, false, &message);
    plain::seal(&mut frame[ETHERNET..]);
    frame
}

/// The fragments of the packet in a frame.
pub fn fragments(whole: &[u8], size: usize, identification: u8) -> Vec<Vec<u8>> {
    let bytes = &whole[ETHERNET..];
    let Ok(packet) = plain::Packet::parse(bytes) else { return Vec::new() };
    let payload = &bytes[packet.l4..packet.total];
    let pieces = payload.chunks(size).enumerate().map(|(n, piece)| {
        let (more, offset) = ((n + 1) * size < payload.len(), (n * size) as u16);
        let mut frame = whole[..ETHERNET].to_vec();
        if packet.source.is_ipv4() {
            frame.extend(&bytes[..packet.l4]);
            let header = &mut frame[ETHERNET..];
            header[2..4].copy_from_slice(&((packet.l4 + piece.len()) as u16).to_be_bytes());
            header[5] = identification;
            header[6..8].copy_from_slice(&((u16::from(more) << 13) | (offset / 8)).to_be_bytes());
            plain::seal_v4(header);
        } else {
            frame.extend(&bytes[..40]);
            let header = &mut frame[ETHERNET..];
            header[4..6].copy_from_slice(&((8 + piece.len()) as u16).to_be_bytes());
            header[6] = 44;
            frame.extend([packet.protocol, 0]);
            frame.extend((offset | u16::from(more)).to_be_bytes());
            frame.extend([0, 0, 0, identification]);
        }
        frame.extend(piece);
        frame
    });
    pieces.collect()
}

/// Moves a fragment by so many units of eight bytes.
pub fn shift(frame: &mut [u8], units: i32) {
    let v4 = frame[12..14] == [8, 0];
    let at = if v4 { ETHERNET + 6 } else { ETHERNET + 42 };
    let word = i32::from(plain::be16(frame, at)) + units * if v4 { 1 } else { 8 };
    frame[at..at + 2].copy_from_slice(&(word as u16).to_be_bytes());
    if v4 {
        plain::seal_v4(&mut frame[ETHERNET..]);
    }
}

/// A request or an answer about a host of the link, the balancer, or a service.
pub fn arp(port: u8, how: u8, who: u8) -> Vec<u8> {
    let own: [u8; 4] = if port == WAN { [10, 0, 0, 2] } else { [10, 1, 0, 1] };
    let host = [own[0], own[1], 0, who];
    let mut frame = ethernet(port, 0x0806).to_vec();
    if how & 1 == 0 {
        frame[..6].fill(0xff);
    }
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1 + (how & 1)]);
    frame.extend(mac_of(host.into()).0);
    frame.extend(if how & 4 == 0 { host } else { own });
    frame.extend([0; 6]);
    frame.extend(match how >> 1 & 3 {
        0 | 1 => own,
        2 => host,
        _ => [192, 0, 2, who],
    });
    frame
}

/// A solicitation or an advertisement, likewise.
pub fn discovery(port: u8, how: u8, who: u8) -> Vec<u8> {
    let own: IpAddr = if port == WAN { "2001:db8::2" } else { "2001:db8:1::1" }.parse().expect("an address");
    let link = if port == WAN { "2001:db8::" } else { "2001:db8:1::" };
    let host: IpAddr = format!("{link}{who:x}").parse().expect("an address");
    let IpAddr::V6(target) = (if how & 2 == 0 { own } else { host }) else { return Vec::new() };
    let mut message = vec![135 + (how & 1), 0, 0, 0, how & 0xe0, 0, 0, 0];
    message.extend(target.octets());
    if how & 4 == 0 {
        message.extend([1 + (how & 1), 1]);
        message.extend(mac_of(host).0);
    }
    let mut frame = ip(port, (host, own), ICMPV6, 255, false, &message);
    plain::seal(&mut frame[ETHERNET..]);
    frame
}

/// An echo request.
pub fn echo(port: u8, from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    let mut message = vec![if from.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 5, 0, 6];
    message.extend((0..len).map(|n| n as u8));
    let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
    let mut frame = ip(port, (from, to), protocol, 9, false, &message);
    plain::seal(&mut frame[ETHERNET..]);
    frame
}
