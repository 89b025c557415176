"""A process that compiles Triton kernels to machine code for a GPU that need not be here: `compile_child.py 90 CASE…`.

Operations run on CPU tensors with every launch caught: its arguments' types and compile-time numbers go to Triton's
compiler, nothing is executed.  Prints one JSON line per kernel: registers, spilled bytes, shared memory, what it is made of.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from fieldmorph.kernels import cuda
from fieldmorph.kernels.cuda import runtime

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.int32: "*i32", torch.int64: "*i64", torch.uint8: "*u8", torch.bool: "*i1"}
seen: set[str] = set()


def type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "i32" if isinstance(value, int) and not isinstance(value, bool) else "fp32" if isinstance(value, float) else "constexpr"


def resources(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of local memory) of a compiled kernel, read from its ELF notes by cuobjdump where Triton brings it."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        said = subprocess.run([knobs.nvidia.cuobjdump.path, "-res-usage", str(path)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    return int(found[1]), int(found[2])


def caught(capability: int) -> Any:
    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        names = self.arg_names
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        options = {name: given.pop(name) for name in ("num_warps", "num_stages") if name in given and name not in names}
        constants = {p.name for p in self.params if p.is_constexpr}
        signature = {n: "constexpr" if n in constants else type_of(given[n]) for n in names}
        values = {n: given[n] for n in names if signature[n] == "constexpr"}
        aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in names if signature[n].startswith("*")}
        key = f"{self.__name__} {signature} {values} {options}"
        if key in seen:
            return
        seen.add(key)
        kernel = triton.compile(
            ASTSource(self, signature, values, attrs=aligned), target=GPUTarget("cuda", capability, 32), options=options
        )
        used = Counter(
            m.split(".")[0] + (".global" if ".global" in m else "")
            for m in re.findall(r"^\s*(?:@!?%p\d+ )?((?:ld|st|mma|wgmma|atom|red)\.[\w.:]+)", kernel.asm["ptx"], re.MULTILINE)
        )
        try:
            registers, local = resources(kernel.asm["cubin"])
        except (OSError, AttributeError, subprocess.CalledProcessError):
            registers, local = 0, 0
        shown = {k: v for k, v in values.items() if isinstance(v, bool | int)}
        facts = {"kernel": self.__name__, "registers": registers, "local": local, "shared": kernel.metadata.shared}
        sys.stdout.write(json.dumps({**facts, "used": dict(used), "with": shown}) + "\n")
        sys.stdout.flush()

    return run


if __name__ == "__main__":
    from compile_cases import CASES

    capability, *wanted = int(sys.argv[1]), *sys.argv[2:]
    runtime.interpreted = lambda: True  # type: ignore[assignment]
    JITFunction.run = caught(capability)  # type: ignore[method-assign]
    cuda.load()
    field = importlib.import_module("fieldmorph.kernels.cuda.field")
    field.joined = lambda device: capability // 10 in runtime.JOINED  # type: ignore[attr-defined]
    for name in wanted or CASES:
        CASES[name]()
