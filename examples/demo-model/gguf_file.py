"""A minimal GGUF v3 writer and reader, enough for the demo model: F32 and Q8_0 tensors."""

import struct

import numpy as np

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # metadata value types
TENSOR_F32, TENSOR_Q8_0 = 0, 8  # tensor types
ALIGNMENT = 32
BLOCK = 32  # values in a Q8_0 block: one f16 scale and 32 int8 quants


def q8_0_quantise(x):
    """Rows of f32, a multiple of 32 long -> Q8_0 bytes."""
    blocks = np.asarray(x, np.float32).reshape(-1, BLOCK)
    d = np.abs(blocks).max(axis=1) / np.float32(127)
    q = np.rint(blocks * np.where(d > 0, 1 / np.maximum(d, 1e-30), 0)[:, None]).astype(np.int8)
    out = np.empty(len(blocks), np.dtype([("d", "<f2"), ("q", "i1", BLOCK)]))
    out["d"], out["q"] = d, q
    return out.tobytes()


def q8_0_dequantise(data, shape):
    """Q8_0 bytes -> f32 array of the given shape."""
    blocks = np.frombuffer(data, np.dtype([("d", "<f2"), ("q", "i1", BLOCK)]))
    return (blocks["d"].astype(np.float32)[:, None] * blocks["q"].astype(np.float32)).reshape(shape)


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _scalar(kind, value):
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def write(path, metadata, tensors):
    """Writes a file.

    metadata: list of (key, kind, value); an array is (key, (ARRAY, element kind), list).
    tensors: list of (name, f32 array); matrices become Q8_0, vectors stay F32.
    """
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        head += _string(key)
        if isinstance(kind, tuple):
            head += struct.pack("<IIQ", ARRAY, kind[1], len(value))
            head += b"".join(_scalar(kind[1], v) for v in value)
        else:
            head += struct.pack("<I", kind) + _scalar(kind, value)
    body = b""
    for name, x in tensors:
        if x.ndim == 2:
            data, kind = q8_0_quantise(x), TENSOR_Q8_0
        else:
            data, kind = x.astype("<f4").tobytes(), TENSOR_F32
        dims = x.shape[::-1]  # GGUF names the contiguous dimension first
        head += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body))
        body += data + bytes(-len(data) % ALIGNMENT)
    head += bytes(-len(head) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(head + body)


def read(path):
    """Reads a file that `write` made: (metadata dict, dict of f32 tensors)."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def take(fmt):
        nonlocal at
        values = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return values if len(values) > 1 else values[0]

    def string():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length:at].decode()

    def value(kind):
        if kind == STRING:
            return string()
        if kind == ARRAY:
            element, count = take("IQ")
            return [value(element) for _ in range(count)]
        return take({U32: "I", I32: "i", F32: "f", BOOL: "?"}[kind])

    magic, version, tensor_count, metadata_count = take("IIQQ")
    assert (magic, version) == (0x46554747, 3), f"{path}: not a GGUF v3 file"
    metadata = {}
    for _ in range(metadata_count):
        key = string()
        metadata[key] = value(take("I"))
    directory = []
    for _ in range(tensor_count):
        name, rank = string(), take("I")
        dims = [take("Q") for _ in range(rank)]
        directory.append((name, dims[::-1], *take("IQ")))
    start = at + -at % ALIGNMENT
    tensors = {}
    for name, shape, kind, offset in directory:
        count, begin = int(np.prod(shape)), start + offset
        if kind == TENSOR_Q8_0:
            tensors[name] = q8_0_dequantise(data[begin:begin + count // BLOCK * 34], shape)
        else:
            tensors[name] = np.frombuffer(data, "<f4", count, begin).reshape(shape)
    return metadata, tensors
