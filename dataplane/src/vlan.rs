//! VLANs: which logical port a tagged frame belongs to, and the tag that it leaves with.
//!
//! The pipeline sees no tags. A worker takes them off as frames arrive from a device with VLANs, and hands the pipeline what
//! belongs to each logical port as if that were a port of its own; on the way out it puts the tag of the port back. Frames
//! leave with the lowest priority (PCP 0), whatever they arrived with.

use crate::packet::Packet;
use crate::route::PortId;
use crate::verdict::DropReason;
use crate::wire::vlan::{ADDRESSES, LEN, Tag, tag};

/// Where a logical port's frames pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The port of the device: itself, if it is no sub-interface.
    pub device: PortId,
    /// The VLAN of its frames; `None`: they have no tag.
    pub vlan: Option<u16>,
}

/// The place of each port of a configuration, by its number.
pub fn places(config: &ctl::config::Config) -> Vec<Place> {
    let number = |name: &str| config.ports.iter().position(|port| port.name == name);
    let place = |(id, port): (usize, &ctl::config::Port)| Place {
        device: port.parent.as_deref().and_then(number).unwrap_or(id) as PortId,
        vlan: port.vlan,
    };
    config.ports.iter().enumerate().map(place).collect()
}

/// Identifiers of VLANs, the null one and the reserved one included.
const IDS: usize = 4096;
/// Stands for no port.
const NOBODY: PortId = PortId::MAX;

/// A device whose frames belong to several logical ports, or to one by their tag.
#[derive(Debug)]
pub struct Trunk {
    device: PortId,
    /// Whose frames without a tag are.
    untagged: PortId,
    /// By identifier.
    tagged: Box<[PortId; IDS]>,
}

impl Trunk {
    /// The trunk over the device of port `device`; `None` if it has no VLANs.
    pub fn new(device: PortId, places: &[Place]) -> Option<Self> {
        let mut trunk = Self { device, untagged: NOBODY, tagged: Box::new([NOBODY; IDS]) };
        let mut has_vlans = false;
        for (id, place) in (0..NOBODY).zip(places).filter(|(_, place)| place.device == device) {
            match place.vlan {
                None => trunk.untagged = id,
                Some(vlan) => {
                    has_vlans = true;
                    trunk.tagged[usize::from(vlan) % IDS] = id;
                }
            }
        }
        has_vlans.then_some(trunk)
    }

    /// The port of the device.
    pub fn device(&self) -> PortId {
        self.device
    }

    /// Takes the tag off a frame and says which logical port it arrived on. A frame that has to be dropped is unchanged.
    #[inline]
    pub fn sort<P: Packet>(&self, packet: &mut P) -> Result<PortId, DropReason> {
        let taken_off = packet.rx_vlan();
        let tag = match taken_off {
            Some(control) => Tag::stripped(control, packet.data()),
            None => Tag::parse(packet.data()).map_err(|_| DropReason::Truncated)?,
        };
        let port = match tag {
            Tag::None | Tag::Priority => self.untagged,
            Tag::Vlan(id) => self.tagged[usize::from(id) % IDS],
            Tag::Nested => return Err(DropReason::VlanNested),
        };
        if port == NOBODY {
            return Err(DropReason::VlanUnknown);
        }
        if taken_off.is_none() && tag != Tag::None && !strip(packet) {
            return Err(DropReason::Truncated);
        }
        Ok(port)
    }
}

/// Takes the tag off a frame that has one: the addresses move to where the EtherType behind it is. `false`, and nothing
/// happens, if the frame is too short.
#[inline]
#[must_use]
pub fn strip<P: Packet>(packet: &mut P) -> bool {
    let Some(head) = packet.data_mut().first_chunk_mut::<{ ADDRESSES + LEN }>() else { return false };
    head.copy_within(..ADDRESSES, LEN);
    packet.trim_front(LEN)
}

