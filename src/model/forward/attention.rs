//! Grouped-query attention over the KV cache.

use std::ops::Range;

use gristmill_kernels::ops::{
    Alibi, Pairing, Side, attend, layer_norm, rms_norm, rms_scale, rotate,
};

use super::tiles::Attended;
use super::{Place, Running, Span, ThreadSpace};
use crate::cache::LayerCache;
use crate::model::architecture::{Positions, QueryKeyNorm};
use crate::model::config::Block;
use crate::model::weights::{Attention, HeadNorm, Norm};
use crate::pool::{Share, Worker};

/// What one block's attention is made of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) block: &'a Block,
    pub(super) norm: Option<&'a Norm>,
    pub(super) weights: &'a Attention,
    pub(super) cache: &'a LayerCache,
}

impl Running<'_> {
    /// Keys and values of all tokens, and attention of those of `span`.
    pub(super) fn attention(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        parts: Parts<'_>,
        out: Place<'_>,
    ) {
        let space = self.space;
        let Parts { norm, weights, .. } = parts;
        let query = (&weights.query, &space.query);
        let both = [(&weights.key, &space.key), (&weights.value, &space.value)];
        let together = span.tokens == self.all.tokens;
        let all = &self.all;
        let normed = self.normed(all, norm);
        self.products(worker, thread, all, normed, |share, inputs, scratch| {
            for (linear, out) in together.then_some(query).into_iter().chain(both) {
                self.linear(share, inputs, scratch, linear, Place::replace(out));
            }
        });
        if !together {
            let normed = self.normed(span, norm);
            self.products(worker, thread, span, normed, |share, inputs, scratch| {
                let (linear, out) = query;
                self.linear(share, inputs, scratch, linear, Place::replace(out));
            });
        }
        worker.phase(|share| self.store(share, parts));
        if span.tokens.is_empty() {
            return;
        }
        worker.phase(|share| self.attend(share, thread, span, parts));
        let gathered = |share: &Share, tokens, rows: &mut _| {
            self.gather(share, span, tokens, &weights.sinks, rows);
            self.scale_branch(rows);
        };
        self.products(worker, thread, span, gathered, |share, inputs, scratch| {
            self.linear(share, inputs, scratch, &weights.output, out);
        });
    }

    /// Stores the share's key heads, normed and rotated, and value heads in the cache.
    fn store(&self, share: &Share, parts: Parts<'_>) {
        let pass = self.pass;
        let (cache, layer) = (pass.cache, parts.cache);
        let shape = &pass.config.attention;
        let positions = pass.position..pass.position + pass.tokens.len();
        let (key, value) = (self.space.key.read(share), self.space.value.read(share));
        let angles = self.space.angles.read(share);
        let keys = (Side::Keys, &layer.keys);
        cache.store(
            share,
            pass.level,
            keys,
            positions.clone(),
            |head, token, row| {
                let heads = Heads {
                    row: &key[token * shape.key_length()..][..shape.key_length()],
                    range: head..head + 1,
                    norm: &parts.weights.key_norm,
                };
                self.append(heads, parts.block, self.angles(angles, token), row);
            },
        );
        let values = (Side::Values, &layer.values);
        cache.store(share, pass.level, values, positions, |head, token, row| {
            let start = token * shape.value_length() + head * shape.value_dim;
            row.extend_from_slice(&value[start..][..shape.value_dim]);
        });
    }

    /// Appends heads as they are compared: normed and rotated.
    fn append(&self, heads: Heads<'_>, block: &Block, angles: &[f32], rows: &mut Vec<f32>) {
        let (level, epsilon) = (self.pass.level, self.pass.config.norm_epsilon);
        let dim = self.pass.config.attention.key_dim;
        let Heads { row, range, norm } = heads;
        let HeadNorm { kind, weight } = norm;
        let values = range.start * dim..range.end * dim;
        let first = rows.len();
        rows.extend_from_slice(&row[values.clone()]);
        let out = &mut rows[first..];
        match kind {
            QueryKeyNorm::None | QueryKeyNorm::RotatedHead => {}
            QueryKeyNorm::Head => rms_norm(level, &row[values], weight, epsilon, out),
            QueryKeyNorm::Row => {
                let scale = rms_scale(level, row, epsilon);
                for (out, weight) in out.iter_mut().zip(&weight[values]) {
                    *out *= scale * weight;
                }
            }
            QueryKeyNorm::OwnHead => {
                let weights = weight[values.clone()].chunks_exact(dim);
                let heads = row[values].chunks_exact(dim).zip(out.chunks_exact_mut(dim));
                for ((head, out), weight) in heads.zip(weights) {
                    layer_norm(level, head, weight, epsilon, out);
                }
            }
        }
        self.rotate(block, angles, dim, out);
        if *kind == QueryKeyNorm::RotatedHead {
            rows.extend_from_within(first..);
            let (out, rotated) = rows[first..].split_at_mut(range.len() * dim);
            rms_norm(level, rotated, weight, epsilon, out);
            rows.truncate(first + range.len() * dim);
        }
    }

    /// Rotates heads of `dim` values by the angles of their token.
    fn rotate(&self, block: &Block, angles: &[f32], dim: usize, heads: &mut [f32]) {
        let config = self.pass.config;
        let Some(rope) = block.rope else {
            return;
        };
        let pairing = match config.architecture.positions {
            Positions::Rope(pairing) | Positions::RopeExceptFourth(pairing) => pairing,
            Positions::Baichuan => Pairing::Adjacent,
            Positions::Learned => return,
        };
        let before: usize = config.ropes[..rope]
            .iter()
            .map(|rope| 2 * rope.pairs())
            .sum();
        let pairs = config.ropes[rope].pairs();
        let (cos, sin) = angles[before..][..2 * pairs].split_at(pairs);
        rotate(self.pass.level, pairing, cos, sin, dim, heads);
    }

    /// A share of the attention items.
    fn attend(&self, share: &Share, thread: &mut ThreadSpace, span: &Span, parts: Parts<'_>) {
        let pass = self.pass;
        let (shape, scaling) = (&pass.config.attention, &pass.config.scaling);
        let query = self.space.query.read(share);
        let angles = self.space.angles.read(share);
        let attended = &self.space.attended[span.attended];
        let cols = attended.cols();
        let (range, attended) = attended.rows_mut(share);
        let item_shape = Attended::new(shape);
        let group = shape.group();
        for (item, out) in range.zip(attended.chunks_exact_mut(cols)) {
            let (head, tokens, part) = span.tiles.item(item);
            let positions = span.tiles.positions(part);
            thread.rows.clear();
            thread.visible.clear();
            thread.alibi.clear();
            for token in tokens.clone() {
                let heads = Heads {
                    row: &query[token * shape.query_length()..][..shape.query_length()],
                    range: head * group..(head + 1) * group,
                    norm: &parts.weights.query_norm,
                };
                let token = span.tokens.start + token;
                let position = pass.position + token;
                let first = thread.rows.len();
                self.append(
                    heads.clone(),
                    parts.block,
                    self.angles(angles, token),
                    &mut thread.rows,
                );
                let temperature = scaling.temperature.map_or(1.0, |scale| scale.at(position));
                for value in &mut thread.rows[first..] {
                    *value *= scaling.score * temperature;
                }
                let visible = parts.block.visible(position, &positions);
                thread.visible.extend(std::iter::repeat_n(visible, group));
                if shape.alibi {
                    thread.alibi.extend(heads.range.map(|head| Alibi {
                        slope: shape.alibi_slope(head),
                        position,
                    }));
                }
            }
            let attention = gristmill_kernels::ops::Attention {
                queries: &thread.rows,
                visible: &thread.visible,
                alibi: &thread.alibi,
                soft_cap: scaling.score_cap,
                keys: (pass.cache.keys, parts.cache.keys.row(share, head)),
                values: (pass.cache.values, parts.cache.values.row(share, head)),
            };
            let (outputs, softmax) = item_shape.split_mut(out);
            let outputs = &mut outputs[..tokens.len() * item_shape.outputs()];
            attend(pass.level, attention, &mut thread.attention, outputs);
            let found = thread.attention.softmax();
            softmax[..found.len()].copy_from_slice(found);
        }
    }

    /// What attention left in its items, token by token.
    fn gather(
        &self,
        share: &Share,
        span: &Span,
        tokens: Range<usize>,
        sinks: &[f32],
        rows: &mut Vec<f32>,
    ) {
        let attended = &self.space.attended[span.attended];
        let items = attended.read(share).chunks_exact(attended.cols());
        let shape = Attended::new(&self.pass.config.attention);
        for token in tokens {
            for head in 0..span.tiles.heads {
                let (parts, place) = span.tiles.find(head, token);
                let places = items.clone().skip(parts.start).take(parts.len());
                let sinks = sinks.chunks(shape.group).nth(head).unwrap_or_default();
                shape.merge(places.map(|item| shape.split(item, place)), sinks, rows);
            }
        }
    }
}

/// Some heads of a token's queries or keys.
#[derive(Clone)]
struct Heads<'a> {
    /// All heads of the token.
    row: &'a [f32],
    range: Range<usize>,
    norm: &'a HeadNorm,
}
