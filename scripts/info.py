"""``fieldmorph info``: what is installed and used here, and what a field file holds."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import platform
import textwrap
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from .. import __version__, progress
from .options import Compute, Talk, value

if TYPE_CHECKING:
    import torch

    from ..representations.field import Field

LIBRARIES = ("torch", "numpy", "numba", "safetensors", "tyro", "av", "triton", "dearpygui", "open3d", "ray", "tinycudann")


@dataclass(frozen=True, kw_only=True)
class Info(Compute, Talk):
    """Say what is used on this machine, or describe a field.

    Without arguments: versions, device, and which kernels are used and why each better one is not.
    With a run folder or field file: family, options, size, box, occupancy and history.
    """

    field: Annotated[Positional[Path | None], value("FIELD")] = None
    """Run folder or field file to describe."""
    family: Annotated[str | None, value("NAME")] = None
    """List the options of a family, for --set."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        self.talk(messages_to_stderr=self.json)
        if self.family is not None:
            facts: dict[str, Any] = describe_family(self.family)
        elif self.field is not None:
            facts = describe_field(self.field)
        else:
            facts = describe_machine(self.choose_device())
        if self.json:
            print(json.dumps(facts, indent=2))
        elif self.family is not None:
            progress.say(f"{facts['family']}: {facts['summary']}")
            progress.table(("option", "default", "meaning"), [(name, o["default"], o["meaning"]) for name, o in facts["options"].items()])
        else:
            for line in lines(facts):
                progress.say(line)
        return 0


def lines(facts: Any, indent: str = "") -> list[str]:
    """Nested facts as indented ``name: value`` lines."""
    out = []
    for name, fact in facts.items():
        label = f"{indent}{name if indent else str(name).replace('_', ' ')}:"
        if isinstance(fact, dict) and fact:
            out += [label, *lines(fact, indent + "  ")]
        elif isinstance(fact, list | tuple) and fact and all(isinstance(item, str) for item in fact):
            out += [label, *(f"{indent}  {item}" for item in fact)]
        elif isinstance(fact, list | tuple):
            out.append(f"{label} {', '.join(map(str, fact)) or 'none'}")
        else:
            out.append(f"{label} {'none' if fact is None else fact}")
    return out


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Versions, processor, memory, device, kernels."""
    import torch

    from .. import kernels
    from ..benchmarks.machine import describe_cpu
    from ..representations.registry import families

    memory = progress.available_memory()
    cpu = describe_cpu()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu["name"]
    return {
        "fieldmorph": __version__,
        "python": platform.python_version(),
        "libraries": {library: version_of(library) for library in LIBRARIES},
        "cpu": cpu,
        "memory_available": None if memory is None else progress.format_bytes(memory),
        "device": f"{device} ({name})",
        "kernels": kernels.explain(device),
        "families": {name: family.summary for name, family in families().items()},
    }


def version_of(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe_field(path: Path) -> dict[str, Any]:
    """What a field is made of. JSON-able."""
    from ..training import load_run_or_field

    field = load_run_or_field(path)
    file = path / "field.field" if path.is_dir() else path
    facts = dict(field.metadata)
    cameras = facts.pop("cameras", None)
    return {
        "field": str(path),
        "family": field.family,
        "options": dataclasses.asdict(field.options),
        "parameters": field.numbers,
        "tensors": tensors(field),
        "bytes": file.stat().st_size if file.is_file() else None,
        "size": progress.format_bytes(file.stat().st_size) if file.is_file() else None,
        "box": {"lower": list(field.space.lower), "upper": list(field.space.upper), "unbounded": field.space.unbounded},
        "occupancy": {
            "resolution": field.occupancy.resolution,
            "occupied": round(float(field.occupancy.bits.float().mean()), 6),
        },
        "training_cameras": 0 if cameras is None else len(cameras),
        **facts,
    }


def tensors(field: Field) -> dict[str, str]:
    """Name -> shape of what was learned."""
    from ..representations.header import MASK

    masks = {name: f"{'x'.join(map(str, grid.shape))} bits" for name, grid in field.named_buffers() if name == MASK}
    return {**{name: "x".join(map(str, p.shape)) or "scalar" for name, p in field.named_parameters()}, **masks}


def describe_family(name: str) -> dict[str, Any]:
    """A family's options with their defaults and what their docstrings say."""
    from ..representations.registry import get_family

    family = get_family(name)
    meanings: dict[str, str] = {}
    for kind in reversed(family.options.__mro__):
        if dataclasses.is_dataclass(kind):
            meanings.update(field_docs(kind))
    options = {
        f.name: {
            "type": f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type)),
            "default": f.default,
            "meaning": meanings.get(f.name, ""),
        }
        for f in dataclasses.fields(family.options)
    }
    return {"family": family.name, "summary": family.summary, "options": options}


def field_docs(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                docs[name] = " ".join(doc.split())
    return docs
