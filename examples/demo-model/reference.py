#!/usr/bin/env python3
"""A plain numpy reading of demo.gguf: tells stories, and writes the golden data of the tests.

It shares no code with train.py's model: it reads the file back, turns Q8_0 into f32 and computes
everything in f32, the whole text anew for each token. Nothing else is rounded, so a runtime that
rounds activations to int8 differs from it a little.
"""

import argparse
import hashlib
import json
import os

import numpy as np

import gguf_file
import grammar
import tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
HELD_OUT_SEED = 424_242
GREEDY_TOKENS = 32
TOP = 10

# Openings, middles of stories, and one that the grammar never says.
PROMPTS = [
    "",
    "Once upon a time",
    "Once upon a time a little fox named Nora lived",
    "There was once a",
    "In a quiet wood there lived",
    "\"I want to see the sea!\" said Finn.",
    "Otto had a red kite, and he loved it very much. One windy day",
    "\"Please help me,\" said the bee.",
    "They looked at each other and were ashamed.",
    "The miller's engine ran on 42 kilowatts",
]

TOKENIZER_TEXTS = [
    "Once upon a time there was a little fox named Mila.",
    " Once upon  a   time ",
    "\"What is the matter, little one?\" she asked.",
    "It's what they've said: I'll, you're, I'm, he'd, don't.",
    "IT'S 2026, and 3 + 4 = 7.",
    "tabs\tand\n\nnew lines\r\n  indented\n",
    "snake_case x->y <|endoftext|> {\"a\": [1, 2]}",
    "Zoë's café, naïve Straße: Γειά σου, мир! 日本語 😀",
    "",
]


