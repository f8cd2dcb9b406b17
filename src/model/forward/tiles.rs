//! How attention is cut into items that threads can take, and put together again.

use std::ops::Range;

use super::Sequence;
use crate::model::AttentionShape;

/// Rows of queries that attention takes at a time: enough that reading a key costs little.
const ATTENTION_ROWS: usize = 56;

/// Query heads of an item, at most: of many that share a key head not one thread should do all.
const ATTENTION_HEADS: usize = 8;

/// Positions of a part of a context. Only a few tokens are cut so: otherwise there are items enough.
/// It does not depend on the number of threads, nor does the result.
const PART_POSITIONS: usize = 1024;

/// What a few tokens are: at least as many as products take without summing in another order than one
/// token's, so that attention does not either.
const FEW_TOKENS: usize = 16;

/// How attention over the tokens of several sequences is cut into items: those of one after those of the
/// other.
#[derive(Clone, Debug)]
pub(super) struct AllTiles {
    parts: Vec<Part>,
}

/// The tokens of one sequence.
#[derive(Clone, Debug)]
struct Part {
    /// Which sequence of the pass.
    sequence: usize,
    /// Counted from the first of all.
    tokens: Range<usize>,
    tiles: Tiles,
    first_item: usize,
}

/// An item of attention.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) sequence: usize,
    /// Group of query heads.
    pub(super) heads: usize,
    /// Counted from the first of all.
    pub(super) tokens: Range<usize>,
    /// What the tokens may see.
    pub(super) positions: Range<usize>,
}

impl AllTiles {
    /// Of the tokens `tokens` of a pass.
    pub(super) fn new(
        shape: &AttentionShape,
        sequences: &[Sequence<'_>],
        tokens: &Range<usize>,
    ) -> Self {
        let mut parts = Vec::with_capacity(sequences.len());
        let mut first_item = 0;
        for (index, sequence) in sequences.iter().enumerate() {
            let start = sequence.tokens.start.max(tokens.start);
            let end = sequence.tokens.end.min(tokens.end);
            if start < end {
                // An encoder's token sees those behind it, too.
                let positions = sequence.position + sequence.tokens.len();
                let tiles = Tiles::new(shape, end - start, positions);
                parts.push(Part {
                    sequence: index,
                    tokens: start - tokens.start..end - tokens.start,
                    tiles,
                    first_item,
                });
                first_item += tiles.items();
            }
        }
        Self { parts }
    }

    pub(super) fn items(&self) -> usize {
        self.parts.iter().map(|part| part.tiles.items()).sum()
    }

    /// Tokens of an item, at most.
    pub(super) fn tile_tokens(&self) -> usize {
        let tokens = self.parts.iter().map(|part| part.tiles.tile_tokens);
        tokens.max().unwrap_or(0)
    }

    pub(super) fn item(&self, item: usize) -> Item {
        let after = self.parts.partition_point(|part| part.first_item <= item);
        let part = &self.parts[after - 1];
        let (heads, tokens, positions) = part.tiles.item(item - part.first_item);
        Item {
            sequence: part.sequence,
            heads,
            tokens: part.tokens.start + tokens.start..part.tokens.start + tokens.end,
            positions: part.tiles.positions(positions),
        }
    }

    /// The items of a group of query heads and a token, and the token's place in them.
    pub(super) fn find(&self, heads: usize, token: usize) -> (Range<usize>, usize) {
        let part = self.parts.partition_point(|part| part.tokens.end <= token);
        let part = &self.parts[part];
        let (items, place) = part.tiles.find(heads, token - part.tokens.start);
        let first = part.first_item;
        (first + items.start..first + items.end, place)
    }
}

/// How attention over some tokens of a sequence is cut into items: query heads that share a key head, a tile of tokens,
/// and, where there are few tokens, a part of the positions.
///
/// Later tokens see more. So that contiguous shares cost the same, tiles come from both ends by
/// turns: 0, n - 1, 1, n - 2, …
#[derive(Clone, Copy, Debug)]
struct Tiles {
    tokens: usize,
    tile_tokens: usize,
    /// Groups of query heads.
    heads: usize,
    parts: usize,
}

impl Tiles {
    /// `positions` are all that a token can see.
    fn new(shape: &AttentionShape, tokens: usize, positions: usize) -> Self {
        let group = group(shape);
        let tile_tokens = (ATTENTION_ROWS / group).clamp(1, tokens.max(1));
        Self {
            tokens,
            tile_tokens,
            heads: groups(shape),
            parts: if tokens <= FEW_TOKENS {
                positions.div_ceil(PART_POSITIONS)
            } else {
                1
            },
        }
    }

    fn tiles(&self) -> usize {
        self.tokens.div_ceil(self.tile_tokens)
    }

    fn items(&self) -> usize {
        self.tiles() * self.heads * self.parts
    }

    /// Positions of a part.
    fn positions(&self, part: usize) -> Range<usize> {
        if self.parts == 1 {
            0..usize::MAX
        } else {
            part * PART_POSITIONS..(part + 1) * PART_POSITIONS
        }
    }

    /// Group of query heads, tokens and part of an item.
    fn item(&self, item: usize) -> (usize, Range<usize>, usize) {
        let (item, part) = (item / self.parts, item % self.parts);
        let (turn, head) = (item / self.heads, item % self.heads);
        let tile = if turn.is_multiple_of(2) {
            turn / 2
        } else {
            self.tiles() - 1 - turn / 2
        };
        let start = tile * self.tile_tokens;
        (head, start..self.tokens.min(start + self.tile_tokens), part)
    }

