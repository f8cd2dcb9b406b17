//! Grouped-query attention over the KV cache.

use std::ops::Range;

use gristmill_kernels::ops::{
    Alibi, Attention, Pairing, Side, attend, layer_norm, rms_norm, rms_scale, rotate, sigmoid_mul,
};

use super::tiles::{self, Attended, Item};
use super::workspace::ThreadSpace;
use super::{Mix, Place, Running, Span};
use crate::model::architecture::{Positions, QueryKeyNorm};
use crate::model::blocks::Block;
use crate::model::weights::{self, HeadNorm, Linear};
use crate::pool::{Rows, Share, Shared, Worker};

impl Running<'_> {
    /// Keys and values of all tokens, and attention of those of the span.
    pub(super) fn attention(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        weights: &weights::Attention,
    ) {
        let (space, shape) = (self.space, &self.pass.config.attention);
        let of_all = [(&weights.key, &space.key), (&weights.value, &space.value)];
        let of_span = [(&weights.query, &space.query)];
        self.project(worker, thread, mix, &of_all, &of_span);
        worker.phase(|share| self.store(share, mix, &weights.key_norm));
        if mix.span.tokens.is_empty() {
            return;
        }
        let stride = query_stride(shape, weights);
        worker.phase(|share| {
            let (query, angles) = (space.query.rows(share), space.angles.rows(share));
            self.attend(share, thread, mix, |token, range, rows| {
                let heads = Heads {
                    row: query.row(token),
                    stride,
                    range,
                    norm: &weights.query_norm,
                };
                let angles = angles.row(mix.span.tokens.start + token);
                self.append(heads, mix.block, angles, rows);
            });
        });
        let gathered = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            self.gather(share, mix.span, tokens.clone(), &weights.sinks, rows);
            if weights.is_gated {
                let query = space.query.rows(share);
                let heads = rows.chunks_exact_mut(shape.value_dim);
                let queries = tokens.flat_map(|token| query.row(token).chunks_exact(stride));
                for (head, query) in heads.zip(queries) {
                    sigmoid_mul(self.pass.level, head, &query[shape.key_dim..]);
                }
            }
        };
        let out = (&weights.output, mix.out);
        self.project_out(worker, thread, mix.span, gathered, out);
    }

    /// Products of the mixer's normed inputs: some of all tokens, others of those of the span only.
    pub(super) fn project(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        of_all: &[(&Linear, &Shared<f32>)],
        of_span: &[(&Linear, &Shared<f32>)],
    ) {
        let together = mix.span.tokens == self.all.tokens;
        let all = &self.all;
        let with_all = if together { of_span } else { &[] };
        let normed = self.normed(all, mix.norm);
        self.products(worker, thread, all, normed, |share, inputs, scratch| {
            for (linear, out) in with_all.iter().chain(of_all) {
                self.linear(share, inputs, scratch, linear, Place::replace(out));
            }
        });
        if together || of_span.is_empty() {
            return;
        }
        let normed = self.normed(mix.span, mix.norm);
        self.products(
            worker,
            thread,
            mix.span,
            normed,
            |share, inputs, scratch| {
                for (linear, out) in of_span {
                    self.linear(share, inputs, scratch, linear, Place::replace(out));
                }
            },
        );
    }

    /// Stores the share's key heads, normed and rotated, and value heads in the cache.
    fn store(&self, share: &Share, mix: Mix<'_>, norm: &HeadNorm) {
        let shape = &self.pass.config.attention;
        let (key, value) = (self.space.key.rows(share), self.space.value.rows(share));
        let angles = self.space.angles.rows(share);
        self.store_heads(share, mix.index, Side::Keys, |head, token, row| {
            let heads = Heads {
                row: key.row(token),
                stride: shape.key_dim,
                range: head..head + 1,
                norm,
            };
            self.append(heads, mix.block, angles.row(token), row);
        });
        self.store_heads(share, mix.index, Side::Values, |head, token, row| {
            let dim = shape.value_dim;
            row.extend_from_slice(&value.row(token)[head * dim..][..dim]);
        });
    }

    /// Stores one side of the share's heads in the cache of a layer, of all tokens.
    pub(super) fn store_heads(
        &self,
        share: &Share,
        layer: usize,
        side: Side,
        mut row: impl FnMut(usize, usize, &mut Vec<f32>),
    ) {
        for sequence in self.pass.sequences {
            let cache = sequence.cache;
            let positions = sequence.position..sequence.position + sequence.tokens.len();
            let (keys, values) = cache.attention(layer);
            let rows = match side {
                Side::Keys => keys,
                Side::Values => values,
            };
            let level = self.pass.level;
            cache.store(share, level, (side, rows), positions, |head, token, to| {
                row(head, sequence.tokens.start + token, to);
            });
        }
    }

    /// Appends heads of a token, which has these angles, as they are compared: normed and rotated.
    fn append(&self, heads: Heads<'_>, block: &Block, angles: &[f32], rows: &mut Vec<f32>) {
        let dim = self.pass.config.attention.key_dim;
        let first = rows.len();
        for head in heads.range.clone() {
            rows.extend_from_slice(&heads.row[head * heads.stride..][..dim]);
        }
        let is_late = heads.norm.kind == QueryKeyNorm::RotatedHead;
        if !is_late {
            self.norm_heads(&heads, first, rows);
        }
        self.rotate(block, angles, dim, &mut rows[first..]);
        if is_late {
            self.norm_heads(&heads, first, rows);
        }
    }

    /// Norms heads, which begin at `first`.
    fn norm_heads(&self, heads: &Heads<'_>, first: usize, rows: &mut Vec<f32>) {
        let (level, epsilon) = (self.pass.level, self.pass.config.norm_epsilon);
        let dim = self.pass.config.attention.key_dim;
        let HeadNorm { kind, weight } = heads.norm;
        let own = heads.range.start * dim..heads.range.end * dim;
        match kind {
            QueryKeyNorm::None => {}
            QueryKeyNorm::Row => {
                let scale = rms_scale(level, heads.row, epsilon);
                for (value, weight) in rows[first..].iter_mut().zip(&weight[own]) {
                    *value *= scale * weight;
                }
            }
            QueryKeyNorm::Head | QueryKeyNorm::RotatedHead | QueryKeyNorm::OwnHead => {
                rows.extend_from_within(first..);
                let (out, values) = rows[first..].split_at_mut(own.len());
                if *kind == QueryKeyNorm::OwnHead {
                    let heads = values.chunks_exact(dim).zip(out.chunks_exact_mut(dim));
                    for ((head, out), weight) in heads.zip(weight[own.clone()].chunks_exact(dim)) {
                        layer_norm(level, head, weight, epsilon, out);
                    }
                } else {
                    rms_norm(level, values, weight, epsilon, out);
                }
                rows.truncate(first + own.len());
            }
        }
    }

    /// Rotates heads of `dim` values by the angles of their token.
    pub(super) fn rotate(&self, block: &Block, angles: &[f32], dim: usize, heads: &mut [f32]) {
        let config = self.pass.config;
        let Some(rope) = block.rope else {
            return;
        };
        let pairing = match config.architecture.positions {
            Positions::Rope(pairing) | Positions::RopeExceptFourth(pairing) => pairing,
            Positions::Baichuan => Pairing::Adjacent,
            Positions::Learned => return,
        };
        let before = config.ropes[..rope].iter();
        let before: usize = before.map(|rope| 2 * rope.pairs()).sum();
        let pairs = config.ropes[rope].pairs();
        let (cos, sin) = angles[before..][..2 * pairs].split_at(pairs);
        rotate(self.pass.level, pairing, cos, sin, dim, heads);
    }

    /// A share of the attention items. `queries` appends query heads of a token of the span, as they are
    /// compared.
    pub(super) fn attend(
        &self,
        share: &Share,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        queries: impl Fn(usize, Range<usize>, &mut Vec<f32>),
    ) {
        let (pass, span) = (self.pass, mix.span);
        let (shape, scaling) = (&pass.config.attention, &pass.config.scaling);
        let attended = &self.space.attended[span.attended];
        let cols = attended.cols();
        let (range, attended) = attended.rows_mut(share);
        let item_shape = Attended::new(shape);
        let group = item_shape.group;
        for (item, out) in range.zip(attended.chunks_exact_mut(cols)) {
            let Item {
                sequence,
                heads,
                tokens,
                positions,
            } = span.tiles.item(item);
            let heads = heads * group..(heads + 1) * group;
            let key_head = heads.start / shape.group();
            let cache = pass.sequences[sequence].cache;
            let (keys, values) = cache.attention(mix.index);
            thread.rows.clear();
            thread.visible.clear();
            thread.alibi.clear();
            for token in tokens.clone() {
                let first = thread.rows.len();
                queries(token, heads.clone(), &mut thread.rows);
                let (sequence, position) = pass.sequence(span.tokens.start + token);
                let known = sequence.position + sequence.tokens.len();
                let scale = scaling.score_at(position);
                for value in &mut thread.rows[first..] {
                    *value *= scale;
                }
                let visible = mix.block.visible(position, &positions, known);
                thread.visible.extend(std::iter::repeat_n(visible, group));
                if shape.alibi {
                    thread.alibi.extend(heads.clone().map(|head| Alibi {
                        slope: shape.alibi_slope(head),
                        position,
                    }));
                }
            }
            let attention = Attention {
                queries: &thread.rows,
                visible: &thread.visible,
                alibi: &thread.alibi,
                soft_cap: scaling.score_cap,
                keys: (cache.keys, keys.row(share, key_head)),
                values: (cache.values, values.row(share, key_head)),
            };
            let (outputs, softmax) = item_shape.split_mut(out);
            let outputs = &mut outputs[..tokens.len() * item_shape.outputs()];
            attend(pass.level, attention, &mut thread.attention, outputs);
            let found = thread.attention.softmax();
            softmax[..found.len()].copy_from_slice(found);
        }
    }

    /// Appends what attention left in its items, token by token. `sinks` are one logit per query head, or
    /// none.
    pub(super) fn gather(
        &self,
        share: &Share,
        span: &Span,
        tokens: Range<usize>,
        sinks: &[f32],
        rows: &mut Vec<f32>,
    ) {
        let attended = self.space.attended[span.attended].rows(share);
        let group = Attended::new(&self.pass.config.attention).group;
        for token in tokens {
            for heads in 0..tiles::groups(&self.pass.config.attention) {
                let sinks = sinks.chunks(group).nth(heads).unwrap_or_default();
                self.gather_heads(attended, span, token, (heads, 0..group), sinks, rows);
            }
        }
    }

    /// Appends some query heads of a group of a token, from the items of the span.
    pub(super) fn gather_heads(
        &self,
        attended: Rows<'_, f32>,
        span: &Span,
        token: usize,
        (heads, range): (usize, Range<usize>),
        sinks: &[f32],
        rows: &mut Vec<f32>,
    ) {
        let shape = Attended::new(&self.pass.config.attention);
        let (parts, place) = span.tiles.find(heads, token);
        let places = parts.map(|item| shape.split(attended.row(item), place));
        shape.merge(places, range, sinks, rows);
    }
}

/// Some heads of a token's queries or keys.
struct Heads<'a> {
    /// All heads of the token, `stride` values from one to the next.
    row: &'a [f32],
    stride: usize,
    range: Range<usize>,
    norm: &'a HeadNorm,
}

/// Values from a query head to the next: behind each may lie what its output is gated by.
fn query_stride(shape: &crate::model::AttentionShape, weights: &weights::Attention) -> usize {
    shape.key_dim + if weights.is_gated { shape.value_dim } else { 0 }
}