class Model:
    """The model in a GGUF file, all in f32."""

    def __init__(self, path):
        self.metadata, self.tensors = gguf_file.read(path)
        merges = [tuple(pair.split(" ")) for pair in self.metadata["tokenizer.ggml.merges"]]
        self.bpe = tokenizer.Tokenizer(merges)
        assert self.bpe.tokens == self.metadata["tokenizer.ggml.tokens"]
        self.epsilon = np.float32(self.metadata["llama.attention.layer_norm_rms_epsilon"])
        self.heads = self.metadata["llama.attention.head_count"]
        self.kv_heads = self.metadata["llama.attention.head_count_kv"]
        self.layers = self.metadata["llama.block_count"]
        self.head = self.metadata["llama.rope.dimension_count"]

    def norm(self, x, name):
        """Root-mean-square norm of each row."""
        size = np.sqrt((x * x).mean(axis=1, keepdims=True) + self.epsilon)
        return x / size * self.tensors[name + ".weight"]

    def rotate(self, x):
        """Turns the pair (2i, 2i+1) of row p, seen as a complex number, by p * base^(-2i/size)."""
        base = self.metadata["llama.rope.freq_base"]
        turn = np.outer(np.arange(len(x)), base ** (-np.arange(0, self.head, 2) / self.head))
        pairs = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * turn)
        return np.stack([pairs.real, pairs.imag], axis=2).reshape(x.shape).astype(np.float32)

    def attention(self, h, block):
        """Causal attention, one query head at a time."""
        q, k, v = (h @ self.tensors[f"{block}.attn_{name}.weight"].T for name in "qkv")
        out = []
        for head in range(self.heads):
            kv = head // (self.heads // self.kv_heads)
            of = lambda x, i: x[:, i * self.head:(i + 1) * self.head]
            scores = self.rotate(of(q, head)) @ self.rotate(of(k, kv)).T
            scores /= np.sqrt(np.float32(self.head))
            scores[np.triu_indices(len(h), 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out.append(weights / weights.sum(axis=1, keepdims=True) @ of(v, kv))
        return np.concatenate(out, axis=1) @ self.tensors[f"{block}.attn_output.weight"].T

    def logits(self, ids):
        """Logits after each of the ids, [ids, vocabulary]."""
        x = self.tensors["token_embd.weight"][ids]
        for i in range(self.layers):
            block = f"blk.{i}"
            x = x + self.attention(self.norm(x, block + ".attn_norm"), block)
            h = self.norm(x, block + ".ffn_norm")
            gate = h @ self.tensors[block + ".ffn_gate.weight"].T
            up = h @ self.tensors[block + ".ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ self.tensors[block + ".ffn_down.weight"].T
        return self.norm(x, "output_norm") @ self.tensors["token_embd.weight"].T

    def ids(self, prompt):
        """The prompt's ids with the bos before them."""
        return [self.bpe.end] + self.bpe.encode(prompt)

    def tell(self, prompt, temperature, rng, limit=400):
        """The new ids after the prompt until the story ends (or the limit), the end left out."""
        ids, new = self.ids(prompt), []
        while len(new) < limit:
            last = self.logits(ids)[-1].astype(np.float64)
            if temperature > 0:
                p = np.exp((last - last.max()) / temperature)
                token = int(rng.choice(len(p), p=p / p.sum()))
            else:
                token = int(last.argmax())
            if token == self.bpe.end:
                break
            ids.append(token)
            new.append(token)
        return new


def golden_prompt(model, prompt):
    """The golden record of a prompt. The greedy continuation goes on past the end of a story."""
    ids = model.ids(prompt)
    first = model.logits(ids)[-1]
    order = np.argsort(-first, kind="stable")[:TOP]
    greedy, margins = [], []
    for _ in range(GREEDY_TOKENS):
        last = model.logits(ids + greedy)[-1]
        second, best = np.argsort(last, kind="stable")[-2:]
        greedy.append(int(best))
        margins.append(round(float(last[best] - last[second]), 4))
    return {
        "prompt": prompt,
        "ids": ids,
        "top": [[int(i), round(float(first[i]), 5)] for i in order],
        "greedy": greedy,
        "margins": margins,
        "text": model.bpe.decode(greedy),
    }


def mean_loss(model, ids):
    """Mean nats per token of ids[1:], each predicted from all the ids before it."""
    logits = model.logits(ids[:-1]).astype(np.float64)
    best = logits.max(axis=1)
    total = np.log(np.exp(logits - best[:, None]).sum(axis=1)) + best
    return float((total - logits[np.arange(len(logits)), ids[1:]]).mean())


def golden(model, path):
    """Everything the tests compare with."""
    told = [text for text, _ in grammar.stories(HELD_OUT_SEED, 2)]
    long_ids = [i for text in told for i in model.ids(text)] + [model.bpe.end]
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return {
        "about": "Made by reference.py: f32 arithmetic on the dequantised Q8_0 weights. ids begin "
                 "with the bos; "
                 "margins are best minus second logit of each greedy token; top is [id, logit] "
                 "after the prompt.",
        "sha256": digest,
        "bos_id": model.bpe.end,
        "eos_id": model.bpe.end,
        "tokenizer": [{"text": text, "ids": model.bpe.encode(text)} for text in TOKENIZER_TEXTS],
        "prompts": [golden_prompt(model, prompt) for prompt in PROMPTS],
        "perplexity": {
            "texts": told,
            "ids": long_ids,
            "mean_loss": round(mean_loss(model, long_ids), 6),
        },
    }


def dump(value):
    """JSON with one line for each record: short, and its changes can be read."""
    parts = []
    for key, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in item)
            parts.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    """Tells stories, or writes the golden file."""
    args = argparse.ArgumentParser(description="Tell stories with demo.gguf in numpy, or write "
        "golden.json.")
    args.add_argument("--model", default=os.path.join(HERE, "demo.gguf"),
                      help="GGUF file (default: demo.gguf beside this script)")
    args.add_argument("--prompt", default="Once upon a time", help="how the stories begin")
    args.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (default 0.7)")
    args.add_argument("--seed", type=int, default=1, help="seed of the sampling (default 1)")
    args.add_argument("--count", type=int, default=3, help="how many stories (default 3)")
    args.add_argument("--golden", metavar="FILE", help="write the golden data to FILE and stop")
    args = args.parse_args()
    model = Model(args.model)
    if args.golden:
        with open(args.golden, "w", encoding="utf-8") as file:
            file.write(dump(golden(model, args.model)))
        return
    rng = np.random.default_rng(args.seed)
    for _ in range(args.count):
        print(args.prompt + model.bpe.decode(model.tell(args.prompt, args.temperature, rng)) + "\n")


if __name__ == "__main__":
    main()
