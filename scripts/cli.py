"""Entry point of the command line: finds the verb, runs it, and turns whatever happens into an exit code.

0: done. 1: a mistake of the program. 2: a mistake in what it was given. 130: interrupted with Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, Union

from .. import __version__, progress
from ..errors import UserError

DEBUG = "FIELDMORPH_DEBUG"
SHELLS = ("bash", "zsh")
INTERRUPTED = 130
DESCRIPTION = """Train radiance fields on any machine, convert them, shrink them and fly through them.

fieldmorph VERB --help tells all about a verb. Start with: fieldmorph demo"""


def commands() -> Any:
    """The type tyro parses the command line into: one frozen dataclass per verb, each with ``run()``."""
    from tyro.conf import subcommand

    from .bench import Bench
    from .compress import Compress
    from .data import DataInfo, DataMake
    from .demo import Demo
    from .distill import Distill
    from .edit import EditField
    from .eval import Eval
    from .info import Info
    from .rate_distortion import RateDistortion
    from .render import Render
    from .reproduce import AnyToAny, Dynamic, HashToMLP
    from .train import Train
    from .view import View

    def verbs(**kinds: type) -> Any:
        named = [Annotated[kind, subcommand(name, description=(kind.__doc__ or "").split("\n\n")[0])] for name, kind in kinds.items()]
        return Union[tuple(named)]  # noqa: UP007 - of a list that is made here

    data = verbs(make=DataMake, info=DataInfo)
    data = Annotated[data, subcommand("data", description="Make a scene to train on, or look at one: data make, data info.")]
    experiments = verbs(**{"any-to-any": AnyToAny, "dynamic": Dynamic, "hash-to-mlp": HashToMLP, "rate-distortion": RateDistortion})
    experiments = Annotated[experiments, subcommand("reproduce", description="Reproduce an experiment of a paper.")]
    making = verbs(train=Train, distill=Distill, compress=Compress, edit=EditField)
    looking = verbs(eval=Eval, render=Render, view=View, info=Info, bench=Bench)
    return verbs(demo=Demo) | data | making | looking | experiments


def parse(arguments: Sequence[str]) -> Any:
    """The verb's options. Exits with code 2 and a hint on a mistake, 0 after --help."""
    import tyro
    from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes

    return tyro.cli(
        commands(),
        prog="fieldmorph",
        description=DESCRIPTION,
        args=list(arguments),
        config=(FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes),
    )


def run(arguments: Sequence[str]) -> int:
    """Parse and run; exceptions pass through."""
    if arguments[:1] in (["--version"], ["-V"]):
        print(f"fieldmorph {__version__}")
        return 0
    if arguments[:1] == ["completion"]:
        if len(arguments) != 2 or arguments[1] not in SHELLS:
            raise UserError(f"fieldmorph completion: name a shell, one of {', '.join(SHELLS)}")
        arguments = ["--tyro-print-completion", arguments[1]]
    elif not arguments:
        arguments = ["--help"]
    return int(parse(arguments).run() or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code; no traceback unless FIELDMORPH_DEBUG is set."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show "×" is no reason to stop
    if not os.environ.get(DEBUG):
        warnings.showwarning = _show_warning
        threading.excepthook = _show_thread_error
    try:
        code = run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except BrokenPipeError:
        # The reader (head, less) has what it wanted. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        sentence = _users_mistake(error)
        if sentence is not None:
            _complain(f"error: {sentence}")
            return 2
        if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
            _complain("error: out of memory; close other programs, or use less: smaller images, --samples, --size or --set options")
            return 1
        _complain(f"internal error: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}")
        _complain(f"Please report this, with what it prints when {DEBUG}=1 is set.")
        return 1


def _users_mistake(error: Exception) -> str | None:
    """The sentence about what the user can mend, or None where the program is to blame."""
    if isinstance(error, UserError):
        return str(error)
    theirs = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENAMETOOLONG)
    if isinstance(error, OSError) and error.errno in theirs:
        return f"{error.filename or 'writing'}: {error.strerror}; free some space or name another place"
    return None


def _complain(text: str) -> None:
    try:
        print(f"fieldmorph: {text}", file=sys.stderr, flush=True)
    except OSError:  # nobody listens any more
        pass


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Warnings in the form of all other messages; those meant for programmers only with --verbose."""
    text = " ".join(str(message).split())
    if issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning | ResourceWarning):
        progress.detail(f"warning: {text}")
    else:
        progress.warn(text)


def _show_thread_error(failed: threading.ExceptHookArgs) -> None:
    """A background thread only prepares what the main one does again and then reports."""
    progress.detail(f"warning: {failed.exc_type.__name__} in the background: {' '.join(str(failed.exc_value).split())}")


def entry() -> NoReturn:
    """The program: :func:`main`, and out.

    A background thread of ours that is still inside compiled code (warming up, a viewer's job) is neither waited for nor
    torn down half way, which would abort the process.
    """
    code = main()
    if any(thread.daemon and thread.name.startswith("fieldmorph") for thread in threading.enumerate()):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
