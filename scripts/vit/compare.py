"""ViT-B/16 in ONNX Runtime and in arras on the same weights, taking turns on one core. Started by `scripts/vit/run`.

224 x 224 pixels, f32, one thread. ONNX Runtime runs the model that torch exports from transformers, with all graph
optimisations, and gives all tokens of the last layer; so does the case `full` of arras. The case `cls` gives what the rest of
arras needs, the CLS tokens, and leaves out what does not reach them. Tokens are compared before anything is timed. Where the time
goes: ONNX Runtime's profiler by kind of node, in wall-clock time, and the products of matrices of arras one by one. All
other samples are processor time.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime
import torch
import transformers

DEPTH, SIDE, SEED = 12, 224, 7
TOLERANCE = 1e-4


def model(folder):
    """A directory as Hugging Face's, with model.onnx beside it; made once."""
    if not (folder / "model.onnx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(SEED)
        vit = transformers.ViTModel(transformers.ViTConfig(image_size=SIDE), add_pooling_layer=False).eval()
        vit.save_pretrained(folder)

        class Tokens(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.vit = vit

            def forward(self, pixels):
                return self.vit(pixels).last_hidden_state

        example = torch.zeros(2, 3, SIDE, SIDE)
        axes = {"pixels": {0: "batch"}, "tokens": {0: "batch"}}
        names = {"input_names": ["pixels"], "output_names": ["tokens"], "dynamic_axes": axes}
        torch.onnx.export(Tokens().eval(), (example,), str(folder / "model.onnx"), dynamo=False, **names)
    return folder


def session(folder, profile=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    path = str(folder / "model.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def profiled(folder, out, pixels):
    """Nanoseconds of one run by kind of node, the median of five."""
    run = session(folder, out / "profile")
    run.run(None, {"pixels": pixels})
    for _ in range(5):
        run.run(None, {"pixels": pixels})
    events = json.loads(pathlib.Path(run.end_profiling()).read_text())
    kinds, runs = collections.defaultdict(list), -1
    for event in events:
        if event["name"] == "model_run":
            runs += 1
        if event["cat"] == "Node" and event["name"].endswith("kernel_time"):
            kinds[event["args"]["op_name"]].append(event["dur"] * 1000)
    # The first of the six runs warms up; nodes of a kind are as many in each.
    shares = {}
    for kind, times in kinds.items():
        rounds = np.array(times).reshape(6, -1)[1:].sum(axis=1)
        shares[kind] = float(np.median(rounds))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


class Arras:
    """The other process, which answers a line with a line."""

    def __init__(self, program, folder, data):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.products = self.ask(f"load {folder} {data}")["products"]

    def time(self, name):
        """Processor time of the other process, which Linux keeps under this number (clock_getcpuclockid)."""
        clock = ~self.process.pid << 3 | 2
        began = time.clock_gettime_ns(clock)
        self.ask(f"time {name}")
        return time.clock_gettime_ns(clock) - began

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{line}: the program stopped")
        return json.loads(answer)


def clock(work):
    began = time.process_time_ns()
    work()
    return time.process_time_ns() - began


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--arras", required=True, help="the program built from crates/vit/examples/peer.rs")
    options.add_argument("--model", required=True, type=pathlib.Path, help="a folder for the model")
    options.add_argument("--out", required=True, type=pathlib.Path, help="a folder for the record")
    options.add_argument("--rounds", type=int, default=11)
    options.add_argument("--batch", type=int, default=8)
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]

    folder = model(options.model)
    pixels = np.random.default_rng(1).uniform(-1, 1, (options.batch, 3, SIDE, SIDE)).astype("<f4")
    data = options.out / "pixels.bin"
    data.write_bytes(pixels.tobytes())
    theirs, ours = session(folder), Arras(options.arras, folder, data)

    tokens = theirs.run(None, {"pixels": pixels})[0][:, 0]
    for case in ("full", "cls"):
        ours.ask(f"time {case}")
        error = float(np.abs(np.array(ours.ask(f"check {case}")) - tokens).max())
        print(f"{case}: largest difference {error:.1e}")
        if not error < TOLERANCE:
            sys.exit(f"{case}: a difference of {error}, expected less than {TOLERANCE}")

    work = {"onnxruntime": lambda: clock(lambda: theirs.run(None, {"pixels": pixels}))}
    for case in ["full", "cls", *ours.products]:
        work[case] = lambda case=case: ours.time(case)
    samples = collections.defaultdict(list)
    for round in range(options.rounds):
        for name, run in work.items():
            samples[name].append(run())
    shares = profiled(folder, options.out, pixels)
    report(samples, shares, ours.products, options.batch)

    whats = {"onnxruntime": "all tokens", "full": "all tokens", "cls": "CLS tokens"}
    benchmarks = []
    for name, times in samples.items():
        theirs = name == "onnxruntime"
        what = whats.get(name) or f"one product of matrices: {name}"
        parameters = {"image": SIDE, "patch": 16, "width": 768, "depth": DEPTH, "batch": options.batch, "type": "f32"}
        parameters["clock"] = "processor time"
        if theirs:
            parameters["nanoseconds by kind of node"] = shares
        backend = f"ONNX Runtime {onnxruntime.__version__}" if theirs else "candle with fused operations"
        benchmarks.append({
            "id": f"vit/{name}",
            "what": f"ViT-B/16, batch {options.batch}: {what}",
            "backend": backend,
            "threads": 1,
            "parameters": parameters,
            "unit": "ns",
            "items": options.batch if name in whats else 1,
            "item": "image" if name in whats else "product",
            "samples": times,
        })
    raw = options.out / "vit.json"
    raw.write_text(json.dumps({"load": load, "benchmarks": benchmarks}))
    print(f"\nto keep it: cargo run --example records -- complete {raw}")


def report(samples, shares, products, batch):
    median = {name: statistics.median(times) / 1e6 for name, times in samples.items()}
    least = {name: min(times) / 1e6 for name, times in samples.items()}
    for name in ("onnxruntime", "full", "cls"):
        ratio = f"{median[name] / median['onnxruntime']:.2f}, of the least {least[name] / least['onnxruntime']:.2f}"
        print(f"{name:12} {median[name] / batch:8.2f} ms per image; {ratio} times ONNX Runtime")
    print("\narras, all tokens, ms per batch:")
    counts = {name: DEPTH * (batch if name in ("scores", "mix") else 1) for name in products} | {"patch": 1}
    parts = {name: median[name] * counts[name] for name in products}
    for name, part in parts.items():
        print(f"  {name:12} {part:9.2f}  ({counts[name]} products of {median[name]:.3f})")
    print(f"  {'the rest':12} {median['full'] - sum(parts.values()):9.2f}")
    print("ONNX Runtime, ms per batch:")
    for kind, part in shares.items():
        if part > 1e5:
            print(f"  {kind:24} {part / 1e6:9.2f}")


main()