/// Puts a tag into a frame. `false`, and nothing happens, if there is no headroom, or if it is too short to be a frame.
#[inline]
#[must_use]
pub fn insert<P: Packet>(packet: &mut P, vlan: u16) -> bool {
    if packet.data().len() < ADDRESSES {
        return false;
    }
    let Some(frame) = packet.prepend(LEN) else { return false };
    frame.copy_within(LEN..LEN + ADDRESSES, 0);
    frame[ADDRESSES..ADDRESSES + LEN].copy_from_slice(&tag(vlan));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::VecPacket;
    use proptest::prelude::*;

    fn frame(kinds: &[u16]) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..ADDRESSES as u8).collect();
        frame.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
        frame.extend([0x45, 0, 0, 20]);
        frame
    }

    const PLACES: [Place; 5] = [
        Place { device: 0, vlan: None },
        Place { device: 0, vlan: Some(100) },
        Place { device: 2, vlan: None },
        Place { device: 0, vlan: Some(200) },
        Place { device: 4, vlan: Some(100) },
    ];

    #[test]
    fn frames_are_sorted_by_their_tag() {
        let trunk = Trunk::new(0, &PLACES).unwrap();
        let sort = |kinds: &[u16]| {
            let mut packet = VecPacket::new(&frame(kinds));
            let port = trunk.sort(&mut packet);
            (port, packet.data().to_vec())
        };
        let plain = frame(&[0x0800]);
        assert_eq!(sort(&[0x0800]), (Ok(0), plain.clone()));
        assert_eq!(sort(&[0x8100, 0xe000, 0x0800]), (Ok(0), plain.clone()));
        assert_eq!(sort(&[0x8100, 0xa064, 0x0800]), (Ok(1), plain.clone()));
        assert_eq!(sort(&[0x8100, 200, 0x0800]), (Ok(3), plain));
        for (kinds, reason) in [
            (&[0x8100, 300, 0x0800][..], DropReason::VlanUnknown),
            (&[0x8100, 4095, 0x0800], DropReason::VlanUnknown),
            (&[0x88a8, 100, 0x0800], DropReason::VlanNested),
            (&[0x8100, 100, 0x8100, 200, 0x0800], DropReason::VlanNested),
        ] {
            assert_eq!(sort(kinds), (Err(reason), frame(kinds)));
        }
        let mut short = VecPacket::new(&frame(&[0x8100, 100])[..16]);
        assert_eq!(trunk.sort(&mut short), Err(DropReason::Truncated));
    }

    #[test]
    fn tags_that_the_port_took_off_count_as_those_in_the_frame() {
        let trunk = Trunk::new(0, &PLACES).unwrap();
        let sort = |control, kinds: &[u16]| {
            let mut packet = VecPacket::new(&frame(kinds)).with_rx_vlan(control);
            let port = trunk.sort(&mut packet);
            assert_eq!(packet.data(), frame(kinds));
            port
        };
        assert_eq!(sort(0xa064, &[0x0800]), Ok(1));
        assert_eq!(sort(0xa000, &[0x0800]), Ok(0));
        assert_eq!(sort(300, &[0x0800]), Err(DropReason::VlanUnknown));
        assert_eq!(sort(100, &[0x8100, 100, 0x0800]), Err(DropReason::VlanNested));
    }

    #[test]
    fn ports_without_vlans_have_no_trunk() {
        assert!(Trunk::new(2, &PLACES).is_none());
        // All of its frames are tagged.
        let trunk = Trunk::new(4, &PLACES).unwrap();
        assert_eq!(trunk.sort(&mut VecPacket::new(&frame(&[0x8100, 100, 0x0800]))), Ok(4));
        let untagged = trunk.sort(&mut VecPacket::new(&frame(&[0x0800])));
        assert_eq!(untagged, Err(DropReason::VlanUnknown));
    }

    proptest! {
        #[test]
        fn strip_undoes_insert(bytes in proptest::collection::vec(any::<u8>(), 0..200), vlan in 1u16..4095) {
            let mut packet = VecPacket::new(&bytes);
            if insert(&mut packet, vlan) {
                prop_assert_eq!(packet.frame_len(), bytes.len() + LEN);
                prop_assert_eq!(&packet.data()[..ADDRESSES], &bytes[..ADDRESSES]);
                prop_assert_eq!(&packet.data()[ADDRESSES + LEN..], &bytes[ADDRESSES..]);
                prop_assert!(strip(&mut packet));
            } else {
                prop_assert!(bytes.len() < ADDRESSES);
            }
            prop_assert_eq!(packet.data(), &bytes[..]);
        }

        #[test]
        fn insert_undoes_strip(id in 1u16..4095, rest in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = frame(&[0x8100, id]);
            bytes.extend(rest);
            let mut packet = VecPacket::new(&bytes);
            prop_assert!(strip(&mut packet));
            prop_assert!(insert(&mut packet, id));
            prop_assert_eq!(packet.data(), &bytes[..]);
        }
    }
}
