//! Flows of a benchmark: clients by number, and frames of theirs.

use clap::ValueEnum;
use dataplane::route::PortId;
use dataplane::snapshot::{Backend, Parts, Port};
use dataplane::wire::ethernet::{self, Mac, ethertype};
use dataplane::wire::{ipv4, ipv6, protocol, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a minimum frame for IPv4, without its frame check sequence, as the field counts "64-byte frames".
pub(crate) const FRAME_V4: usize = 60;
/// Headers of IPv6 and UDP with a little payload.
pub(crate) const FRAME_V6: usize = 80;

pub(crate) const WAN: PortId = 0;
pub(crate) const LAN: PortId = 1;
pub(crate) const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
pub(crate) const PEER: Mac = Mac([2, 0, 0, 0, 0xaa, 1]);
/// Backends of the one service.
pub(crate) const BACKENDS: u8 = 16;
pub(crate) const SERVICE_PORT: u16 = 80;
pub(crate) const BACKEND_PORT: u16 = 8080;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The order in which flows send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    Random,
    Sequential,
}

/// Numbers of flows, one packet after another.
#[derive(Debug)]
pub(crate) struct Flows {
    count: u64,
    order: Order,
    state: u64,
}

impl Flows {
    pub(crate) fn new(count: u32, order: Order) -> Self {
        Self { count: u64::from(count), order, state: 0x9e37_79b9_7f4a_7c15 }
    }

    pub(crate) fn next(&mut self) -> u32 {
        match self.order {
            Order::Sequential => {
                self.state = (self.state + 1) % self.count;
                self.state as u32
            }
            Order::Random => {
                // splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = self.state;
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((u128::from(z ^ z >> 31) * u128::from(self.count)) >> 64) as u32
            }
        }
    }
}

/// The client of flow `n`: addresses of 198.18.0.0/15 (RFC 2544) or 2001:db8::/32, 32,768 ports each.
pub(crate) fn client(n: u32, family: Family) -> (IpAddr, u16) {
    let port = 1024 + (n & 0x7fff) as u16;
    let host = n >> 15;
    match family {
        Family::V4 => (Ipv4Addr::from(0xc612_0000 | host).into(), port),
        Family::V6 => {
            (Ipv6Addr::from(0x2001_0db8_00ff_0000_0000_0000_0000_0000_u128 | u128::from(host)).into(), port)
        }
    }
}

pub(crate) fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 10).into(),
        Family::V6 => Ipv6Addr::from(0x2001_0db8_000a_0000_0000_0000_0000_0010_u128).into(),
    }
}

pub(crate) fn backend(n: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 1, 0, 10 + n).into(),
        Family::V6 => Ipv6Addr::from(0x2001_0db8_0001_0000_0000_0000_0000_0010_u128 + u128::from(n)).into(),
    }
}

/// Writes a UDP frame without a UDP checksum's worth of payload to sum: the payload is zero and its checksum right.
pub(crate) fn write_frame(frame: &mut [u8], port: PortId, from: (IpAddr, u16), to: (IpAddr, u16)) {
    let family = if from.0.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
    let len = frame.len();
    let written = ethernet::emit(frame, MACS[usize::from(port)], PEER, family).and_then(|()| {
        let (l4, sum) = match (from.0, to.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ipv4::emit(&mut frame[14..], source, destination, protocol::UDP, 64, (len - 14) as u16)?;
                let sum = dataplane::wire::checksum::Sum::default();
                (14 + ipv4::LEN, sum.pseudo_v4(source, destination, protocol::UDP, (len - 34) as u16))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ipv6::emit(&mut frame[14..], source, destination, protocol::UDP, 64, (len - 54) as u16)?;
                let sum = dataplane::wire::checksum::Sum::default();
                (14 + ipv6::LEN, sum.pseudo_v6(source, destination, protocol::UDP, (len - 54) as u32))
            }
            _ => (14, dataplane::wire::checksum::Sum::default()),
        };
        let segment = &mut frame[l4..];
        segment.fill(0);
        udp::emit(segment, from.1, to.1, (len - l4) as u16)?;
        let checksum = sum.bytes(segment).checksum();
        segment[udp::at::CHECKSUM..udp::LEN].copy_from_slice(&checksum.to_be_bytes());
        Ok(())
    });
    debug_assert!(written.is_ok());
}

/// Two ports with one client gateway and [`BACKENDS`] backends, and no service yet.
pub(crate) fn parts(family: Family) -> Parts {
    let port = |mac, address: &str| Port {
        mac,
        mtu: 1500,
        addresses: address.parse().into_iter().collect(),
        host: None,
    };
    let (wan, lan, all, gateway) = match family {
        Family::V4 => ("10.0.0.2/24", "10.1.0.1/24", "0.0.0.0/0", "10.0.0.1"),
        Family::V6 => ("2001:db8::2/64", "2001:db8:1::1/64", "::/0", "2001:db8::1"),
    };
    let service_backend = |n| {
        Some(Backend {
            address: backend(n, family),
            port: Some(BACKEND_PORT),
            service: 0,
            timeouts: dataplane::conn::Timeouts::default(),
            removed: false,
            serving: true,
        })
    };
    Parts {
        generation: 1,
        ports: vec![port(MACS[0], wan), port(MACS[1], lan)],
        routes: all.parse().ok().zip(gateway.parse().ok()).into_iter().collect(),
        backends: (0..BACKENDS).map(service_backend).collect(),
        services: Vec::new(),
        ..Parts::default()
    }
}
