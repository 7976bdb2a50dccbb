"""BLAKE3 in hash mode (github.com/BLAKE3-team/BLAKE3-specs), for any input and output length.

Written for clarity and for `generate.py`; slow on purpose.
"""

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
BLOCK, CHUNK = 64, 1024
MASK = 0xFFFFFFFF


def rotate_right(word, count):
    return (word >> count | word << (32 - count)) & MASK


def quarter_round(v, a, b, c, d, x, y):
    v[a] = (v[a] + v[b] + x) & MASK
    v[d] = rotate_right(v[d] ^ v[a], 16)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = rotate_right(v[b] ^ v[c], 12)
    v[a] = (v[a] + v[b] + y) & MASK
    v[d] = rotate_right(v[d] ^ v[a], 8)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = rotate_right(v[b] ^ v[c], 7)


def compress(chaining, block, counter, flags):
    """The 16 output words of one block of at most 64 bytes (section 2.2)."""
    words = struct.unpack("<16I", block.ljust(BLOCK, b"\0"))
    v = [*chaining, *IV[:4], counter & MASK, counter >> 32, len(block), flags]
    for _ in range(7):
        for k, (a, b, c, d) in enumerate(COLUMNS_AND_DIAGONALS):
            quarter_round(v, a, b, c, d, words[2 * k], words[2 * k + 1])
        words = [words[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ chaining[i] for i in range(8)]


def chunk_node(chunk, index):
    """The last compression of a chunk, not yet done: it may be the root."""
    blocks = [chunk[at : at + BLOCK] for at in range(0, len(chunk), BLOCK)] or [b""]
    chaining = IV
    for k, block in enumerate(blocks[:-1]):
        chaining = compress(chaining, block, index, CHUNK_START if k == 0 else 0)[:8]
    return chaining, blocks[-1], index, CHUNK_END | (CHUNK_START if len(blocks) == 1 else 0)


def tree_node(data, first_chunk):
    """The node over `data`: the left subtree is the largest complete one that leaves something over."""
    if len(data) <= CHUNK:
        return chunk_node(data, first_chunk)
    left = CHUNK << (((len(data) - 1) // CHUNK).bit_length() - 1)
    children = b""
    for part, first in ((data[:left], first_chunk), (data[left:], first_chunk + left // CHUNK)):
        children += struct.pack("<8I", *compress(*tree_node(part, first))[:8])
    return IV, children, 0, PARENT


def blake3(data, length=32):
    """`length` bytes of output: block t of it is the root compressed with counter t."""
    chaining, block, _, flags = tree_node(data, 0)
    out = b""
    for t in range((length + BLOCK - 1) // BLOCK):
        out += struct.pack("<16I", *compress(chaining, block, t, flags | ROOT))
    return out[:length]
