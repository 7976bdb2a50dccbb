#!/usr/bin/env python3
"""Epsilons of composed Gaussian mechanisms by dp-accounting's Renyi accountant: the fixtures of privacy.rs.

Needs `pip install dp-accounting==0.6.0`. Usage: privacy.py > privacy.json
"""

import json

import dp_accounting
from dp_accounting import rdp

# Dense enough that the best order of the list is as good as the best of all, to 1e-4.
ORDERS = sorted({1 + 10 ** (k / 200) for k in range(-400, 700)})
CASES = [
    (delta, multipliers)
    for delta in (1e-5, 1e-6, 1e-9)
    for multipliers in ([0.6], [1.0], [3.7], [12.5], [100.0], [1.0, 1.0], [2.0, 5.0, 9.0], [30.0] * 40)
]


def epsilon(delta, multipliers):
    accountant = rdp.RdpAccountant(orders=ORDERS)
    for multiplier in multipliers:
        accountant.compose(dp_accounting.GaussianDpEvent(multiplier))
    return accountant.get_epsilon(delta)


print(
    json.dumps(
        {
            "generator": "dp-accounting 0.6.0, RdpAccountant, GaussianDpEvent",
            "cases": [
                {"delta": delta, "noise_multipliers": multipliers, "epsilon": epsilon(delta, multipliers)}
                for delta, multipliers in CASES
            ],
        },
        indent=1,
    )
)
