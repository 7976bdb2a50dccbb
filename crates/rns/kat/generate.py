#!/usr/bin/env python3
"""Writes the known answers of this folder, from definitions and big integers alone.

    python3 generate.py            write the files
    python3 generate.py --check    compare instead; exit code 1 and a line for each file that differs
    python3 generate.py --verify   check this program: BLAKE3 against the `blake3` package, if installed

Nothing but Python's standard library is needed, nothing is shared with the Rust code, and no fast
algorithm is used: transforms are evaluated point by point, conversions go through the integers they
stand for. The definitions are those of docs/arithmetic.md, docs/seed-expansion.md and docs/formats.md.

Every file is one JSON object {"operation": name, "cases": [...]}, one case to a line. In a case
  - a vector is one string: decimal integers separated by single spaces, index 0 first (also of length 1);
  - a matrix, [limb][coefficient], is a list of vectors, in the order of the primes that it belongs to;
  - residues, moduli and other 64-bit numbers stand in strings; n, r, g, k, bits, counts are JSON numbers;
  - "name" says what the case is about and is unique within its file.
Long inputs are not listed but generated: "seed" S stands for the vector whose entry i is the i-th output
(from i = 0) of SplitMix64 with initial state S, reduced mod q. Long outputs are given by "digest", the
BLAKE3 hash in hexadecimal of the entries as little-endian 64-bit words, and by "samples", pairs
[index, value].

  ntt.json            n, q, psi; input and output, or seed, digest and samples. The inverse maps output
                      to input.
  pointwise.json      q, scalar; vectors a, b, c; add = a + b, sub = a - b, negate = -a, multiply = a b,
                      multiply_accumulate = c + a b, scalar_multiply_add = c + scalar a
  inner_product.json  q, terms, seed_a, seed_b (null: every entry is q - 1), result = sum a_i b_i mod q
  matrix_product.json q, rows, terms, n, bound, seed_weights, seed_input; output [row][coefficient]: integer
                      matrix [rows][terms] times residues [terms][n]. Row by row, weights are the outputs of
                      SplitMix64 mod 2 bound + 1, less bound; residues its outputs mod q. Where a seed is
                      null, weights are bound in even rows, -bound in odd ones; residues q - 1.
  base_convert.json   from, to (vectors of primes), input [from][coefficient], output [to][coefficient]
  mod_down.json       kept, dropped (vectors of primes), input_kept [kept][.], input_dropped [dropped][.],
                      output [kept][.]. Rescaling is the case of one dropped prime.
  trim.json           q, r, input, output
  automorphism.json   n, q, g; coefficients and their image; evaluations and theirs; permutation: the image
                      at index i is evaluations[permutation[i]]. Or seed, digests and samples.
  unpack.json         q, bits, bytes (hexadecimal), output
  quantise.json       k, primes, x (decimal, as Python writes it), x_bits (vector: the bits of each x as a
                      64-bit integer), integers (vector, signed), output [prime][index]. Or "refused": true,
                      where each x by itself is an error.
  seed_expansion.json seed (hex), purpose, object, polynomial, q, n; message (hex), last_block (hex: output bytes
                      16 n - 64 to 16 n - 1), and output, or digest and samples
"""

import json
import pathlib
import struct
import sys
from fractions import Fraction

from blake3_reference import IV, blake3, compress

HERE = pathlib.Path(__file__).resolve().parent


# ---- numbers ---------------------------------------------------------------------------------------


class SplitMix64:
    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    def vector(self, q, count):
        return [self.next() % q for _ in range(count)]


