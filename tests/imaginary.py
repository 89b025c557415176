"""An imaginary GPU: tensors that say they are on ``cuda:0``, are not to be mixed with the CPU's, and hold their numbers on the CPU.

What a machine without a GPU can check of code for one.  Inside :func:`imaginary_gpu`, ``torch.cuda.is_available()`` is true,
``device="cuda"`` makes such tensors, and what PyTorch refuses on a real GPU is refused with PyTorch's words: operations on
tensors of both kinds, ``.numpy()``, kernels launched on the CPU's memory, generators of the other kind.  Triton's kernels are
interpreted.  Synchronisations (what a kernel's result is waited for) are counted.  It knows neither streams nor races nor time.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten

WAITS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)
"""Operations whose result or its size the processor waits for."""
ACROSS = (aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default)
"""Operations that take tensors of both kinds."""


class Waited:
    """How often the processor waited for the GPU."""

    times = 0

    @classmethod
    def once(cls) -> None:
        """The processor waits, which it must not while a graph is recorded."""
        if Graph.recording is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        cls.times += 1


class Graph:
    """A CUDA graph: what is done while it records has no effect but to be done again, over the same memory, by every replay."""

    recording: Graph | None = None

    def __init__(self) -> None:
        self.tape: list[Callable[[], Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def record(self, capture_error_mode: str = "global") -> Iterator[None]:
        Graph.recording = self
        try:
            yield
        finally:
            Graph.recording = None
        for tensor, old in self.before.values():
            tensor.copy_(old)
        self.before.clear()

    def replay(self) -> None:
        assert Graph.recording is None and self.tape
        with torch.no_grad():
            for again in self.tape:
                again()

    def changes(self, *values: Any) -> None:
        """Memory that what comes next may write to."""
        for t in values:
            if isinstance(t, Tensor):
                whole = torch.empty(0, dtype=t.dtype).set_(t.untyped_storage())
                self.before.setdefault(whole.data_ptr(), (whole, whole.clone()))

    def note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """An operation has been done."""
        if func._schema.is_mutable:
            self.tape.append(lambda: func(*args, **kwargs))
            return
        made = [t for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, Tensor)]
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        if any(t.numel() and t.untyped_storage().data_ptr() in given for t in made):
            return  # a view

        def again() -> None:
            fresh = func(*args, **kwargs)
            for old, new in zip(made, fresh if isinstance(fresh, tuple | list) else [fresh], strict=True):
                old.copy_(new)

        self.tape.append(again)


def _on_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class GpuTensor(torch.Tensor):
    """A tensor on the imaginary GPU around one on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> GpuTensor:
        assert not isinstance(held, GpuTensor)
        made: GpuTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, layout=held.layout, device=CPU
        )
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        pass

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> GpuTensor:
        return GpuTensor(inner["held"])

    def __repr__(self, *_: Any, **__: Any) -> str:  # type: ignore[override]
        return f"GpuTensor({self.held})"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")

    __array__ = numpy

    def tolist(self) -> Any:
        Waited.once()
        return self.held.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("a tensor on the GPU is to be copied to the CPU before it is written")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy = GpuTensor(self.held.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)  # type: ignore[assignment]
        memo[id(self)] = copy
        return copy

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return self.to("cpu")

    def cuda(self, *_: Any, **__: Any) -> Tensor:
        return self

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        device, rest, options = _parse_to(args, kwargs)
        if device is None or device.type == "cuda":
            return super().to(*rest, **options)
        moved = _ToCpu.apply(self)
        return moved.to(*rest, **options) if rest or options else moved  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _refuse_mixture(func, args, kwargs)
        if func in WAITS or (func is aten.index.Tensor and any(t is not None and t.dtype == torch.bool for t in args[1])):
            Waited.once()
        kwargs_there = dict(kwargs)
        to_cpu = func in (aten.copy_.default, aten._foreach_copy_.default) and not isinstance(args[0], GpuTensor)
        if "device" in kwargs_there:
            kwargs_there["device"] = None if kwargs["device"] is None else CPU
        if to_cpu:
            Waited.once()
        args_held, kwargs_held = tree_map(_held, args), tree_map(_held, kwargs_there)
        if Graph.recording is not None:
            _refuse_copies(args)
            if func._schema.is_mutable:
                Graph.recording.changes(*tree_leaves((args_held, kwargs_held)))
        out = func(*args_held, **kwargs_held)
        if Graph.recording is not None:
            Graph.recording.note(func, args_held, kwargs_held, out)
        if func is aten._local_scalar_dense.default or to_cpu:
            return args[0] if to_cpu else out
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_there, out))


def _parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
    """Device, and what else ``Tensor.to`` was given."""
    options = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking")}
    device, rest = kwargs.get("device"), args
    if args and isinstance(args[0], str | torch.device | int):
        device, rest = args[0], args[1:]
    elif args and isinstance(args[0], Tensor):
        device, rest = args[0].device, (args[0].dtype, *args[1:])
    return (None if device is None else torch.device(device)), tuple(x for x in rest if isinstance(x, torch.dtype)), options


