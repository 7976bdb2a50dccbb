#!/usr/bin/env python3
"""Writes crates/audit/kat/metrics.json: what scikit-image, torchmetrics and lpips say about pictures and weights that
`crates/audit/src/metrics/tests.rs` makes by the same formulas.

pip install scikit-image==0.26.0 torchmetrics==1.9.0 lpips==0.1.4 torch torchvision
"""

import json
import sys
import warnings
from pathlib import Path

import lpips
import numpy as np
import torch
import torchmetrics
import torchmetrics.functional.image as tm
from skimage import __version__ as skimage_version
from skimage import metrics
from torchmetrics.functional.clustering import normalized_mutual_info_score

KAT = Path(__file__).parent.parent / "crates/audit/kat/metrics.json"


def mix(x):
    """Bits from counters, the finaliser `lowbias32`."""
    x = np.array(x, dtype=np.uint64) & 0xFFFFFFFF
    x ^= x >> 16
    x = (x * 0x7FEB352D) & 0xFFFFFFFF
    x ^= x >> 15
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    return (x ^ (x >> 16)).astype(np.uint32)


def picture(seed, height, width, ramp, noise):
    """Bytes [height][width][3]: a ramp and noise."""
    index = np.arange(height * width * 3, dtype=np.uint64).reshape(height, width, 3)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((ramp * (2 * x + 3 * y) // 4 + 40 * c + mix(index + (seed << 20)) % noise) % 256).astype(np.uint8)


def weights(name, shape, low, high):
    """Uniform f32 between two bounds."""
    start = sum(b * 257**i for i, b in enumerate(name.encode())) % 2**32
    unit = (mix(np.arange(np.prod(shape), dtype=np.uint64) + start) >> 8).astype(np.float32) * np.float32(2.0**-24)
    low, high = np.float32(low), np.float32(high)
    return torch.from_numpy((low + unit * (high - low)).astype(np.float32).reshape(shape))


def alexnet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", version="0.1", pretrained=False, pnet_rand=True, verbose=False)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.startswith("net.") and name.endswith("weight"):
            bound = np.sqrt(6.0 / np.prod(tensor.shape[1:]))
            state[name] = weights(name, tensor.shape, -bound, bound)
        elif name.startswith("net."):
            state[name] = weights(name, tensor.shape, -0.1, 0.1)
        elif name.startswith("lin"):
            state[name] = weights(name, tensor.shape, 0.0, 1.0)
    # `lins.0` is `lin0` under another name.
    for index in range(5):
        state[f"lins.{index}.model.1.weight"] = state[f"lin{index}.model.1.weight"]
    network.load_state_dict(state)
    return network.eval()


def case(network, a, b):
    x, y = a / 255.0, b / 255.0
    tensor = lambda v: torch.from_numpy(v).permute(2, 0, 1)[None]
    labels = lambda v: torch.from_numpy(v.ravel().astype(np.int64))
    ssim = dict(data_range=1.0, channel_axis=-1)
    # torchmetrics averages over reflected borders too; its map inside them is the one of Wang et al.
    _, full = tm.structural_similarity_index_measure(tensor(y), tensor(x), data_range=1.0, return_full_image=True)
    result = {
        "psnr": metrics.peak_signal_noise_ratio(x, y, data_range=1.0),
        "psnr_torchmetrics": tm.peak_signal_noise_ratio(tensor(y), tensor(x), data_range=1.0).item(),
        "ssim_uniform": metrics.structural_similarity(x, y, **ssim),
        "ssim_gaussian": metrics.structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, **ssim
        ),
        "ssim_torchmetrics": full[..., 5:-5, 5:-5].mean().item(),
        "nmi_1_2": metrics.normalized_mutual_information(a, b),
        "nmi_0_1": normalized_mutual_info_score(labels(b), labels(a)).item(),
    }
    if min(a.shape[:2]) >= 31:
        with torch.no_grad():
            single = lambda v: tensor(v).float()
            result["lpips"] = network(single(x), single(y), normalize=True).item()
    return result


def main():
    network = alexnet()
    cases = []
    for height, width, first, second in [
        (64, 64, (1, 2, 32), (2, 2, 32)),
        (64, 64, (1, 2, 32), (1, 2, 64)),
        (48, 70, (3, 5, 17), (4, 1, 200)),
        (31, 40, (5, 1, 4), (5, 1, 3)),
        (13, 11, (6, 3, 90), (7, 9, 20)),
        (200, 200, (8, 1, 8), (9, 1, 8)),
    ]:
        a, b = (picture(seed, height, width, ramp, noise) for seed, ramp, noise in (first, second))
        cases.append({"height": height, "width": width, "a": first, "b": second, **case(network, a, b)})
    versions = {"scikit-image": skimage_version, "torchmetrics": torchmetrics.__version__, "lpips": "0.1.4"}
    text = json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if KAT.read_text() == text else f"{KAT}: differs")
    KAT.write_text(text)


if __name__ == "__main__":
    main()
