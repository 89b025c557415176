"""Kernels that share no machine code with each other.

Numba puts a copy of every function that a kernel calls into the kernel's object and lets the linker choose among equal
names, so which copy runs depends on what the process compiled and loaded before. Copies are optimised apart and may round
differently: what a kernel computes would depend on the process's history, and a resumed run could differ from one that
was not stopped. Here the copies are private to their kernel, which also frees the optimiser to specialise them.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import AnnotateTypes


class _ClosedLibrary(JITCodeLibrary):  # type: ignore[misc]
    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


@register_pass(mutates_CFG=False, analysis_only=True)
class _Close(LoweringPass):  # type: ignore[misc]
    _name = "close_library"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = _ClosedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return True


class ClosedCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler, with one pass more: what a kernel calls is put into its library and hidden there."""

    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.add_pass_after(_Close, AnnotateTypes)  # the last before code is made
        manager.finalize()
        return [manager]
