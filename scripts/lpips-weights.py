#!/usr/bin/env python3
"""Writes the weights of `lpips.LPIPS(net='alex')` as the safetensors file that `--lpips FILE` reads.

pip install lpips safetensors torch torchvision, then: scripts/lpips-weights.py lpips-alex.safetensors
"""

import sys

import lpips
from safetensors.torch import save_file

if len(sys.argv) != 2:
    sys.exit(__doc__)
state = lpips.LPIPS(net="alex", version="0.1", verbose=False).state_dict()
# `lins.0` is `lin0` under another name, and the scaling is fixed.
kept = {name: tensor.contiguous() for name, tensor in state.items() if not name.startswith(("lins.", "scaling"))}
save_file(kept, sys.argv[1])