    /// The items of a group of query heads and a token, one per part, and the token's place in them.
    fn find(&self, head: usize, token: usize) -> (Range<usize>, usize) {
        let (tile, place) = (token / self.tile_tokens, token % self.tile_tokens);
        let from_end = self.tiles() - 1 - tile;
        let turn = if tile <= from_end {
            2 * tile
        } else {
            2 * from_end + 1
        };
        let first = (turn * self.heads + head) * self.parts;
        (first..first + self.parts, place)
    }
}

/// Groups of query heads.
pub(super) fn groups(shape: &AttentionShape) -> usize {
    shape.head_count / group(shape)
}

/// Query heads of an item: as many of those that share a key head as divide them.
fn group(shape: &AttentionShape) -> usize {
    let divides = |count: &usize| shape.group().is_multiple_of(*count);
    (1..=ATTENTION_HEADS).rev().find(divides).unwrap_or(1)
}

/// How an item of attention lies in its row: for each token the outputs of the query heads,
/// `[tile tokens, group, value_dim]`, then of each the largest score and the sum of its exponentials,
/// `[tile tokens, group]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attended {
    /// Query heads of an item.
    pub(super) group: usize,
    value_dim: usize,
}

impl Attended {
    pub(super) fn new(shape: &AttentionShape) -> Self {
        Self {
            group: group(shape),
            value_dim: shape.value_dim,
        }
    }

    /// Values of a token's outputs.
    pub(super) fn outputs(self) -> usize {
        self.group * self.value_dim
    }

    /// Values of a token.
    pub(super) fn place(self) -> usize {
        self.outputs() + 2 * self.group
    }

    /// Where the softmax of an item begins.
    fn softmax_start(self, item: &[f32]) -> usize {
        item.len() / self.place() * self.outputs()
    }

    /// Outputs and softmax of all tokens of an item.
    pub(super) fn split_mut(self, item: &mut [f32]) -> (&mut [f32], &mut [[f32; 2]]) {
        let (outputs, softmax) = item.split_at_mut(self.softmax_start(item));
        (outputs, softmax.as_chunks_mut().0)
    }

    /// Outputs and softmax of the token at `place` of an item.
    pub(super) fn split(self, item: &[f32], place: usize) -> (&[f32], &[[f32; 2]]) {
        let (outputs, softmax) = item.split_at(self.softmax_start(item));
        (
            &outputs[place * self.outputs()..][..self.outputs()],
            &softmax.as_chunks().0[place * self.group..][..self.group],
        )
    }

    /// Appends the outputs of a token's query heads `heads`: those of its parts, each weighted with its
    /// share of the softmax. `sinks` are further logits, one per head of the item or none, which nothing
    /// belongs to.
    pub(super) fn merge<'a>(
        self,
        parts: impl Iterator<Item = (&'a [f32], &'a [[f32; 2]])> + Clone,
        heads: Range<usize>,
        sinks: &[f32],
        to: &mut Vec<f32>,
    ) {
        let start = to.len();
        to.resize(start + heads.len() * self.value_dim, 0.0);
        for (row, to) in heads.zip(to[start..].chunks_exact_mut(self.value_dim)) {
            let softmax = parts.clone().map(|(_, softmax)| softmax[row]);
            let sink = sinks.get(row).map(|&sink| [sink, 1.0]);
            let largest = softmax
                .clone()
                .chain(sink)
                .fold(f32::NEG_INFINITY, |max, [value, _]| max.max(value));
            let weight = |[value, sum]: [f32; 2]| (value - largest).exp() * sum;
            let total: f32 = softmax.clone().chain(sink).map(weight).sum();
            for ((outputs, _), softmax) in parts.clone().zip(softmax) {
                let weight = weight(softmax) / total;
                let outputs = &outputs[row * self.value_dim..];
                for (to, value) in to.iter_mut().zip(outputs) {
                    *to += weight * value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_token_of_every_head_once() {
        for (tokens, tile_tokens, heads, parts) in
            [(1, 1, 3, 2), (7, 2, 1, 3), (8, 2, 2, 1), (100, 8, 5, 1)]
        {
            let tiles = Tiles {
                tokens,
                tile_tokens,
                heads,
                parts,
            };
            let mut seen = 0;
            for item in 0..tiles.items() {
                let (head, range, part) = tiles.item(item);
                for (place, token) in range.enumerate() {
                    let (items, found) = tiles.find(head, token);
                    assert_eq!((items.start + part, found), (item, place), "{tiles:?}");
                    assert_eq!(items.len(), parts, "{tiles:?}");
                    seen += 1;
                }
            }
            assert_eq!(seen, tokens * heads * parts, "{tiles:?}");
        }
    }

    #[test]
    fn parts_of_a_softmax_make_the_whole() {
        let shape = Attended {
            group: 1,
            value_dim: 2,
        };
        // Scores 0 and ln 3 see 1 and 2, score 1 sees 4; the last part sees nothing.
        let (three, e) = (3.0_f32.ln(), std::f32::consts::E);
        let first = [(1.0 + 3.0 * 2.0) / 4.0, 0.0, three, (-three).exp() + 1.0];
        let (second, third) = ([4.0, 8.0, 1.0, 1.0], [0.0, 0.0, f32::NEG_INFINITY, 0.0]);
        let parts = [&first, &second, &third].map(|item| shape.split(item, 0));
        for (sinks, sink) in [(&[][..], 0.0), (&[2.0_f32.ln()], 2.0)] {
            let mut merged = vec![9.0];
            shape.merge(parts.into_iter(), 0..1, sinks, &mut merged);
            let total = 1.0 + 3.0 + e + sink;
            let expected = [9.0, (1.0 + 6.0 + 4.0 * e) / total, 8.0 * e / total];
            for (found, expected) in merged.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{merged:?}");
            }
        }
    }
}