def is_prime(n):
    """Miller-Rabin; the first twelve primes as bases decide every n < 2^64."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if n < 2 or any(n % p == 0 for p in bases):
        return n in bases
    twos = (n - 1 & 1 - n).bit_length() - 1
    for base in bases:
        x = pow(base, n - 1 >> twos, n)
        if x not in (1, n - 1) and not any((x := x * x % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True


def primes_below(bound, step, count):
    """The largest `count` primes below `bound` that are 1 mod `step`."""
    found, q = [], (bound - 2) // step * step + 1
    while len(found) < count:
        if is_prime(q):
            found.append(q)
        q -= step
    return found


# 1 mod 2^18 serves every degree up to 2^17; 2^32 is the form of the presets. 1.85 * 2^45 stands for the
# largest moduli that need no correction in 52-bit arithmetic, 2^57 for those of uncorrected butterflies.
P30 = primes_below(2**30, 2**18, 4)
P45 = primes_below(int(1.85 * 2**45), 2**32, 4)
P46 = primes_below(2**46, 2**18, 4)
P50 = primes_below(2**50, 2**32, 4)
P57 = primes_below(2**57, 2**18, 4)
P60 = primes_below(2**60, 2**18, 4)
MODULI = [p[0] for p in (P30, P45, P46, P50, P57, P60)]


def of(q):
    return f"q = {q}"


def centred(y, q):
    """The representative in (-q/2, q/2]."""
    y %= q
    return y - q if 2 * y > q else y


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def edges_and_random(q, count, rng):
    """0, 1, the two middle residues and q - 1 first, then random residues."""
    return ([0, 1, q // 2, q // 2 + 1, q - 1] + rng.vector(q, count))[:count]


# ---- writing ---------------------------------------------------------------------------------------


def vector(numbers):
    return " ".join(map(str, numbers))


def matrix(rows):
    return [vector(row) for row in rows]


def digest(numbers):
    return blake3(struct.pack(f"<{len(numbers)}Q", *numbers)).hex()


def samples(numbers):
    n = len(numbers)
    return [[i, str(numbers[i])] for i in (0, 1, 2, n // 2 - 1, n // 2, n - 2, n - 1)]


# ---- the negacyclic transform and its automorphisms --------------------------------------------------


def smallest_root(n, q):
    """The numerically smallest primitive 2n-th root of unity mod q, n a power of two."""
    base = 2
    while pow(root := pow(base, (q - 1) // (2 * n), q), n, q) != q - 1:
        base += 1
    square, smallest = root * root % q, root
    for _ in range(n):
        root = root * square % q
        smallest = min(smallest, root)
    return smallest


def bit_reversed(i, n):
    return int(format(i, f"0{n.bit_length() - 1}b")[::-1], 2)


def ntt(a, psi, q):
    """Index i holds a(psi^(2 bitrev(i) + 1)), each by Horner's rule."""
    n, out = len(a), []
    for i in range(n):
        point, value = pow(psi, 2 * bit_reversed(i, n) + 1, q), 0
        for coefficient in reversed(a):
            value = (value * point + coefficient) % q
        out.append(value)
    return out


def automorphism(a, g, q):
    """a(X^g) mod X^n + 1."""
    n = len(a)
    out = [0] * n
    for i, coefficient in enumerate(a):
        at = i * g % (2 * n)
        out[at % n] = coefficient if at < n else -coefficient % q
    return out


def evaluation_permutation(n, g):
    index_of_exponent = {2 * bit_reversed(i, n) + 1: i for i in range(n)}
    return [index_of_exponent[g * (2 * bit_reversed(i, n) + 1) % (2 * n)] for i in range(n)]


