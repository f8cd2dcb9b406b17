//! The buffers of a pass, kept from pass to pass.

use std::ops::Range;
use std::sync::Mutex;

use gristmill_kernels::ops::{Alibi, AttentionScratch};
use gristmill_kernels::{InputGroup, Scratch};

use super::experts::Plan;
use super::latent::LatentSpace;
use super::recurrent::RecurrentSpace;
use super::tiles::{AllTiles, Attended};
use crate::model::config::Config;
use crate::model::experts::Route;
use crate::pool::{Pool, Shared};

/// The buffers of a pass. Matrices are `[tokens, …]`, unless said.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// `[tokens, embedding_length]`: the residual stream.
    pub(super) residual: Shared<f32>,
    /// `[tokens, 2 * pairs]`: cosines and sines of RoPE, one table of the model behind the other.
    pub(super) angles: Shared<f32>,
    /// The inputs of the next products, one row per group.
    pub(super) inputs: Shared<InputGroup>,
    pub(super) query: Shared<f32>,
    pub(super) key: Shared<f32>,
    pub(super) value: Shared<f32>,
    /// One row per item of [`AllTiles`]: of all tokens, and of those whose logits are wanted.
    pub(super) attended: [Shared<f32>; 2],
    pub(super) latent: LatentSpace,
    pub(super) recurrent: RecurrentSpace,
    /// Of a dense network or a shared expert; a layer uses as many columns as that is wide.
    pub(super) gate: Shared<f32>,
    pub(super) up: Shared<f32>,
    /// `[tokens, 1]`: what the output of a shared expert is gated by.
    pub(super) sigmoid_gate: Shared<f32>,
    /// `[tokens, experts]`
    pub(super) router: Shared<f32>,
    /// `[tokens, experts in use]`
    pub(super) routes: Shared<Route>,
    /// `[tokens * experts in use, …]`: gate and up of the experts that tokens are routed to.
    pub(super) routed: [Shared<f32>; 2],
    /// `[tokens, embedding_length]`: the outputs of the mixer or of the feed-forward network, where a norm
    /// comes before they are added to the residual stream.
    pub(super) branch: Shared<f32>,
    /// `[tokens asked for, vocab]`, or `[tokens asked for, embedding_length]` where logits are not wanted.
    pub(crate) logits: Shared<f32>,
    /// One per thread, which holds it during a pass.
    pub(super) threads: Vec<Mutex<ThreadSpace>>,
}

/// What each thread needs for itself.
#[derive(Debug, Default)]
pub(super) struct ThreadSpace {
    /// The inputs, if there is but one group.
    pub(super) input: InputGroup,
    pub(super) products: Scratch,
    pub(super) attention: AttentionScratch,
    pub(super) rows: Vec<f32>,
    pub(super) visible: Vec<Range<usize>>,
    pub(super) alibi: Vec<Alibi>,
    pub(super) plan: Plan,
    pub(super) outputs: Vec<f32>,
}

impl Workspace {
    pub(crate) fn new(pool: &Pool) -> Self {
        let floats = || Shared::new(pool);
        Self {
            residual: floats(),
            angles: floats(),
            inputs: Shared::new(pool),
            query: floats(),
            key: floats(),
            value: floats(),
            attended: [floats(), floats()],
            latent: LatentSpace::new(pool),
            recurrent: RecurrentSpace::new(pool),
            gate: floats(),
            up: floats(),
            sigmoid_gate: floats(),
            router: floats(),
            routes: Shared::new(pool),
            routed: [floats(), floats()],
            branch: floats(),
            logits: floats(),
            threads: (0..pool.threads()).map(|_| Mutex::default()).collect(),
        }
    }

    /// Brings the buffers into the shape of a pass over so many tokens, in at most so many groups.
    pub(super) fn reshape(&mut self, config: &Config, tokens: usize, mut groups: usize) {
        let shape = &config.attention;
        let angles = config.ropes.iter().map(|rope| 2 * rope.pairs()).sum();
        let width = config.sizes.embedding_length;
        let gates = if config.architecture.gates_attention() {
            shape.attended_length()
        } else {
            0
        };
        let zero = || 0.0;
        for (buffer, cols) in [
            (&mut self.residual, width),
            (&mut self.angles, angles),
            (&mut self.query, shape.query_length() + gates),
            (&mut self.key, shape.key_length()),
            (&mut self.value, shape.value_length()),
            (&mut self.gate, config.widest_feed_forward()),
            (&mut self.up, config.widest_feed_forward()),
            (&mut self.sigmoid_gate, 1),
            (&mut self.branch, width),
        ] {
            buffer.reshape(tokens, cols, zero);
        }
        if let Some(experts) = &config.experts {
            let used = experts.expert_used_count;
            groups = groups.max(tokens * used);
            self.router.reshape(tokens, experts.expert_count, zero);
            self.routes.reshape(tokens, used, Route::default);
            for buffer in &mut self.routed {
                buffer.reshape(tokens * used, experts.feed_forward_length, zero);
            }
        }
        self.inputs.reshape(groups, 1, InputGroup::new);
        for block in &config.blocks {
            self.latent.reshape(block, shape.head_count, tokens);
            self.recurrent.reshape(block, width, tokens);
        }
    }

    /// Brings one of the buffers of attention into the shape of its items.
    pub(super) fn reshape_attended(&mut self, buffer: usize, config: &Config, tiles: &AllTiles) {
        let place = Attended::new(&config.attention).place();
        self.attended[buffer].reshape(tiles.items(), tiles.tile_tokens() * place, || 0.0);
    }
}
