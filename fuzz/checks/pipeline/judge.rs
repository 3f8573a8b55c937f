//! Holds every frame that left against the one that arrived.

use super::super::bed::{LAN, PORT_MACS};
use super::super::plain::{self, ETHERNET, ICMP, ICMPV6, Packet as Plain, Payload, TCP};
use super::world::{GUE, Known, SERVICES};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::LazyLock;

type End = (IpAddr, u16);
/// Protocol, source, destination.
type Flow = (u8, End, End);

struct Arrived {
    port: u8,
    frame: Vec<u8>,
    /// Every length and checksum was right.
    sound: bool,
}

/// What is known of an input's packets.
#[derive(Default)]
pub struct Judge {
    arrived: Vec<Arrived>,
    left: [Vec<(u8, Vec<u8>)>; 2],
    /// By the flow of a backend's answers: that of the packet which the backend got last.
    answers: HashMap<Flow, Flow>,
}

impl Judge {
    pub fn forget(&mut self) {
        self.arrived.clear();
        self.left.iter_mut().for_each(Vec::clear);
        self.answers.clear();
    }

    /// Who asked may be forgotten from now on, and another one answered in its place.
    pub fn begin_era(&mut self) {
        self.answers.clear();
    }

    /// Remembers a frame, by the number that is returned.
    pub fn arrived(&mut self, port: u8, frame: Vec<u8>) -> u32 {
        let sound = plain::verify(&frame, GUE).is_ok();
        self.arrived.push(Arrived { port, frame, sound });
        self.arrived.len() as u32 - 1
    }

    pub fn last_arrived(&self) -> Option<(u8, Vec<u8>)> {
        self.arrived.last().map(|last| (last.port, last.frame.clone()))
    }

    pub fn left(&self, port: u8, number: u8) -> Option<&(u8, Vec<u8>)> {
        let left = &self.left[usize::from(port)];
        left.get(left.len().checked_sub(1 + usize::from(number) % left.len().max(1))?)
    }

    /// A frame left by `port`: the one with number `arrived`, changed, or one that the balancer made.
    pub fn judge(&mut self, arrived: Option<u32>, port: u8, out: &[u8]) {
        assert!(out.len() >= ETHERNET, "a frame of {} bytes", out.len());
        assert_eq!(out[6..12], PORT_MACS[usize::from(port)].0, "it is from the port that it leaves by");
        assert_eq!(out[6] & 1, 0);
        let origin = arrived.and_then(|number| self.arrived.get(number as usize));
        if plain::be16(out, 12) == 0x0806 {
            assert!(out.len() >= 42, "half an ARP message");
            return;
        }
        let bytes = &out[ETHERNET..];
        let packet = match Plain::parse(bytes) {
            Ok(packet) => packet,
            Err(error) => panic!("{error}: {out:02x?} was {:02x?}", origin.map(|origin| &origin.frame)),
        };
        assert!(
            packet.hops > 0,
            "it is still alive: {out:02x?} was {:02x?}",
            origin.map(|origin| &origin.frame)
        );
        let icmp = matches!(packet.protocol, ICMP | ICMPV6);
        // What the balancer made is sound, and what it changed is if it was.
        if (origin.is_none_or(|origin| origin.sound) || (icmp && !packet.fragment))
            && let Err(error) = plain::verify(out, gue(port))
        {
            panic!("{error}: {out:02x?} was {:02x?}", origin.map(|origin| &origin.frame));
        }
        if let Some(origin) = origin
            && !icmp
            && let Some(flows) = translated(origin, port, &packet, bytes)
        {
            self.remember(flows);
        }
        self.left[usize::from(port)].push((port, out.to_vec()));
    }

    /// What a backend is told is what the client said; the answer goes the same way back.
    fn remember(&mut self, (before, after): (Flow, Flow)) {
        let turned = |(protocol, from, to): Flow| (protocol, to, from);
        if service(&before).is_some() {
            self.answers.insert(turned(after), before);
        } else if let Some(&asked) = self.answers.get(&before) {
            assert_eq!(after, turned(asked), "the answer goes to who asked, from whom was asked");
        }
    }
}

