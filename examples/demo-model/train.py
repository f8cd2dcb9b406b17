#!/usr/bin/env python3
"""Makes demo.gguf: tells stories, learns a vocabulary from them, trains a small llama on them.

Needs numpy and JAX's CPU package. The same seed and steps give the same stories, vocabulary and
order of batches; the weights may differ in their last bits between machines, because sums are
taken in another order.
"""

import argparse
import functools
import math
import random
import time

import jax
import jax.numpy as jnp
import numpy as np

import gguf_file
import grammar
import tokenizer

VOCABULARY = 1536
WIDTH = 128
LAYERS = 5
HEADS = 4
KV_HEADS = 2
HEAD = 32
HIDDEN = 352
CONTEXT = 512
SHORT = 224  # positions in a short row: a story and the beginning of another
ROPE_BASE = 10000.0
EPSILON = 1e-5
FRONTLESS = 0.08  # share of the stories that begin in their middle, so that such prompts work too


def parse_arguments():
    """The command line."""
    args = argparse.ArgumentParser(description="Train the demo model and write it as GGUF (Q8_0).")
    args.add_argument("--out", default="demo.gguf", help="file to write (default demo.gguf)")
    args.add_argument("--seed", type=int, default=7, help="seed of stories and weights (default 7)")
    args.add_argument("--steps", type=int, default=1200, help="optimiser steps (default 1200)")
    args.add_argument("--stop", type=int, help="end before the last step, at this one")
    args.add_argument("--tokens", type=int, default=2048, help="tokens in a step (default 2048)")
    args.add_argument("--rate", type=float, default=8e-4, help="peak learning rate (default 8e-4)")
    args.add_argument("--long", type=float, default=0.5,
                      help="last share of the steps, of which every other has rows of full length")
    args.add_argument("--continue-from", metavar="FILE", help="begin with a GGUF file's weights")
    return args.parse_args()


# --- text ---------------------------------------------------------------------------------------

