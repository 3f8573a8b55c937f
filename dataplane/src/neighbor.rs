//! A worker's own copy of the neighbours: what to write into the Ethernet header for each next hop.
//!
//! The control thread resolves and ages neighbours; workers only use what it told them. A worker gives each next hop
//! a slot when it first needs it, resolved or not, so that connections can refer to it by number.

use crate::flow::Secret;
use crate::route::{NextHop, PortId};
use crate::wire::ethernet::Mac;

/// Number of a neighbour in one worker's table.
pub type Slot = u16;

/// Most neighbours that a worker knows.
pub const CAPACITY: usize = 16_384;

/// A next hop as packets need it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Neighbor {
    /// Destination and source hardware address, as they stand in the frame.
    header: [u8; 12],
    pub port: PortId,
    /// Largest frame that may be sent to it now, in bytes: that of the port, and 0 until it is resolved.
    pub room: u16,
    /// Largest frame of that port, in bytes.
    pub max_frame: u16,
    pub resolved: bool,
    /// Forwarded to since the control thread was last told.
    pub used: bool,
    /// The control thread was asked to resolve it and has not answered.
    pub asked: bool,
    pub hop: NextHop,
}

impl Neighbor {
    /// Destination and source hardware address.
    #[inline(always)]
    pub fn header(&self) -> &[u8; 12] {
        &self.header
    }

    /// Writes the hardware addresses into a frame and returns the port that it leaves by. The neighbour is resolved.
    #[inline(always)]
    pub fn send(&mut self, frame: &mut [u8]) -> PortId {
        debug_assert!(self.resolved);
        self.used = true;
        if let Some(addresses) = frame.first_chunk_mut::<12>() {
            *addresses = self.header;
        }
        self.port
    }

    pub fn mac(&self) -> Option<Mac> {
        self.resolved.then(|| Mac(crate::wire::field(&self.header, 0)))
    }
}

/// The neighbours of one worker.
#[derive(Debug)]
pub struct Neighbors {
    slots: Vec<Neighbor>,
    /// Open addressing over `slots`, `EMPTY` where there is none; at most half full.
    index: Box<[u16]>,
    /// By port: its hardware address and its largest frame.
    links: Vec<(Mac, u16)>,
    secret: Secret,
    /// Where [`Neighbors::take_used`] goes on.
    report: usize,
}

const EMPTY: u16 = u16::MAX;

impl Neighbors {
    pub fn new(secret: Secret) -> Self {
        Self {
            slots: Vec::with_capacity(CAPACITY),
            index: vec![EMPTY; CAPACITY * 2].into(),
            links: Vec::with_capacity(usize::from(PortId::MAX) + 1),
            secret,
            report: 0,
        }
    }

