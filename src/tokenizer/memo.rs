//! Pieces of a text that came before, with their tokens: most words of a text are repetitions.

use std::ops::Range;

use super::hash::Secret;

/// Enough for most words of a long text, and little beside the vocabulary in the cache.
const MAX_SLOTS: usize = 1 << 13;

/// Where in the text a piece was, and where among the ids its tokens are: nothing is copied. A
/// piece takes the place of another one with the same slot, so no text makes a search long.
#[derive(Debug)]
pub(super) struct Memo {
    slots: Vec<Slot>,
    secret: Secret,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    start: u32,
    bytes: u32,
    first: u32,
    tokens: u32,
}

impl Memo {
    /// For a text of so many bytes.
    pub(super) fn new(bytes: usize) -> Memo {
        let slots = (bytes / 8).next_power_of_two().min(MAX_SLOTS);
        Memo {
            slots: vec![Slot::default(); slots],
            secret: Secret::new(),
        }
    }

    /// Appends the tokens of a piece, which `encode` appends if the piece is new. The text and the
    /// ids are the same ones in all calls, and a piece's tokens depend on its bytes alone.
    pub(super) fn encode(
        &mut self,
        text: &str,
        piece: Range<usize>,
        ids: &mut Vec<u32>,
        encode: impl FnOnce(&str, &mut Vec<u32>),
    ) {
        let bytes = &text.as_bytes()[piece.clone()];
        let hash = self.secret.hash_bytes(bytes) as usize;
        let at = hash & (self.slots.len() - 1);
        let slot = &mut self.slots[at];
        let known = slot.start as usize..(slot.start + slot.bytes) as usize;
        let first = ids.len();
        if &text.as_bytes()[known] == bytes {
            ids.extend_from_within(slot.first as usize..(slot.first + slot.tokens) as usize);
            return;
        }
        encode(&text[piece.clone()], ids);
        // 32 bits hold all positions: see the limit for the length of a text.
        *slot = Slot {
            start: piece.start as u32,
            bytes: bytes.len() as u32,
            first: first as u32,
            tokens: (ids.len() - first) as u32,
        };
    }
}