def rows_of_stories(rng, bpe, rows, length):
    """Token ids [rows, length + 1]: the end token, a story, and so on, cut off at the length."""
    ids = np.empty((rows, length + 1), np.int32)
    for row in ids:
        filled = []
        while len(filled) <= length:
            text = grammar.story(rng)[0]
            if rng.random() < FRONTLESS:
                starts = [i for i in range(len(text) // 2) if text[i - 2:i] == ". "]
                text = text[rng.choice(starts):] if starts else text
            filled += [bpe.end] + bpe.encode(text)
        row[:] = filled[:length + 1]
    return ids


# --- the model ----------------------------------------------------------------------------------

def initial_weights(seed):
    """Weights under their GGUF names; matrices are [outputs, inputs].

    Attention begins as a copier: queries and keys project alike, so that a position attends to
    tokens like the one it expects, and the output matrix undoes the value matrix, so that the
    token found is written as it is, which the tied embeddings read as a vote for it. In trials
    from random matrices, and in trials at higher learning rates, the sentences were learnt as
    fast, but names were not carried through a story in the hundreds of steps that were tried; so begun,
    they are after 500.
    """
    rng = np.random.default_rng(seed)

    def matrix(rows, cols, scale=1.0):
        return jnp.asarray(rng.standard_normal((rows, cols)) * scale / math.sqrt(cols), jnp.float32)

    def projections():
        """For each key/value head an orthonormal basis of as many directions as a head has."""
        return [np.linalg.qr(rng.standard_normal((WIDTH, HEAD)))[0].T for _ in range(KV_HEADS)]

    group, residual = HEADS // KV_HEADS, 1 / math.sqrt(2 * LAYERS)
    weights = {"token_embd.weight": matrix(VOCABULARY, WIDTH, 2.0)}
    for i in range(LAYERS):
        keys, values = projections(), projections()
        q = jnp.asarray(np.concatenate([k for k in keys for _ in range(group)]), jnp.float32)
        o = jnp.asarray(np.concatenate([v for v in values for _ in range(group)]).T, jnp.float32)
        weights |= {
            f"blk.{i}.attn_norm.weight": jnp.ones(WIDTH),
            f"blk.{i}.attn_q.weight": 0.8 * q + matrix(HEADS * HEAD, WIDTH, 0.3),
            f"blk.{i}.attn_k.weight": jnp.asarray(0.8 * np.concatenate(keys), jnp.float32),
            f"blk.{i}.attn_v.weight": jnp.asarray(np.concatenate(values), jnp.float32),
            f"blk.{i}.attn_output.weight": residual * o,
            f"blk.{i}.ffn_norm.weight": jnp.ones(WIDTH),
            f"blk.{i}.ffn_gate.weight": matrix(HIDDEN, WIDTH),
            f"blk.{i}.ffn_up.weight": matrix(HIDDEN, WIDTH),
            f"blk.{i}.ffn_down.weight": matrix(WIDTH, HIDDEN, residual),
        }
    return weights | {"output_norm.weight": jnp.ones(WIDTH)}


def rms_norm(x, weight):
    """Root-mean-square norm over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def rope(x):
    """Rotates the pairs (2i, 2i+1) of each head; x is [batch, positions, heads, head size]."""
    positions = jnp.arange(x.shape[1], dtype=jnp.float32)
    angles = positions[:, None] * ROPE_BASE ** (-jnp.arange(0, HEAD, 2) / HEAD)
    cos, sin = jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]
    a, b = x[..., 0::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


def forward(weights, ids, visible):
    """Logits [batch, positions, vocabulary]; `visible` is [batch, query, key]."""
    batch, length = ids.shape
    group = HEADS // KV_HEADS
    x = weights["token_embd.weight"][ids]
    hidden = jnp.tile(jnp.where(visible, 0.0, -1e30), (1, group, 1))[:, None]
    for i in range(LAYERS):
        w = lambda name: weights[f"blk.{i}.{name}.weight"]
        h = rms_norm(x, w("attn_norm"))
        q = rope((h @ w("attn_q").T).reshape(batch, length, HEADS, HEAD))
        k = rope((h @ w("attn_k").T).reshape(batch, length, KV_HEADS, HEAD))
        v = (h @ w("attn_v").T).reshape(batch, length, KV_HEADS, HEAD)
        # Query head j uses key head j // group: the queries of a group are stacked, [batch, kv
        # head, rows, head size], which leaves plain matrix products (other layouts are slow on
        # XLA's CPU).
        q = q.reshape(batch, length, KV_HEADS, group, HEAD).transpose(0, 2, 3, 1, 4)
        q = q.reshape(batch, KV_HEADS, group * length, HEAD)
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(HEAD) + hidden
        mixed = (jax.nn.softmax(scores, axis=-1) @ v).reshape(batch, KV_HEADS, group, length, HEAD)
        mixed = mixed.transpose(0, 3, 1, 2, 4).reshape(batch, length, HEADS * HEAD)
        x = x + mixed @ w("attn_output").T
        h = rms_norm(x, w("ffn_norm"))
        x = x + (jax.nn.silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return rms_norm(x, weights["output_norm.weight"]) @ weights["token_embd.weight"].T


def losses(weights, ids, end):
    """Nats per predicted token, [batch, positions - 1].

    A story sees only itself, except in the odd rows of full length: there it also sees the stories
    before it, so that long texts of many stories are nothing new to the model.
    """
    inputs, targets = ids[:, :-1], ids[:, 1:]
    length = inputs.shape[1]
    of_story = jnp.cumsum(inputs == end, axis=1)
    if length == CONTEXT:
        of_story = jnp.where(jnp.arange(len(ids))[:, None] % 2 == 0, of_story, 0)
    visible = of_story[:, :, None] == of_story[:, None, :]
    visible &= jnp.tril(jnp.ones((length, length), bool))
    logits = forward(weights, inputs, visible)
    picked = jnp.sum(jnp.where(jnp.arange(VOCABULARY) == targets[..., None], logits, 0), axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - picked


# --- training -----------------------------------------------------------------------------------

def learning_rate(step, steps, peak):
    """Warm-up over a twelfth of the steps, then a cosine down to 2 % of the peak."""
    warm_up = steps // 12
    progress = jnp.clip((step - warm_up) / (steps - warm_up), 0, 1)
    cosine = 0.5 * (1 + jnp.cos(math.pi * progress))
    return peak * jnp.minimum((step + 1) / warm_up, 0.02 + 0.98 * cosine)


def orthogonalised(m):
    """The matrix with its singular values brought near 1: Muon's Newton-Schulz iteration."""
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if m.shape[0] > m.shape[1] else x


@functools.partial(jax.jit, static_argnames=("steps", "peak", "end"), donate_argnums=(0, 1, 2))
def train_step(weights, first, second, step, ids, *, steps, peak, end):
    """One step, gradients clipped to norm 1: Muon for the layers' matrices, AdamW for the rest."""
    loss, gradients = jax.value_and_grad(lambda w: losses(w, ids, end).mean())(weights)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients.values()))
    rate, count = learning_rate(step, steps, peak), step + 1
    for name, g in gradients.items():
        g = g * jnp.minimum(1, 1 / norm)
        if g.ndim == 2 and name.startswith("blk."):
            first[name] = 0.95 * first[name] + g
            shape = math.sqrt(max(1, g.shape[0] / g.shape[1]))
            update = 4 * shape * orthogonalised(g + 0.95 * first[name])
        else:
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.98 * second[name] + 0.02 * g * g
            mean, square = first[name] / (1 - 0.9**count), second[name] / (1 - 0.98**count)
            update = mean / (jnp.sqrt(square) + 1e-8)
        decay = 0.3 * weights[name] if g.ndim == 2 and name.startswith("blk.") else 0.0
        weights[name] = weights[name] - rate * (update + decay)
    return weights, first, second, loss


