"""Imports of a command: packages run when they are used, most of them never."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

PACKAGES = (
    "albumentations",
    "scipy.fft",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.signal",
    "scipy.special",
    "scipy.stats",
    "segmentation_models_pytorch",
    "timm",
    "torchmetrics",
)
"""Packages whose import takes long, and that not every training, attack or result uses."""
COMPILER = "torch._dynamo"
KERNELS = "triton.runtime.jit"
PLOTS = "torchmetrics.utilities.plot"


_RUNNING = list[str]()


def is_importing() -> bool:
    """Return whether a package runs that was deferred: what it reads is not what its user asks for."""
    return bool(_RUNNING)


class _OnDemand(ModuleType):
    """A package whose `__init__` runs when an attribute, or one of its modules, is first requested."""

    def __getattr__(self, name: str) -> Any:
        if name in _WITHOUT.get(self.__name__, {}):
            return _WITHOUT[self.__name__][name]()
        if name.startswith("__") and name not in {"__path__", "__version__"}:
            raise AttributeError(name)
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        before = dict(vars(self))
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on it is what it stands for
        self.__path__ = spec.submodule_search_locations or []
        sys.modules[self.__name__] = self
        _RUNNING.append(self.__name__)
        try:
            spec.loader.exec_module(self)
        except BaseException:  # as of an import that fails: the next one begins anew, by name or by attribute
            sys.modules.pop(self.__name__, None)
            parent, _, child = self.__name__.rpartition(".")
            if vars(sys.modules.get(parent, object)).get(child) is self:
                delattr(sys.modules[parent], child)
            self.__class__ = _OnDemand
            vars(self).clear()
            vars(self).update(before)
            raise
        finally:
            _RUNNING.remove(self.__name__)
        return getattr(self, name)


class _Compiled(type):
    """Class of the compiler's wrapper, which no object has before the compiler is imported."""

    def __instancecheck__(cls, instance: object) -> bool:
        frames = sys.modules.get(f"{COMPILER}.eval_frame")
        return frames is not None and isinstance(instance, frames.OptimizedModule)


def defer() -> None:
    """Let packages run on demand, of those that this process has not imported."""
    for name in PACKAGES:
        spec = None if name in sys.modules else find_spec(name)
        if spec is None or spec.loader is None:
            continue
        module = module_from_spec(spec)
        module.__class__ = _OnDemand
        if name not in _WITHOUT:
            del module.__path__  # the import of a module within asks for it, and the package runs first
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import Lightning in this context without torch's compiler, a third of its import time, and triton.

    Lightning asks for the compiler only to mark a function and to recognise compiled networks, of which there
    are none before it is imported, and for triton to recognise its kernels, which a help page runs none of.
    In a process that has imported the compiler, nothing changes.
    """
    import torch

    if COMPILER in sys.modules:
        yield
        return
    compiler: Any = ModuleType(COMPILER)
    compiler.OptimizedModule = _Compiled("OptimizedModule", (torch.nn.Module,), {})
    compiler.disable = lambda function=None, *_, **__: function or (lambda decorated: decorated)
    modules = {COMPILER: compiler}
    if find_spec("triton"):
        modules[KERNELS] = _module(KERNELS, JITFunction=type("JITFunction", (), {}))
    torch._dynamo = compiler
    try:
        with _standing_in(modules):
            yield
    finally:
        del torch._dynamo


def _module(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


@contextmanager
def _standing_in(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Let modules stand in for those of their names that this process has not imported."""
    missing = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _metric(module: str, name: str) -> Callable[[], object]:
    def imported() -> object:
        with _standing_in(
            {PLOTS: _module(PLOTS, _AX_TYPE=object, _PLOT_OUT_TYPE=object, plot_single_or_multi_val=_plot)}
        ):
            import_module("torchmetrics.utilities")  # which imports the metrics' base class in its middle
            return getattr(import_module(module), name)

    return imported


def _plot(*args: Any, **settings: Any) -> Any:
    """Draw a metric's values: the module that does so imports matplotlib."""
    return import_module(PLOTS).plot_single_or_multi_val(*args, **settings)


_WITHOUT: Mapping[str, Mapping[str, Callable[[], object]]] = {
    "torchmetrics": {
        "__version__": lambda: import_module("torchmetrics.__about__").__version__,
        "_logger": lambda: logging.getLogger("torchmetrics"),
        "Metric": _metric("torchmetrics.metric", "Metric"),
        "CompositionalMetric": _metric("torchmetrics.metric", "CompositionalMetric"),
        "MetricCollection": _metric("torchmetrics.collections", "MetricCollection"),
    }
}
"""What is requested of a package without running it, here by Lightning and by this package's own metrics."""
