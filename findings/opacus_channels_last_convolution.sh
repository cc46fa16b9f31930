#!/usr/bin/env bash
# opacus 1.6.0, torch 2.13.0: gradients of single samples of a convolution.
#
# Expected: the gradients of single samples add up to the gradient of their
# summed loss, in whatever order the input lies in memory. torch calls two
# tensors of equal values equal, and its own gradient is the same for both.
#
# What happens: with an input in memory format channels_last, or any other view
# with its channels last, grad_sample of Conv2d holds other numbers, without a
# warning; norms and clipping follow them. Kernels of one and of three
# pixels are both affected, the weight's ordinary .grad is right. The library
# strides over the input as if its rows were contiguous (unfold2d). The
# functorch way (force_functorch=True) is right.
#
# Seen:
#   kernel 1, contiguous: hooks off by 0.00, functorch by 0.00
#   kernel 1, channels last: hooks off by 1.05, functorch by 0.00
#   kernel 3, contiguous: hooks off by 0.00, functorch by 0.00
#   kernel 3, channels last: hooks off by 1.33, functorch by 0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile torch==2.13.0 opacus==1.6.0 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn


def off(kernel, x, functorch):
    """Return the difference to torch's gradient of the sum, over its largest entry."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 1, kernel, bias=False)
    watched = GradSampleModule(layer, loss_reduction="sum", force_functorch=functorch)
    watched(x).square().sum().backward()
    (weight,) = watched.parameters()
    return ((weight.grad_sample.sum(0) - weight.grad).abs().max() / weight.grad.abs().max()).item()


torch.manual_seed(1)
x = torch.randn(2, 3, 6, 5)
last = x.contiguous(memory_format=torch.channels_last)
assert torch.equal(x, last)
for kernel in (1, 3):
    for name, images in (("contiguous", x), ("channels last", last)):
        hooks, functorch = off(kernel, images, False), off(kernel, images, True)
        print(f"kernel {kernel}, {name}: hooks off by {hooks:.2f}, functorch by {functorch:.2f}")
        assert functorch < 1e-4
        assert hooks > 0.1 if name == "channels last" else hooks < 1e-4
PY