def ntt_cases():
    rng = SplitMix64(1)
    for q in MODULI:
        for n in (16, 64):
            psi = smallest_root(n, q)
            inputs = {
                "zero": [0] * n,
                "q - 1": [q - 1] * n,
                "X": [0, 1] + [0] * (n - 2),
                "q - 1 and 0 in turn": [q - 1, 0] * (n // 2),
                "random": rng.vector(q, n),
            }
            for name, a in inputs.items():
                case = {"name": f"{name}, n = {n}, {of(q)}", "n": n, "q": str(q), "psi": str(psi)}
                yield case | {"input": vector(a), "output": vector(ntt(a, psi, q))}
        n, seed = 2048, rng.next()
        psi = smallest_root(n, q)
        out = ntt(SplitMix64(seed).vector(q, n), psi, q)
        case = {"name": f"generated, n = {n}, {of(q)}", "n": n, "q": str(q), "psi": str(psi)}
        yield case | {"seed": str(seed), "digest": digest(out), "samples": samples(out)}


def automorphism_cases():
    rng = SplitMix64(2)
    for q in MODULI:
        for n in (16, 64):
            psi = smallest_root(n, q)
            for g in (3, 5, 2 * n - 1):
                a = edges_and_random(q, n, rng)
                image, permutation = automorphism(a, g, q), evaluation_permutation(n, g)
                before, after = ntt(a, psi, q), ntt(image, psi, q)
                assert after == [before[j] for j in permutation]
                yield {
                    "name": f"g = {g}, n = {n}, {of(q)}", "n": n, "q": str(q), "g": g,
                    "coefficients": vector(a), "coefficients_image": vector(image),
                    "evaluations": vector(before), "evaluations_image": vector(after),
                    "permutation": vector(permutation),
                }
    n, q = 2048, MODULI[-1]
    for g in (3, 5, 2 * n - 1):
        seed = rng.next()
        a = SplitMix64(seed).vector(q, n)
        image, moved = automorphism(a, g, q), [a[j] for j in evaluation_permutation(n, g)]
        yield {
            "name": f"generated, g = {g}, n = {n}, {of(q)}", "n": n, "q": str(q), "g": g, "seed": str(seed),
            "coefficients_digest": digest(image), "coefficients_samples": samples(image),
            "evaluations_digest": digest(moved), "evaluations_samples": samples(moved),
        }


# ---- pointwise arithmetic ----------------------------------------------------------------------------


def pointwise_cases():
    rng = SplitMix64(3)
    for q in MODULI:
        edges = [0, 1, q // 2, q // 2 + 1, q - 1]
        a = [x for x in edges for _ in edges] + rng.vector(q, 39)
        b = [x for _ in edges for x in edges] + rng.vector(q, 39)
        c = [q - 1] * len(edges) ** 2 + rng.vector(q, 39)
        for name, scalar in (("random scalar", rng.next() % q), ("scalar q - 1", q - 1)):
            yield {
                "name": f"{name}, {of(q)}", "q": str(q), "scalar": str(scalar),
                "a": vector(a), "b": vector(b), "c": vector(c),
                "add": vector((x + y) % q for x, y in zip(a, b)),
                "sub": vector((x - y) % q for x, y in zip(a, b)),
                "negate": vector(-x % q for x in a),
                "multiply": vector(x * y % q for x, y in zip(a, b)),
                "multiply_accumulate": vector((z + x * y) % q for x, y, z in zip(a, b, c)),
                "scalar_multiply_add": vector((z + scalar * x) % q for x, z in zip(a, c)),
            }


def inner_product_cases():
    rng = SplitMix64(4)
    for q in MODULI:
        for terms in (1, 2, 31, 768, 4096):
            seeds = rng.next(), rng.next()
            for name, seed_a, seed_b in (("q - 1", None, None), ("generated", *seeds)):
                a, b = (
                    [q - 1] * terms if seed is None else SplitMix64(seed).vector(q, terms)
                    for seed in (seed_a, seed_b)
                )
                yield {
                    "name": f"{name}, {terms} terms, {of(q)}", "q": str(q), "terms": terms,
                    "seed_a": seed_a and str(seed_a), "seed_b": seed_b and str(seed_b),
                    "result": str(sum(x * y for x, y in zip(a, b)) % q),
                }


def matrix_product_cases():
    rng = SplitMix64(11)
    n = 4
    for q in MODULI:
        for rows, terms, bound in ((1, 1, 1), (5, 768, 2**14 - 1), (5, 768, 2**31 - 1), (3, 33, 2**62)):
            seeds = rng.next(), rng.next()
            for name, seed_w, seed_x in (("extreme", None, None), ("generated", *seeds)):
                span = 2 * bound + 1
                if seed_w is None:
                    weights = [sign * bound for c in range(rows) for sign in [(-1) ** c] * terms]
                    x = [q - 1] * (terms * n)
                else:
                    weights = [w - bound for w in SplitMix64(seed_w).vector(span, rows * terms)]
                    x = SplitMix64(seed_x).vector(q, terms * n)
                out = [
                    [sum(weights[c * terms + j] * x[j * n + i] for j in range(terms)) % q for i in range(n)]
                    for c in range(rows)
                ]
                yield {
                    "name": f"{name}, {rows} x {terms}, weights to {bound}, {of(q)}", "q": str(q),
                    "rows": rows, "terms": terms, "n": n, "bound": str(bound),
                    "seed_weights": seed_w and str(seed_w), "seed_input": seed_x and str(seed_x),
                    "output": matrix(out),
                }


# ---- base conversion, dropping primes, trimming --------------------------------------------------------


def digits(residues, primes):
    """The centred digits y_i = [x_i (Q/q_i)^-1] of one coefficient."""
    q = product(primes)
    return [centred(x * pow(q // p, -1, p), p) for x, p in zip(residues, primes)]


def converted(residues, primes):
    """The integer that base conversion stands for; congruent to the residues, at most k Q / 2 in size."""
    q = product(primes)
    value = sum(y * (q // p) for y, p in zip(digits(residues, primes), primes))
    assert all((value - x) % p == 0 for x, p in zip(residues, primes))
    assert 2 * abs(value) < len(primes) * q
    return value


def columns(primes, count, rng):
    """Residues [coefficient][prime]: the corners, those whose digits are all extreme, random ones."""
    q = product(primes)
    extreme = [[sign * (p // 2) * (q // p) % p for p in primes] for sign in (1, -1)]
    corners = [[0] * len(primes), [1] * len(primes), [p - 1 for p in primes], [p // 2 for p in primes]]
    random = [[rng.next() % p for p in primes] for _ in range(count)]
    for residues, sign in zip(extreme, (1, -1)):
        assert digits(residues, primes) == [sign * (p // 2) for p in primes]
    return (corners + extreme + random)[:count]


def transposed(rows):
    return [list(row) for row in zip(*rows)]


def base_pairs():
    """From 1..4 primes to 1..4 others, of one size, of sizes far apart, and mixed."""
    mixed = [P60[0], P30[0], P50[0], P46[0]]
    others = [P30[1], P60[1], P45[1], P57[1]]
    families = (
        ("45 to 50", P45, P50), ("30 to 60", P30, P60), ("60 to 30", P60, P30), ("mixed", mixed, others),
    )
    for name, first, second in families:
        for k in range(1, 5):
            for l in range(1, 5):
                yield f"{name} bits, {k} to {l} primes", first[:k], second[:l]


def base_convert_cases():
    rng = SplitMix64(5)
    for name, source, target in base_pairs():
        x = columns(source, 10, rng)
        out = [[converted(column, source) % p for p in target] for column in x]
        yield {
            "name": name, "from": vector(source), "to": vector(target),
            "input": matrix(transposed(x)), "output": matrix(transposed(out)),
        }


def crt(residues, primes):
    q = product(primes)
    return sum(x * pow(q // p, -1, p) * (q // p) for x, p in zip(residues, primes)) % q


def mod_down_case(name, kept, dropped, x_kept, x_dropped):
    p = product(dropped)
    out = []
    for high, low in zip(x_kept, x_dropped):
        lift = converted(low, dropped)
        out.append([(x - lift) * pow(p, -1, q) % q for x, q in zip(high, kept)])
        # Against the integer: x over all primes, divided by P, is the result up to k/2 where k primes are
        # dropped; with one prime, it is the result rounded to the nearest integer.
        x = crt(high + low, kept + dropped)
        off = Fraction(x, p) - crt(out[-1], kept)
        off -= round(off / product(kept)) * product(kept)
        assert abs(off) < Fraction(len(dropped), 2), name
    return {
        "name": name, "kept": vector(kept), "dropped": vector(dropped),
        "input_kept": matrix(transposed(x_kept)), "input_dropped": matrix(transposed(x_dropped)),
        "output": matrix(transposed(out)),
    }


def mod_down_cases():
    rng = SplitMix64(6)
    for name, dropped, kept in base_pairs():
        count = 10
        low = columns(dropped, count, rng)
        high = columns(kept, count, rng)
        high[6:] = [[rng.next() % q for q in kept] for _ in range(count - 6)]
        yield mod_down_case(name, kept, dropped, high, low)


def trim_cases():
    rng = SplitMix64(7)
    for q in MODULI:
        for r in (8, 20, 30, 32):
            x = edges_and_random(q, 12, rng)
            # Both sides of places where the rounding steps, the wrap to 0 among them.
            for step in (1, 2**r // 2, 2**r - 1, 2**r, rng.next() % 2**r):
                below = (2 * step - 1) * q // 2 ** (r + 1)
                x += [below % q, (below + 1) % q]
            out = [(2 * value * 2**r + q) // (2 * q) % 2**r for value in x]
            name = f"to {r} bits, {of(q)}"
            yield {"name": name, "q": str(q), "r": r, "input": vector(x), "output": vector(out)}


# ---- bytes and numbers from outside --------------------------------------------------------------------


def unpack_cases():
    rng = SplitMix64(8)
    for q in MODULI:
        bits = (q - 1).bit_length()
        for name, row in (
            ("zero", [0] * 7), ("q - 1", [q - 1] * 9), ("one", [q - 1]),
            ("random", rng.vector(q, 64)), ("random, padded", rng.vector(q, 29)),
        ):
            integer = sum(x << bits * i for i, x in enumerate(row))
            packed = integer.to_bytes((bits * len(row) + 7) // 8, "little")
            yield {
                "name": f"{name}, {of(q)}", "q": str(q), "bits": bits,
                "bytes": packed.hex(), "output": vector(row),
            }


def quantise_case(name, k, xs, primes):
    integers = [round(Fraction(x) * 2**k) for x in xs]  # round() of a Fraction takes halves to even
    assert all(abs(Fraction(x) * 2**k) < 2**62 for x in xs), name
    return {
        "name": name, "k": k, "primes": vector(primes), "x": [repr(x) for x in xs],
        "x_bits": vector(struct.unpack("<Q", struct.pack("<d", x))[0] for x in xs),
        "integers": vector(integers), "output": matrix([m % q for m in integers] for q in primes),
    }


def both_signs(xs):
    return [sign * x for x in xs for sign in (1.0, -1.0)]


def quantise_cases():
    rng = SplitMix64(9)
    last_below_2_62 = float(2**62 - 2**9)
    halves = [m + 0.5 for m in range(6)] + [2**51 - 0.5, 2**51 + 0.5, 2**52 - 0.5]
    beside = [0.49999999999999994, 0.5000000000000001, 1.4999999999999998, 2.5000000000000004, 1.0, 3.0]
    tiny = [0.0, 5e-324, 2.225073858507201e-308, 2.2250738585072014e-308, 1e-300]
    random = [(rng.next() / 2**64 - 0.5) * 2 ** (rng.next() % 20) for _ in range(24)]
    cases = [
        ("halves", 0, both_signs(halves)),
        ("beside halves", 0, both_signs(beside)),
        ("halves after scaling", 20, both_signs([x * 2.0**-20 for x in halves])),
        ("zeros and subnormals", 30, both_signs(tiny)),
        ("subnormals at the largest scale", 62, both_signs(tiny)),
        ("largest, not scaled", 0, both_signs([last_below_2_62, float(2**61), float(2**53 + 2)])),
        ("largest, scaled", 62, both_signs([1 - 2.0**-53, 0.5, 2.0**-62, 2.0**-63, 1.5 * 2.0**-62])),
        ("random at 2^24", 24, random),
        ("random at 2^40", 40, random),
        ("random of 53 bits at 2^5", 5, [x * 2.0**32 for x in random]),
    ]
    for name, k, xs in cases:
        yield quantise_case(name, k, xs, MODULI)
    for name, k, xs in (
        ("too large, not scaled", 0, both_signs([float(2**62), 1e300])),
        ("too large, scaled", 30, both_signs([float(2**32), float(2**32 + 2**20)])),
        ("not finite", 20, both_signs([float("inf"), float("nan")])),
    ):
        bits = vector(struct.unpack("<Q", struct.pack("<d", x))[0] for x in xs)
        yield {"name": name, "k": k, "refused": True, "x": [repr(x) for x in xs], "x_bits": bits}


# ---- seed expansion ------------------------------------------------------------------------------------


def expansion_message(seed, purpose, object_id, polynomial, q):
    message = b"arras/1" + seed + struct.pack("<BQIQ", purpose, object_id, polynomial, q)
    assert len(message) == 60
    return message


def expand(message, q, n):
    stream = blake3(message, 16 * n)
    return [int.from_bytes(stream[16 * i : 16 * i + 16], "little") % q for i in range(n)]


def seed_expansion_cases():
    rng = SplitMix64(10)
    counting, random = bytes(range(32)), struct.pack("<4Q", *(rng.next() for _ in range(4)))
    labels = [("all zero", bytes(32), 0, 0, 0), ("purpose", counting, 1, 0, 0), ("object", counting, 0, 1, 0)]
    labels += [("polynomial", counting, 0, 0, 1), ("all ones", b"\xff" * 32, 255, 2**64 - 1, 2**32 - 1)]
    labels += [("random", random, 2, rng.next(), rng.next() % 2**32)]
    for q in MODULI:
        for name, seed, purpose, object_id, polynomial in labels:
            for n in (16,) if name != "random" else (64, 2048):
                message = expansion_message(seed, purpose, object_id, polynomial, q)
                out = expand(message, q, n)
                # The whole of BLAKE3 is one compression here: a kernel needs no more than this line.
                block = struct.pack("<16I", *compress(IV, message, n // 4 - 1, 11))
                assert blake3(message, 16 * n)[-64:] == block
                case = {
                    "name": f"{name}, n = {n}, {of(q)}", "seed": seed.hex(), "purpose": purpose,
                    "object": str(object_id), "polynomial": polynomial, "q": str(q), "n": n,
                    "message": message.hex(), "last_block": block.hex(),
                }
                long = {"digest": digest(out), "samples": samples(out)}
                yield case | ({"output": vector(out)} if n <= 64 else long)


# ---- the command -----------------------------------------------------------------------------------------


OPERATIONS = {
    "ntt": ntt_cases,
    "pointwise": pointwise_cases,
    "inner_product": inner_product_cases,
    "matrix_product": matrix_product_cases,
    "base_convert": base_convert_cases,
    "mod_down": mod_down_cases,
    "trim": trim_cases,
    "automorphism": automorphism_cases,
    "unpack": unpack_cases,
    "quantise": quantise_cases,
    "seed_expansion": seed_expansion_cases,
}


def rendered(operation):
    cases = list(OPERATIONS[operation]())
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), operation
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    return f'{{"operation":"{operation}","cases":[\n{lines}\n]}}\n'


def verify_blake3():
    """The specification's own values, then, where it is installed, the `blake3` package."""
    assert blake3(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert blake3(b"abc").hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    try:
        import blake3 as package
    except ImportError:
        print("BLAKE3: two published values agree; the blake3 package is not installed")
        return
    # The official test vectors hash bytes that count 0..250 and start again, at these lengths.
    for length in (0, 1, 60, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 8192, 8193, 16384, 31744):
        data = bytes(i % 251 for i in range(length))
        assert blake3(data, 131) == package.blake3(data).digest(length=131), length
    print("BLAKE3: agrees with the blake3 package on 17 lengths, 131 bytes of output each")


def main(arguments):
    if arguments == ["--verify"]:
        verify_blake3()
        return 0
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    differing = 0
    for operation in OPERATIONS:
        path, text = HERE / f"{operation}.json", rendered(operation)
        if not arguments:
            path.write_text(text, encoding="ascii", newline="\n")
        elif not path.exists() or path.read_text(encoding="ascii") != text:
            print(f"{path.name} differs from what generate.py writes")
            differing += 1
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
