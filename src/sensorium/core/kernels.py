"""The one kernel of our own, in C: built when it is first used, where there is a compiler, and never needed.

It takes a fifth of a second to build, so each process builds it for itself: nothing is kept that could be stale, made
for another processor or planted by someone else.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

_SECONDS = 30
_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64


@cache
def int8_product() -> Callable[..., None] | None:
    """``int8_product`` of ``int8.c``: pointers to matrix, scale, vectors and results; count, height, width; threads.

    None without a compiler (``cc``, or what the variable ``CC`` of the environment names) that knows this processor and
    OpenMP.
    """
    library = _build(Path(__file__).with_name("int8.c"))
    if library is None:
        return None
    function = library.int8_product
    function.argtypes = [_POINTER] * 4 + [_COUNT] * 3 + [ctypes.c_int]
    function.restype = None
    return function


def _build(source: Path) -> ctypes.CDLL | None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made, library = Path(folder, "made.o"), Path(folder, "made.so")
        compiled = [compiler, "-O3", "-march=native", "-fopenmp", "-fPIC", "-c", str(source), "-o", str(made)]
        # Linked without OpenMP: it finds that of torch, and so shares its threads, or does not load at all.
        linked = [compiler, "-shared", str(made), "-o", str(library)]
        try:
            for command in (compiled, linked):
                subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
            return ctypes.CDLL(str(library))
        except (subprocess.SubprocessError, OSError):
            return None