/// GUE's port where tunnels begin; clients may use any.
fn gue(port: u8) -> u16 {
    if port == LAN { GUE } else { 0 }
}

/// The service that a packet of a flow is for.
fn service(flow: &Flow) -> Option<&'static Known> {
    static BY_END: LazyLock<HashMap<(bool, End), &'static Known>> =
        LazyLock::new(|| SERVICES.iter().map(|service| ((service.tcp, service.end()), service)).collect());
    BY_END.get(&(flow.0 == TCP, flow.2)).copied()
}

fn is_backend(address: IpAddr) -> bool {
    static ADDRESSES: LazyLock<HashSet<IpAddr>> =
        LazyLock::new(|| SERVICES.iter().flat_map(Known::hosts).map(|(address, _)| address).collect());
    ADDRESSES.contains(&address)
}

fn flow(packet: &Plain, bytes: &[u8]) -> Flow {
    let ports = packet.ports(bytes);
    (packet.protocol, (packet.source, ports.0), (packet.destination, ports.1))
}

/// Checks that a packet went on as it was, and returns its flow before and after; `None` if that cannot be told: fragments,
/// and what is in a tunnel is checked alone.
fn translated(origin: &Arrived, port: u8, packet: &Plain, bytes: &[u8]) -> Option<(Flow, Flow)> {
    let old = &origin.frame[ETHERNET..];
    let before = Plain::parse(old).expect("who is forwarded is well-formed");
    if before.fragment || !before.has_transport(old) {
        return None;
    }
    let was = flow(&before, old);
    let (inside, tunnelled) = match packet.inner(bytes, gue(port)) {
        Some(at) => (&bytes[at..packet.total], true),
        None => (bytes, false),
    };
    let after = Plain::parse(inside).expect("verified or never read");
    assert!(!after.fragment && after.has_transport(inside), "it does not become a fragment");
    let now = flow(&after, inside);
    if now == (was.0, was.2, was.1) {
        // The balancer's own answer.
        assert_eq!(after.payload(inside), Payload::Good, "what the balancer says is sound");
        return None;
    }
    let is_reset = |packet: &Plain, bytes: &[u8]| packet.protocol == TCP && bytes[packet.l4 + 13] & 4 != 0;
    if is_reset(&after, inside) && !is_reset(&before, old) {
        // At the end of a drain a segment becomes the end of its connection.
        assert_eq!(after.payload(inside), Payload::Good, "what the balancer says is sound");
        return None;
    }
    assert_eq!(after.hops, before.hops - 1, "one hop");
    assert_eq!(after.total - after.l4, before.total - before.l4, "no byte more or less");
    // All but ports, checksum and, in a SYN, the MSS.
    if before.protocol == TCP {
        let (old, new) = (&old[before.l4..before.total], &inside[after.l4..after.total]);
        assert_eq!(old[4..16], new[4..16], "sequence numbers, flags, window");
    }
    assert_eq!(before.data(old), after.data(inside), "the data");
    if tunnelled {
        assert_eq!((port, now), (LAN, was), "what is in a tunnel is as it was");
        return None;
    }
    if let Some(service) = service(&was) {
        let to = now.2;
        let is_host = |(address, port): (IpAddr, Option<u16>)| address == to.0 && port.unwrap_or(80) == to.1;
        assert!(service.is_direct() && now == was || service.hosts().any(is_host), "{was:?} to {now:?}");
        // A backend that is a client sees the balancer.
        let hidden = !service.keeps_client() || is_backend(was.1.0);
        assert!(hidden || now.1 == was.1, "the backend sees the client: {now:?}");
        assert_eq!(port, LAN);
    } else {
        let asked = (now.0, now.2, now.1);
        assert!(service(&asked).is_some(), "clients see the service: {now:?}");
    }
    if let Payload::Unknown = after.payload(inside) {
        unreachable!("TCP and UDP have checksums");
    }
    Some((was, now))
}
