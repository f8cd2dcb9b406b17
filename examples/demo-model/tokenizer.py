"""A byte-level BPE tokenizer in the manner of GPT-2: training, encoding, decoding."""

import collections
import re

END = "<|endoftext|>"  # begins and ends every story

# The gpt-2 pre-tokenizer. Python's `re` has no \p{L}; [^\W\d_] is the same for ASCII (all that the
# grammar uses) and for the letters of other scripts.
PIECES = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"
)


def byte_alphabet():
    """The printable stand-in of each byte: itself if printable, else a character from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [b for b in range(256) if b not in printable]
    stand_in = printable + [256 + i for i in range(256 - len(printable))]
    return {byte: chr(code) for byte, code in zip(order, stand_in)}


ALPHABET = byte_alphabet()
BYTES = {c: b for b, c in ALPHABET.items()}


def pieces(text):
    """The pre-tokens of a text, in the stand-in alphabet."""
    return ["".join(ALPHABET[b] for b in piece.encode()) for piece in PIECES.findall(text)]


def train(texts, vocabulary_size):
    """Learns merges until the vocabulary (bytes, merges, END) is full; ties: the smaller pair."""
    counts = collections.Counter(piece for text in texts for piece in pieces(text))
    words = {piece: list(piece) for piece in counts}
    merges = []
    while len(merges) < vocabulary_size - 257:
        pairs = collections.Counter()
        for piece, symbols in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += counts[piece]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for symbols in words.values():
            merge(symbols, best)
    return merges


def merge(symbols, pair):
    """Joins every occurrence of the pair in a list of symbols, in place, from the left."""
    i = 0
    while i + 1 < len(symbols):
        if symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            symbols[i:i + 2] = [pair[0] + pair[1]]
        i += 1


class Tokenizer:
    """Encodes and decodes with given merges. Ids: bytes, then merges in order, then END."""

    def __init__(self, merges):
        self.merges = merges
        self.tokens = list(ALPHABET.values()) + [a + b for a, b in merges] + [END]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.end = self.ids[END]
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.cache = {}

    def encode(self, text):
        """Text -> ids, without END."""
        ids = []
        for piece in pieces(text):
            if piece not in self.cache:
                self.cache[piece] = self.encode_piece(piece)
            ids += self.cache[piece]
        return ids

    def encode_piece(self, piece):
        """Applies the earliest learnt merge until none applies."""
        symbols = list(piece)
        while len(symbols) > 1:
            pair = min(zip(symbols, symbols[1:]), key=lambda p: self.ranks.get(p, len(self.ranks)))
            if pair not in self.ranks:
                break
            merge(symbols, pair)
        return [self.ids[s] for s in symbols]

    def decode(self, ids):
        """Ids -> text; END is left out."""
        text = "".join(self.tokens[i] for i in ids if i != self.end)
        return bytes(BYTES[c] for c in text).decode(errors="replace")
