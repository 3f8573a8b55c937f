//! Ports with VLANs: several logical ports, or one with a tag, over the queues of one device.

use super::{Detour, Worker};
use crate::conn::Tick;
use crate::io::{BURST, Burst, Queue};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::route::PortId;
use crate::verdict::DropReason;
use crate::vlan::{self, Place, Trunk};
use crate::wire::vlan::LEN;
use arrayvec::ArrayVec;
use std::collections::VecDeque;

/// What a worker keeps for tagged frames.
pub(super) struct Vlans<P> {
    /// There may be something to do: always, with a trunk.
    due: bool,
    /// Those that the worker receives from.
    trunks: Vec<Trunk>,
    /// By logical port: frames of the burst that is being sorted.
    runs: Vec<Burst<P>>,
    /// Frames that arrived elsewhere, of which a tag without a VLAN was taken off, and their ports. Never more than arrive
    /// in one loop.
    untagged: VecDeque<(PortId, P)>,
}

impl<P> Vlans<P> {
    /// For a worker that receives from so many ports, none of which has VLANs.
    pub(super) fn new(arrivals: usize) -> Self {
        let untagged = VecDeque::with_capacity(arrivals * BURST);
        Self { due: false, trunks: Vec::new(), runs: Vec::new(), untagged }
    }

    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// The ports of the devices with VLANs at which packets can arrive here.
    pub(super) fn devices(&self) -> impl Iterator<Item = PortId> {
        self.trunks.iter().map(Trunk::device)
    }
}

impl<Q: Queue> Worker<Q> {
    /// The same, with ports where `places` says by their number. What stands for the queue of a sub-interface neither
    /// receives nor transmits.
    #[must_use]
    pub fn with_vlans(mut self, places: &[Place]) -> Self {
        for (port, place) in places.iter().enumerate().take(self.detours.len()) {
            let (device, Some(vlan)) = (place.device, place.vlan) else { continue };
            let at = usize::from(device);
            let by_us = self.queues[at].transmits();
            self.detours[port] = if by_us { Some(Detour::Vlan { device, vlan }) } else { self.detours[at] };
        }
        self.vlans.trunks = self.arrivals.iter().filter_map(|&device| Trunk::new(device, places)).collect();
        let trunks = &self.vlans.trunks;
        self.arrivals.retain(|&port| trunks.iter().all(|trunk| trunk.device() != port));
        self.vlans.runs = self.outgoing.iter().map(|_| Burst::new()).collect();
        self.vlans.due = !trunks.is_empty();
        self
    }

    /// Receives from every trunk, and processes what arrived by logical port. Returns how many packets it saw.
    #[inline(never)]
    pub(super) fn receive_tagged(&mut self, now: Tick) -> usize {
        let mut packets = 0;
        for n in 0..self.vlans.trunks.len() {
            let device = self.vlans.trunks[n].device();
            self.queues[usize::from(device)].receive(&mut self.received);
            packets += self.received.len();
            if !self.received.is_empty() {
                self.sort(n, now);
            }
        }
        self.vlans.due = !self.vlans.trunks.is_empty();
        while let Some((port, packet)) = self.vlans.untagged.pop_front() {
            self.received.push(packet);
            while self.vlans.untagged.front().is_some_and(|(other, _)| *other == port)
                && !self.received.is_full()
            {
                self.received.extend(self.vlans.untagged.pop_front().map(|(_, packet)| packet));
            }
            self.process(Arrival { port, now, handed: false });
        }
        packets
    }

    /// Sorts the received burst of a trunk into runs by logical port, and processes these.
    fn sort(&mut self, trunk: usize, now: Tick) {
        let (count, mut bytes) = (self.received.len(), 0);
        let mut ports: ArrayVec<PortId, BURST> = ArrayVec::new();
        for mut packet in std::mem::take(&mut self.received) {
            bytes += packet.frame_len() + packet.rx_vlan().map_or(0, |_| LEN);
            match self.vlans.trunks[trunk].sort(&mut packet) {
                Ok(port) => {
                    let run = &mut self.vlans.runs[usize::from(port)];
                    if run.is_empty() {
                        ports.push(port);
                    }
                    run.push(packet);
                }
                Err(reason) => self.counters.dropped(reason),
            }
        }
        self.counters.rx_packets.add(count as u64);
        self.counters.rx_bytes.add(bytes as u64);
        for port in ports {
            std::mem::swap(&mut self.received, &mut self.vlans.runs[usize::from(port)]);
            if let Some(counters) = self.counters.ports.get(usize::from(port)) {
                let bytes: usize = self.received.iter().map(Packet::frame_len).sum();
                counters.rx_packets.add(self.received.len() as u64);
                counters.rx_bytes.add(bytes as u64);
            }
            self.process(Arrival { port, now, handed: false });
        }
    }

    /// Takes the tag off a frame that has a priority and no VLAN; it is processed when the burst is.
    #[cold]
    #[inline(never)]
    pub(super) fn untag(&mut self, port: PortId, mut packet: Q::Packet) {
        if !vlan::strip(&mut packet) {
            return self.counters.dropped(DropReason::Truncated);
        }
        self.vlans.untagged.push_back((port, packet));
        self.vlans.due = true;
    }

    /// Sends what is on its way out of `port`, with a tag, by the queue of the device's port.
    #[inline(never)]
    pub(super) fn transmit_tagged(&mut self, port: usize, device: PortId, vlan: u16) {
        let outgoing = &mut self.outgoing[port];
        let mut generated = std::mem::take(&mut outgoing.generated);
        for mut packet in std::mem::take(&mut outgoing.packets) {
            let bit = generated & 1;
            generated >>= 1;
            if vlan::insert(&mut packet, vlan) {
                outgoing.generated |= bit << outgoing.packets.len();
                outgoing.packets.push(packet);
            } else if bit == 0 {
                self.counters.dropped(DropReason::NoHeadroom);
            }
        }
        let (sent, bytes) = self.transmit_by(port, usize::from(device));
        if let Some(counters) = self.counters.ports.get(port) {
            counters.tx_packets.add(sent as u64);
            counters.tx_bytes.add((bytes - sent * LEN) as u64);
        }
    }
}
