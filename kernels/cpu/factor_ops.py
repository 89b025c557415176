"""``vm_products`` and ``cp_products`` on their own, behind torch's autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..dispatch import gradients_are_in_place
from .cp import lines_cells, lines_products, lines_scatter
from .encode import tile_of
from .factors import mode_cells, mode_products, mode_scatter
from .gradients import table_gradients
from .jit import TILE, kernel
from .marching import array32
from .plan import flat
from .pool import launch
from .simd import fetch_add
from .vm import columns, mode_sizes, triple

_EACH = 16
"""Tiles a thread takes at once."""
