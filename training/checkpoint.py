"""Run folders: checkpoints from which a killed run continues as if nothing had happened.

A checkpoint is a folder ``checkpoints/step-00000500`` of two files, the field at
full precision and the rest of the state (``state.safetensors``: optimizer moments
and random generators; JSON metadata: counters).  It is written under another name
and renamed when complete, so a folder with the right name is always whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError
from ..representations.field import Field
from ..representations.field_file import load_field, save_field

FIELD, STATE = "field.field", "state.safetensors"
KEEP = 2


@dataclass
class Snapshot:
    field: Field
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def _folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def save_checkpoint(run: Path, field: Field, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the newest two.

    Raises:
        UserError: the folder cannot be written or the disk is full; earlier checkpoints stay.
    """
    final = _folder(run, step)
    partial = final.with_name(f".partial-{os.getpid()}-{final.name}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        save_field(field, partial / FIELD, precision="float32")
        contiguous = {k: v.detach().contiguous() for k, v in tensors.items()}
        save_file(contiguous, partial / STATE, metadata={"facts": json.dumps(facts)})
        with open(partial / STATE, "rb") as written:
            os.fsync(written.fileno())
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"{run}: the checkpoint of step {step} could not be written ({error}); free some space or choose another --out"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in checkpoints(run)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoints(run: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if (p / STATE).exists() and (p / FIELD).exists())


def load_checkpoint(run: Path, device: torch.device) -> Snapshot | None:
    """The newest readable checkpoint, or None where the run has none.

    Raises:
        UserError: checkpoints exist but none can be read.
    """
    problem: Exception | None = None
    found = checkpoints(run)
    for folder in reversed(found):
        try:
            field = load_field(folder / FIELD, device=str(device))
            with safe_open(folder / STATE, framework="pt", device=str(device)) as state:
                tensors = {key: state.get_tensor(key) for key in state.keys()}  # noqa: SIM118
                facts = json.loads((state.metadata() or {})["facts"])
            return Snapshot(field, tensors, facts)
        except (UserError, SafetensorError, OSError, KeyError, ValueError) as error:
            problem = error
    if problem is not None:
        raise UserError(f"{run}: none of its {len(found)} checkpoints can be read ({problem}); start again with --overwrite") from problem
    return None
