//! A packet buffer, seen by code that knows no driver.
//!
//! The pipeline is generic over [`Packet`]: a DPDK mbuf implements it, and so does [`VecPacket`] for
//! tests, fuzzing and Miri. There is one code path, monomorphised.

/// One received or to-be-sent Ethernet frame, without its frame check sequence.
///
/// Ownership is a move: whoever holds a `Packet` is the only one who can read, change, send or free it.
/// Dropping it returns its memory to where it came from.
pub trait Packet: Sized {
    /// The first (normally the only) segment of the frame: all headers are in it.
    fn data(&self) -> &[u8];

    /// As [`Packet::data`], writable.
    fn data_mut(&mut self) -> &mut [u8];

    /// Length of the whole frame in bytes; more than `data().len()` if it has further segments.
    fn frame_len(&self) -> usize;

    /// Grows the frame by `bytes` in front, out of the headroom, and returns the whole first segment.
    /// The new bytes hold whatever was there before. `None` if the headroom is too small.
    fn prepend(&mut self, bytes: usize) -> Option<&mut [u8]>;

    /// Removes `bytes` from the front. Returns `false`, and changes nothing, if the first segment is shorter.
    #[must_use]
    fn trim_front(&mut self, bytes: usize) -> bool;

    /// Sets the length of a single-segment frame, cutting or growing it at its end (new bytes hold whatever was
    /// there before). Returns `false`, and changes nothing, if the tailroom is too small or there are further segments.
    #[must_use]
    fn set_len(&mut self, bytes: usize) -> bool;

    /// Asks the CPU to load the first cache line of the frame.
    fn prefetch(&self) {}

    /// The tag control information of the VLAN tag that the port has taken off this frame, if it has.
    fn rx_vlan(&self) -> Option<u16> {
        None
    }

    /// What the port said about the checksums of this frame when it was received.
    fn rx_checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }
}

/// A port's verdict on the IPv4 header checksum of a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxChecksum {
    /// The port did not look: software has to.
    Unknown,
    /// The port verified the IPv4 header checksum.
    Ipv4Good,
    /// The port found the IPv4 header checksum wrong.
    Ipv4Bad,
}

/// A [`Packet`] in a plain vector, with headroom and tailroom like an mbuf's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VecPacket {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
    rx_vlan: Option<u16>,
}

/// Headroom of a new [`VecPacket`] in bytes, as `RTE_PKTMBUF_HEADROOM`.
const HEADROOM: usize = 128;
/// Smallest buffer behind a [`VecPacket`] in bytes, as the usual mbuf data room without headroom.
const DATA_ROOM: usize = 2048;

impl VecPacket {
    /// A packet holding a copy of `frame`.
    pub fn new(frame: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM + frame.len().max(DATA_ROOM)];
        buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        Self { buffer, start: HEADROOM, len: frame.len(), rx_vlan: None }
    }

    /// The same, as if a port had taken off a tag with this control information.
    #[must_use]
    pub fn with_rx_vlan(self, control: u16) -> Self {
        Self { rx_vlan: Some(control), ..self }
    }
}

impl Packet for VecPacket {
    fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    fn frame_len(&self) -> usize {
        self.len
    }

    fn prepend(&mut self, bytes: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(bytes)?;
        self.len += bytes;
        Some(self.data_mut())
    }

    fn trim_front(&mut self, bytes: usize) -> bool {
        if bytes > self.len {
            return false;
        }
        self.start += bytes;
        self.len -= bytes;
        true
    }

    fn set_len(&mut self, bytes: usize) -> bool {
        if self.start + bytes > self.buffer.len() {
            return false;
        }
        self.len = bytes;
        true
    }

    fn rx_vlan(&self) -> Option<u16> {
        self.rx_vlan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepend_and_trim_are_inverse() {
        let mut packet = VecPacket::new(&[1, 2, 3]);
        packet.prepend(2).expect("headroom")[..2].copy_from_slice(&[9, 8]);
        assert_eq!(packet.data(), [9, 8, 1, 2, 3]);
        assert!(packet.trim_front(2));
        assert_eq!(packet.data(), [1, 2, 3]);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut packet = VecPacket::new(&[1, 2, 3]);
        let before = packet.clone();
        assert!(packet.prepend(HEADROOM + 1).is_none());
        assert!(!packet.trim_front(4));
        assert!(!packet.set_len(DATA_ROOM + 1));
        assert_eq!(packet, before);
    }
}