    /// Takes over hardware addresses and MTUs of the ports, and forgets all neighbours if they changed.
    pub fn set_ports(&mut self, ports: &[crate::snapshot::Port]) {
        let frame = |mtu: u16| mtu.saturating_add(crate::wire::ethernet::LEN as u16);
        let same = self.links.len() == ports.len()
            && self.links.iter().zip(ports).all(|(link, port)| *link == (port.mac, frame(port.mtu)));
        if !same {
            self.links.clear();
            self.links.extend(
                ports.iter().take(usize::from(PortId::MAX) + 1).map(|port| (port.mac, frame(port.mtu))),
            );
            self.clear();
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[inline(always)]
    pub fn get(&self, slot: Slot) -> &Neighbor {
        &self.slots[usize::from(slot)]
    }

    #[inline(always)]
    pub fn get_mut(&mut self, slot: Slot) -> &mut Neighbor {
        &mut self.slots[usize::from(slot)]
    }

    /// The slot of `hop`, made if need be; `None` if the table is full.
    pub fn slot(&mut self, hop: NextHop) -> Option<Slot> {
        match self.search(hop) {
            Ok(slot) => Some(slot),
            Err(_) if self.slots.len() == CAPACITY => None,
            Err(at) => {
                let &(source, max_frame) = self.links.get(usize::from(hop.port))?;
                let slot = self.slots.len() as Slot;
                self.index[at] = slot;
                let mut header = [0; 12];
                header[6..].copy_from_slice(&source.0);
                self.slots.push(Neighbor {
                    header,
                    port: hop.port,
                    room: 0,
                    max_frame,
                    resolved: false,
                    used: false,
                    asked: false,
                    hop,
                });
                Some(slot)
            }
        }
    }

    /// Writes the hardware addresses for `slot` into a frame and returns the port that it leaves by; `None` if they are
    /// not known.
    #[inline(always)]
    pub fn address(&mut self, slot: Slot, frame: &mut [u8]) -> Option<PortId> {
        let neighbor = &mut self.slots[usize::from(slot)];
        neighbor.resolved.then(|| neighbor.send(frame))
    }

    /// What the control thread says about `hop`: its hardware address, or that it has none. Returns the slot if there
    /// is one (a new neighbour gets one while there is room).
    pub fn update(&mut self, hop: NextHop, mac: Option<Mac>) -> Option<Slot> {
        let slot = match mac {
            Some(_) => self.slot(hop)?,
            None => self.search(hop).ok()?,
        };
        let neighbor = self.get_mut(slot);
        neighbor.asked = false;
        neighbor.resolved = mac.is_some();
        neighbor.room = 0;
        if let Some(mac) = mac {
            neighbor.room = neighbor.max_frame;
            neighbor.header[..6].copy_from_slice(&mac.0);
        }
        Some(slot)
    }

    /// Makes room by forgetting those that are not resolved or were not used lately; if that frees less than half of the
    /// table, all of them. Slots handed out before mean nothing any more.
    pub fn make_room(&mut self) {
        let keep = |neighbor: &Neighbor| neighbor.resolved && neighbor.used;
        if self.slots.iter().filter(|neighbor| keep(neighbor)).count() > CAPACITY / 2 {
            return self.clear();
        }
        self.slots.retain(keep);
        self.index.fill(EMPTY);
        self.report = 0;
        for slot in 0..self.slots.len() {
            if let Err(at) = self.search(self.slots[slot].hop) {
                self.index[at] = slot as Slot;
            }
        }
    }

    /// The control thread could not be asked about `hop`: the next packet tries again.
    pub fn ask_again(&mut self, hop: NextHop) {
        if let Ok(slot) = self.search(hop) {
            self.get_mut(slot).asked = false;
        }
    }

    /// Forgets all of them; slots handed out before mean nothing any more.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.index.fill(EMPTY);
        self.report = 0;
    }

    /// The next neighbour among at most `budget` that was used since it was last returned.
    pub fn take_used(&mut self, budget: usize) -> Option<NextHop> {
        for _ in 0..budget.min(self.slots.len()) {
            let at = self.report % self.slots.len();
            self.report = at + 1;
            if std::mem::take(&mut self.slots[at].used) {
                return Some(self.slots[at].hop);
            }
        }
        None
    }

    /// The slot of `hop`, or where in the index it would be entered.
    fn search(&self, hop: NextHop) -> Result<Slot, usize> {
        let mask = self.index.len() - 1;
        let mut at = self.secret.mix_endpoint(hop.address, u16::from(hop.port)) as usize & mask;
        // Ends: at most half of the index is in use.
        loop {
            match self.index[at] {
                EMPTY => return Err(at),
                slot if self.slots[usize::from(slot)].hop == hop => return Ok(slot),
                _ => at = (at + 1) & mask,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(n: u16) -> NextHop {
        NextHop { port: (n % 2) as u8, address: [10, 0, (n >> 8) as u8, n as u8].into() }
    }

    fn neighbors() -> Neighbors {
        let mut table = Neighbors::new(Secret::new([7; 48]));
        let port = crate::snapshot::Port { mac: Mac([2; 6]), mtu: 1500, addresses: Vec::new(), host: None };
        table.set_ports(&[port.clone(), port]);
        table
    }

    #[test]
    fn slots_are_stable_and_bounded() {
        let mut table = neighbors();
        let slots: Vec<Slot> = (0..CAPACITY as u16).map(|n| table.slot(hop(n)).unwrap()).collect();
        assert_eq!(table.slot(hop(CAPACITY as u16)), None);
        for (n, slot) in slots.iter().enumerate() {
            assert_eq!(table.slot(hop(n as u16)), Some(*slot));
            assert_eq!(table.get(*slot).hop, hop(n as u16));
        }
        table.clear();
        assert!(table.is_empty());
        assert!(table.slot(hop(9)).is_some());
    }

    #[test]
    fn room_is_made_at_the_expense_of_those_that_do_not_answer() {
        let mut table = neighbors();
        for n in 0..CAPACITY as u16 {
            table.slot(hop(n)).unwrap();
        }
        for n in [5, 900, 16_000] {
            table.update(hop(n), Some(Mac([n as u8; 6])));
            let slot = table.slot(hop(n)).unwrap();
            table.address(slot, &mut [0; 64]);
        }
        table.make_room();
        assert_eq!(table.len(), 3);
        for n in [5, 900, 16_000] {
            let slot = table.slot(hop(n)).unwrap();
            assert_eq!((table.get(slot).hop, table.get(slot).mac()), (hop(n), Some(Mac([n as u8; 6]))));
        }
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn updates_resolve_and_unresolve() {
        let mut table = neighbors();
        assert_eq!(table.update(hop(1), None), None);
        let slot = table.slot(hop(1)).unwrap();
        assert!(!table.get(slot).resolved);
        assert_eq!(table.update(hop(1), Some(Mac([1; 6]))), Some(slot));
        assert_eq!(table.get(slot).header(), &[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(table.update(hop(1), None), Some(slot));
        assert_eq!(table.get(slot).mac(), None);
    }

    #[test]
    fn use_is_reported_once() {
        let mut table = neighbors();
        for n in 0..10 {
            table.slot(hop(n)).unwrap();
        }
        table.get_mut(3).used = true;
        table.get_mut(8).used = true;
        assert_eq!(table.take_used(100), Some(hop(3)));
        assert_eq!(table.take_used(100), Some(hop(8)));
        assert_eq!(table.take_used(100), None);
    }
}
