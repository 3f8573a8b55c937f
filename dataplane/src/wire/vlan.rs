//! VLAN tags (IEEE 802.1Q clause 9): four bytes between the source address and the EtherType of a frame.

use super::ethernet::{self, ethertype};
use super::{Malformed, be16};

/// Length of a tag.
pub const LEN: usize = 4;

/// Both hardware addresses, in front of the tag.
pub const ADDRESSES: usize = ethernet::LEN - 2;

/// The VLAN identifier within the tag control information; priority and drop eligibility are above it.
const ID: u16 = 0x0fff;

/// What a frame says about its VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// It has no tag.
    None,
    /// Tagged with a priority alone: the null identifier (clause 9.6).
    Priority,
    /// Of this VLAN.
    Vlan(u16),
    /// A second tag follows the first, or the tag is one that a provider's bridges add (clause 9.5).
    Nested,
}

/// Whether a tag, not a protocol, follows.
const fn is_tag(kind: u16) -> bool {
    matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN)
}

impl Tag {
    /// The tag in a frame. Fails if the frame ends within it or before the EtherType behind it. What is too short for
    /// any header has no tag.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let Some(header) = frame.first_chunk::<{ ethernet::LEN }>() else { return Ok(Self::None) };
        match be16(header, ADDRESSES) {
            ethertype::VLAN => {
                let tagged: &[u8; ethernet::LEN + LEN] = frame.first_chunk().ok_or(Malformed::Truncated)?;
                let inner = be16(tagged, ADDRESSES + LEN);
                Ok(if is_tag(inner) { Self::Nested } else { Self::of(be16(tagged, ethernet::LEN)) })
            }
            ethertype::SERVICE_VLAN => Ok(Self::Nested),
            _ => Ok(Self::None),
        }
    }

    /// The tag that the port has taken off `frame`, by its tag control information.
    pub fn stripped(control: u16, frame: &[u8]) -> Self {
        match frame.first_chunk::<{ ethernet::LEN }>() {
            Some(header) if is_tag(be16(header, ADDRESSES)) => Self::Nested,
            _ => Self::of(control),
        }
    }

    const fn of(control: u16) -> Self {
        match control & ID {
            0 => Self::Priority,
            id => Self::Vlan(id),
        }
    }
}

/// A tag for VLAN `id`, with the lowest priority.
pub const fn tag(id: u16) -> [u8; LEN] {
    let [kind, control] = [ethertype::VLAN.to_be_bytes(), (id & ID).to_be_bytes()];
    [kind[0], kind[1], control[0], control[1]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kinds: &[u16]) -> Vec<u8> {
        let mut frame = vec![2; ADDRESSES];
        frame.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
        frame
    }

    #[test]
    fn tags_are_told_apart() {
        let seen = |kinds: &[u16]| Tag::parse(&frame(kinds));
        assert_eq!(seen(&[0x0800]), Ok(Tag::None));
        assert_eq!(seen(&[0x8100, 100, 0x0800]), Ok(Tag::Vlan(100)));
        // Priority and drop eligibility are no part of the identifier.
        assert_eq!(seen(&[0x8100, 0xfffe, 0x86dd]), Ok(Tag::Vlan(4094)));
        assert_eq!(seen(&[0x8100, 0xe000, 0x0806]), Ok(Tag::Priority));
        assert_eq!(seen(&[0x8100, 100, 0x8100, 200, 0x0800]), Ok(Tag::Nested));
        assert_eq!(seen(&[0x8100, 0, 0x88a8, 200, 0x0800]), Ok(Tag::Nested));
        assert_eq!(seen(&[0x88a8, 100, 0x8100, 200, 0x0800]), Ok(Tag::Nested));
        assert_eq!(Tag::stripped(0x6000 | 7, &frame(&[0x0800])), Tag::Vlan(7));
        assert_eq!(Tag::stripped(0x6000, &frame(&[0x0800])), Tag::Priority);
        assert_eq!(Tag::stripped(7, &frame(&[0x8100, 8, 0x0800])), Tag::Nested);
    }

    proptest! {
        #[test]
        fn parse_undoes_tag(id in 1u16..4095, kind in (0u16..).prop_filter("no tag", |kind| !is_tag(*kind))) {
            let mut frame = vec![2; ADDRESSES];
            frame.extend(tag(id));
            frame.extend(kind.to_be_bytes());
            prop_assert_eq!(Tag::parse(&frame), Ok(Tag::Vlan(id)));
        }

        #[test]
        fn a_frame_that_ends_within_the_tag_fails(control: u16, cut in ethernet::LEN..ethernet::LEN + LEN) {
            let mut frame = frame(&[0x8100, control, 0x0800]);
            frame.truncate(cut);
            prop_assert_eq!(Tag::parse(&frame), Err(Malformed::Truncated));
        }

        #[test]
        fn no_bytes_panic(frame in proptest::collection::vec(any::<u8>(), 0..40), control: u16) {
            let _ = Tag::parse(&frame);
            let _ = Tag::stripped(control, &frame);
        }
    }
}