class _ToCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, there: GpuTensor) -> Tensor:
        Waited.once()
        return there.held.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        return GpuTensor(gradient)


class _ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, here: Tensor) -> Tensor:
        if Graph.recording is not None:
            Waited.once()
        return GpuTensor(here.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        return gradient.held if isinstance(gradient, GpuTensor) else gradient


def _held(x: Any) -> Any:
    return x.held if isinstance(x, GpuTensor) else x


def _there(x: Any) -> Any:
    return GpuTensor(x) if isinstance(x, Tensor) and not isinstance(x, GpuTensor) else x


def _refuse_mixture(func: Any, args: Any, kwargs: Any) -> None:
    if func in ACROSS:
        return
    kinds = set()

    def note(x: Any) -> None:
        if isinstance(x, GpuTensor):
            kinds.add("cuda:0")
        elif isinstance(x, Tensor) and x.dim() > 0:
            kinds.add("cpu")

    tree_map(note, (args, kwargs))
    if len(kinds) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})")


def _refuse_copies(args: Any) -> None:
    """Memory that is not pinned cannot be copied from while a graph is recorded."""
    if any(isinstance(a, Tensor) and not isinstance(a, GpuTensor) and a.dim() > 0 for a in tree_leaves(args)):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


WIDE = 4096
"""Block of an interpreted kernel."""


class _Devices(TorchFunctionMode):
    """Makes tensors where ``device=`` says."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to and not isinstance(args[0], GpuTensor):
            device, rest, options = _parse_to(args[1:], kwargs)
            if device is not None and device.type == "cuda":
                here = args[0].to(*rest, **options) if rest or options else args[0]
                return _ToGpu.apply(here)
            return func(*args, **kwargs)
        if func is torch.Tensor.cuda and not isinstance(args[0], GpuTensor):
            return _ToGpu.apply(args[0])
        if _on_gpu(kwargs.get("device")) and not any(isinstance(a, GpuTensor) for a in args):
            if kwargs.get("generator") is not None:
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
            learning = kwargs.pop("requires_grad", False)
            kwargs["device"] = CPU
            held = func(*args, **kwargs)
            made = GpuTensor(held)
            if Graph.recording is not None:
                if func is torch.tensor or func is torch.as_tensor:
                    Waited.once()
                Graph.recording.tape.append(lambda: held.copy_(func(*args, **kwargs)))
            return made.requires_grad_() if learning else made
        return func(*args, **kwargs)


class _Stream:
    def wait_stream(self, other: Any) -> None:
        pass


@contextmanager
def imaginary_gpu() -> Iterator[type[Waited]]:
    """A machine with a GPU, as said above."""
    Waited.times = 0
    properties = SimpleNamespace(multi_processor_count=1, total_memory=1 << 33, name="imaginary", major=9, minor=0)
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "imaginary GPU",
        "get_device_properties": lambda *_: properties,
        "synchronize": lambda *_: None,
        "set_device": lambda *_: None,
        "max_memory_allocated": lambda *_: 1 << 20,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda *_: (1 << 33, 1 << 33),
        "Stream": _Stream,
        "current_stream": _Stream,
        "stream": contextlib.nullcontext,
        "CUDAGraph": Graph,
        "graph": Graph.record,
    }
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _interpreted_kernels(), _Devices() as devices, _backward(devices), mock.patch.multiple(torch.cuda, **answers):
            yield Waited
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


@contextmanager
def _backward(devices: _Devices) -> Iterator[None]:
    """Backward passes of ours, which the engine calls with modes off and gradients nobody gave as the CPU's zeros."""
    node = torch.autograd.function.BackwardCFunction
    plain = node.apply

    def apply(self: Any, *gradients: Any) -> Any:
        if any(isinstance(t, GpuTensor) for t in (*self.saved_tensors, *gradients)):
            gradients = tuple(_there(g) for g in gradients)
        with devices:
            return plain(self, *gradients)

    with mock.patch.object(node, "apply", apply):
        yield


@contextmanager
def _interpreted_kernels() -> Iterator[None]:
    """Kernels take the GPU's tensors only."""
    from triton.runtime import interpreter

    plain = interpreter.GridExecutor.__call__

    def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
        for a in (*args, *kwargs.values()):
            if isinstance(a, Tensor) and not isinstance(a, GpuTensor):
                raise ValueError("Pointer argument cannot be accessed from Triton (cpu tensor?)")
        given = tuple(_held(a) for a in args)
        if Graph.recording is not None:
            Graph.recording.changes(*given)
            Graph.recording.tape.append(lambda: plain(self, *given, **kwargs))
        return plain(self, *given, **kwargs)

    from fieldmorph.kernels import cuda

    cuda.load()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(interpreter.GridExecutor, "__call__", launch))
        for module in ("compositing", "field", "fused", "grid", "marching", "optim", "voxels"):
            # The interpreter's time is that of its calls, whatever the size of a block.
            module = importlib.import_module(f"fieldmorph.kernels.cuda.{module}")
            stack.enter_context(mock.patch.object(module, "BLOCK", WIDE))
        yield
