"""The paper's encrypted heads in TenSEAL and in arras, taking turns on one core. Started by `scripts/tenseal/run`.

One image: 768 features times 768 x 5 (and 768 x 3) weights, by TenSEAL's `mm` and by one `dot` per class. A batch: 4096
images in slots, a ciphertext per feature, products with scalars summed. TenSEAL's parameters are the paper's, N = 8192,
[60, 40, 40, 60], scale 2^40. arras does the same work at these parameters (rotations for one image, slots for a batch),
and the same heads in its own layouts and parameters (dot and transposed), from bytes to bytes.

In every round each case runs once, in the same process, one after the other. What a case leaves is compared with the
clear product before anything is timed, and after the last round. Weights: TenSEAL encodes them in every call, since its
interface has no other way; arras prepares a head once, when it is loaded.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import tenseal as ts

CLASSES, FEATURES, BATCH = 5, 768, 4096
DEGREE, BITS, SCALE = 8192, [60, 40, 40, 60], 2.0**40
# Rounds of the cases that take seconds.
SLOW_ROUNDS = 5
SLOW = 0.5


class Arras:
    """The other process, which answers a line with a line."""

    def __init__(self, program, data):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.backend = self.ask(f"load {data}")["backend"]
        self.cases = {case["name"]: case for case in self.ask("cases")}

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{line}: the program stopped")
        return json.loads(answer)


class TenSeal:
    """The same cases in TenSEAL: name -> (what, items, run, check)."""

    def __init__(self, weights, features):
        self.context = ts.context(ts.SCHEME_TYPE.CKKS, DEGREE, -1, BITS)
        self.context.global_scale = SCALE
        self.context.generate_galois_keys()
        self.context.generate_relin_keys()
        self.image, self.columns = features[0].tolist(), [column.tolist() for column in features.T]
        self.matrices = {n: weights[:n].T.tolist() for n in (3, 5)}
        self.rows = weights.tolist()
        self.kept = {}
        self.cases = {"image/encrypt": ("one image encoded and encrypted, public key", 1, self.encrypt)}
        for n in (3, 5):
            self.cases[f"image/mm{n}"] = (f"head 768 x {n} of one image, mm", 1, lambda n=n: self.mm(n))
            self.cases[f"image/dot{n}"] = (f"head 768 x {n} of one image, {n} dots", 1, lambda n=n: self.dot(n))
        self.cases |= {
            "image/decrypt": ("logits of one image (from mm) decrypted and decoded", 1, self.decrypt),
            "batch/encrypt": ("4096 images in slots encoded and encrypted", BATCH, self.encrypt_batch),
            "batch/head": ("head 768 x 5 of 4096 images in slots", BATCH, self.batch),
            "batch/decrypt": ("logits of 4096 images decrypted and decoded", BATCH, self.decrypt_batch),
        }

    def encrypt(self):
        self.kept["image"] = ts.ckks_vector(self.context, self.image)

    def mm(self, n):
        self.kept[f"mm{n}"] = self.kept["image"].mm(self.matrices[n])

    def dot(self, n):
        self.kept[f"dot{n}"] = [self.kept["image"].dot(row) for row in self.rows[:n]]

    def decrypt(self):
        self.kept["logits"] = self.kept["mm5"].decrypt()

    def encrypt_batch(self):
        self.kept["batch"] = [ts.ckks_vector(self.context, column) for column in self.columns]

    def batch(self):
        results = []
        for row in self.rows:
            total = self.kept["batch"][0] * row[0]
            for vector, weight in zip(self.kept["batch"][1:], row[1:]):
                total += vector * weight
            results.append(total)
        self.kept["batch_logits"] = results

    def decrypt_batch(self):
        self.kept["batch_clear"] = [vector.decrypt() for vector in self.kept["batch_logits"]]

    def check(self, name):
        kept = self.kept
        if name == "image/encrypt":
            return kept["image"].decrypt()
        if name.startswith("image/mm"):
            return kept[name[6:]].decrypt()
        if name.startswith("image/dot"):
            return [value.decrypt()[0] for value in kept[name[6:]]]
        if name == "batch/encrypt":
            return [vector.decrypt()[-1] for vector in kept["batch"]]
        if name == "batch/head":
            return [vector.decrypt() for vector in kept["batch_logits"]]
        return {"image/decrypt": kept.get("logits"), "batch/decrypt": kept.get("batch_clear")}[name]


def expected(name, weights, features):
    """The clear result of a case, and how closely it has to be met."""
    logits = features @ weights.T
    work = name.split("/")
    if name in ("dot/encrypt", "transposed/encrypt"):
        return None, None
    if work[0] == "dot":
        return logits[0], 2e-3
    if work[0] == "transposed":
        return logits, 2e-3
    if name == "image/encrypt":
        return features[0], 1e-5
    if name == "batch/encrypt":
        return features[-1], 1e-5
    if work[0] == "batch":
        return logits.T, 1e-5
    return logits[0][: 3 if name.endswith("3") else 5], 1e-5


def check(where, name, found, weights, features):
    wanted, tolerance = expected(name, weights, features)
    if wanted is None:
        return 0.0
    found = np.asarray(found)
    if name.startswith("batch/") and name != "batch/encrypt":
        found = found.reshape(CLASSES, -1)
    elif name.startswith("transposed/"):
        found = found.reshape(BATCH, CLASSES)
    error = float(np.abs(found - wanted).max())
    if not error < tolerance:
        sys.exit(f"{where} {name}: an error of {error}, expected less than {tolerance}")
    return error


def clock(work):
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


# What stands beside what: TenSEAL's case, ours, and the ratio to reach.
PAIRS = [
    ("image/mm5", "image/head", 3000),
    ("image/dot5", "image/head", 60),
    ("batch/head", "batch/head", 90),
    ("image/mm5", "dot/head", 3000),
    ("image/dot5", "dot/head", 60),
    ("batch/head", "transposed/head", 90),
    ("image/mm3", "image/head", None),
    ("image/dot3", "image/head", None),
    ("image/encrypt", "image/encrypt", None),
    ("image/decrypt", "image/decrypt", None),
    ("batch/encrypt", "batch/encrypt", None),
    ("batch/decrypt", "batch/decrypt", None),
    ("image/encrypt", "dot/encrypt", None),
    ("batch/encrypt", "transposed/encrypt", None),
]


def benchmark(case, what, items, backend, parameters, samples):
    return {
        "id": case,
        "what": what,
        "backend": backend,
        "threads": 1,
        "parameters": parameters,
        "unit": "ns",
        "items": items,
        "item": "image",
        "samples": samples,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--arras", required=True, help="the program built from crates/secret/examples/tenseal.rs")
    options.add_argument("--out", required=True, type=pathlib.Path, help="a folder for the record")
    options.add_argument("--rounds", type=int, default=15, help="rounds; cases of seconds take part in the first 5")
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]

    rng = np.random.default_rng(2025)
    weights = (rng.standard_normal((CLASSES, FEATURES)) * 0.05).astype("<f4")
    features = rng.standard_normal((BATCH, FEATURES)).astype("<f4")
    data = options.out / "data.bin"
    data.write_bytes(weights.tobytes() + features.tobytes())
    weights, features = weights.astype(float), features.astype(float)

    arras = Arras(options.arras, data)
    tenseal = TenSeal(weights, features)
    ours = lambda name: arras.ask(f"time {name}")
    theirs = lambda name: clock(tenseal.cases[name][2])
    verify = {"arras": lambda name: arras.ask(f"check {name}"), "TenSEAL": tenseal.check}
    work = [("TenSEAL", name, theirs) for name in tenseal.cases] + [("arras", name, ours) for name in arras.cases]

    samples, errors, slow = {}, {}, set()
    for who, name, run in work:
        seconds = run(name) / 1e9
        if seconds > SLOW:
            slow.add((who, name))
        errors[who, name] = check(who, name, verify[who](name), weights, features)
        print(f"warm-up {who} {name}: {seconds:.4f} s, error {errors[who, name]:.1e}", flush=True)
    for round in range(options.rounds):
        for who, name, run in work:
            if (who, name) not in slow or round < SLOW_ROUNDS:
                samples.setdefault((who, name), []).append(run(name))
    for who, name, _ in work:
        error = check(who, name, verify[who](name), weights, features)
        errors[who, name] = max(errors[who, name], error)

    report(samples, errors)
    sets = {"paper": {"degree": DEGREE, "primes": BITS, "scale": 40}, "own": {"preset": "linear"}}
    benchmarks = []
    for (who, name), times in samples.items():
        what, items = tenseal.cases[name][:2] if who == "TenSEAL" else [arras.cases[name][k] for k in ("what", "items")]
        own = name.split("/")[0] in ("dot", "transposed")
        parameters = sets["own" if own else "paper"] | {"classes": 3 if name.endswith("3") else 5}
        parameters |= {"features": FEATURES, "largest_error": errors[who, name]}
        backend = f"TenSEAL {ts.__version__}" if who == "TenSEAL" else arras.backend
        benchmarks.append(benchmark(f"tenseal/{who}/{name}", what, items, backend, parameters, times))
    raw = options.out / "tenseal.json"
    raw.write_text(json.dumps({"load": load, "benchmarks": benchmarks}))
    print(f"\nto keep it: cargo run --example records -- complete {raw}")


def report(samples, errors):
    median = lambda *key: statistics.median(samples[key])
    print(f"{'case':28} {'median':>12} {'least':>12}  largest error")
    for key, times in samples.items():
        print(f"{' '.join(key):28} {median(*key) / 1e6:9.3f} ms {min(times) / 1e6:9.3f} ms  {errors[key]:.1e}")
    print("\nratios, TenSEAL / arras: of the medians, of the least; the ratio to reach")
    for theirs, ours, target in PAIRS:
        t, a = ("TenSEAL", theirs), ("arras", ours)
        ratio, least = median(*t) / median(*a), min(samples[t]) / min(samples[a])
        goal = f" (target {target}: {'reached' if ratio >= target else 'missed'})" if target else ""
        print(f"  {theirs:14} / {ours:18} {ratio:9.1f} {least:9.1f}{goal}")


main()