def train(args, weights, bpe, started):
    """Trains the weights; every batch is new text."""
    first = {name: jnp.zeros_like(w) for name, w in weights.items()}
    second = {name: jnp.zeros_like(w) for name, w in weights.items()}
    long_from = round(args.steps * (1 - args.long))
    recent, rng = [], random.Random(args.seed * 1_000_000)
    for step in range(args.stop or args.steps):
        length = CONTEXT if step >= long_from and step % 2 else SHORT
        ids = rows_of_stories(rng, bpe, args.tokens // length, length)
        weights, first, second, loss = train_step(
            weights, first, second, step, ids, steps=args.steps, peak=args.rate, end=bpe.end)
        recent.append(loss)
        if step % 50 == 49:
            loss, seconds = float(np.mean(recent)), time.time() - started
            print(f"step {step + 1:5}  loss {loss:.4f}  {seconds:6.0f} s", flush=True)
            recent = []
        if step % 100 == 99:  # something to look at while it trains
            write_model(args.out, weights, bpe, f"unfinished: seed {args.seed}, {step + 1} steps")
    return weights


def held_out_loss(weights, bpe, seed, count=400):
    """(loss, bound) in nats per token over stories never trained on, each read alone.

    The bound is what the grammar's choices cost: the loss of somebody who knows the grammar.
    """
    total, nats, tokens = 0.0, 0.0, 0
    evaluate = jax.jit(losses, static_argnums=2)
    for begin in range(0, count, 20):
        told = grammar.stories(seed * 1_000_000 + 999_000 + begin, 20)
        ids = np.full((20, 289), bpe.end, np.int32)
        known = np.zeros((20, 288), np.float32)
        for row, (text, cost) in enumerate(told):
            story = bpe.encode(text)
            ids[row, 1:1 + len(story)] = story
            known[row, :len(story) + 1] = 1
            nats += cost
        total += float((evaluate(weights, ids, bpe.end) * known).sum())
        tokens += int(known.sum())
    return total / tokens, nats / tokens


def as_stored(w):
    """The weight as the file holds it: a matrix rounded to Q8_0, a vector unchanged."""
    return gguf_file.q8_0_dequantise(gguf_file.q8_0_quantise(w), w.shape) if w.ndim == 2 else w


def write_model(path, weights, bpe, description):
    """Writes the GGUF file."""
    strings = (gguf_file.ARRAY, gguf_file.STRING)
    metadata = [
        ("general.architecture", gguf_file.STRING, "llama"),
        ("general.name", gguf_file.STRING, "gristmill demo"),
        ("general.description", gguf_file.STRING, description),
        ("general.license", gguf_file.STRING, "MIT OR Apache-2.0"),
        ("general.file_type", gguf_file.U32, 7),  # mostly Q8_0
        ("general.quantization_version", gguf_file.U32, 2),
        ("llama.context_length", gguf_file.U32, CONTEXT),
        ("llama.embedding_length", gguf_file.U32, WIDTH),
        ("llama.block_count", gguf_file.U32, LAYERS),
        ("llama.feed_forward_length", gguf_file.U32, HIDDEN),
        ("llama.attention.head_count", gguf_file.U32, HEADS),
        ("llama.attention.head_count_kv", gguf_file.U32, KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", gguf_file.F32, EPSILON),
        ("llama.rope.dimension_count", gguf_file.U32, HEAD),
        ("llama.rope.freq_base", gguf_file.F32, ROPE_BASE),
        ("llama.vocab_size", gguf_file.U32, VOCABULARY),
        ("tokenizer.ggml.model", gguf_file.STRING, "gpt2"),
        ("tokenizer.ggml.pre", gguf_file.STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", strings, bpe.tokens),
        ("tokenizer.ggml.token_type", (gguf_file.ARRAY, gguf_file.I32),
         [1] * (VOCABULARY - 1) + [3]),  # 1 normal, 3 control
        ("tokenizer.ggml.merges", strings, [f"{a} {b}" for a, b in bpe.merges]),
        ("tokenizer.ggml.bos_token_id", gguf_file.U32, bpe.end),
        ("tokenizer.ggml.eos_token_id", gguf_file.U32, bpe.end),
        ("tokenizer.ggml.add_bos_token", gguf_file.BOOL, True),
        ("tokenizer.ggml.add_eos_token", gguf_file.BOOL, False),
    ]
    gguf_file.write(path, metadata, [(name, np.asarray(w)) for name, w in weights.items()])


def main():
    """Trains, measures, writes."""
    args = parse_arguments()
    started = time.time()
    before = ""
    if args.continue_from:
        metadata, tensors = gguf_file.read(args.continue_from)
        before = f", continued from ({metadata['general.description']})"
        weights = {name: jnp.asarray(w) for name, w in tensors.items()}
        merges = [tuple(pair.split(" ")) for pair in metadata["tokenizer.ggml.merges"]]
    else:
        texts = [text for text, _ in grammar.stories(args.seed, 20_000)]
        merges = tokenizer.train(texts, VOCABULARY)
        weights = initial_weights(args.seed)
    bpe = tokenizer.Tokenizer(merges)
    print(f"vocabulary ready after {time.time() - started:.0f} s", flush=True)
    weights = train(args, weights, bpe, started)
    loss, bound = held_out_loss(weights, bpe, args.seed)
    rounded = {name: as_stored(w) for name, w in weights.items()}
    rounded_loss, _ = held_out_loss(rounded, bpe, args.seed)
    count = sum(w.size for w in weights.values())
    print(f"{count} parameters; held-out loss {loss:.4f}, as Q8_0 {rounded_loss:.4f}, "
          f"grammar's choices {bound:.4f}")
    description = (
        f"A teller of small stories, made with gristmill's examples/demo-model: seed {args.seed}, "
        f"{args.stop or args.steps} steps of {args.tokens} tokens{before}; held-out loss "
        f"{loss:.4f} nats per token, {rounded_loss:.4f} as Q8_0; "
        f"the grammar's own choices cost {bound:.4f}."
    )
    write_model(args.out, weights, bpe, description)
    print(f"wrote {args.out} after {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
