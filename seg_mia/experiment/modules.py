"""Data modules shared by the runs of one process: samples are listed and opened once."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from lightning.pytorch import LightningModule

from seg_mia import data as readers
from seg_mia import defences, tasks
from seg_mia.config.files import inline
from seg_mia.config.messages import one_line, refusal
from seg_mia.config.options import Layer
from seg_mia.config.parsing import import_all
from seg_mia.config.spec import defaults
from seg_mia.data.base import VIEW, SegmentationData
from seg_mia.errors import InputError
from seg_mia.experiment.plan import Plan


class Parsed(NamedTuple):
    """A part of a plan's settings, with the parser that builds it."""

    parser: ArgumentParser
    settings: Namespace


def parsed_part(plan: Plan, name: str, base: type) -> Parsed | None:
    """Return one part of a plan's settings, such as `data`; None if it is not set.

    Args:
        plan: configs and options.
        name: name of the part.
        base: required base class.

    Raises:
        InputError: arguments that the part's class does not accept.
    """
    words = _words(plan, name)
    return _parsed(words, name, base) if words else None


def model_argument(plan: Plan, name: str, declared: Any) -> Any:
    """Return one argument of a plan's model, built without the others; None if it is not set.

    Args:
        plan: configs and options.
        name: name of the argument, such as `network`.
        declared: its type.

    Raises:
        InputError: settings that a class does not accept.
    """
    import_all(defences, tasks)
    parsed = parsed_part(plan, "model", LightningModule)
    settings = None if parsed is None else parsed.settings["model"].get("init_args", {}).get(name)
    if settings is None:
        return None
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=declared)
    with _refusals():
        return parser.instantiate_classes(parser.parse_object({name: settings}))[name]


def _words(plan: Plan, name: str) -> tuple[str, ...]:
    """Return one part of a plan's settings as the words of a command line."""
    words = list[str]()
    for setting in plan.settings:
        if not isinstance(setting, Layer):
            words += setting.words if setting.is_below(name) else []
        elif section := setting.content.get(name):
            words.append(f"--config={inline({name: section})}")
    return tuple(words)


def _parsed(words: Sequence[str], name: str, base: type) -> Parsed:
    """Return the settings of a part, with their parser; raise InputError for those that its class refuses."""
    # A string in a card must not become a class: values without a declared type are never built.
    set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(base, name, required=True)
    with _refusals():
        return Parsed(parser, parser.parse_args(list(words)))


@contextmanager
def _refusals() -> Iterator[None]:
    """Convert errors of a parser or a constructor to one-line InputErrors."""
    try:
        yield
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error))) from None
    except ValueError as error:
        raise refusal(error) or error from None


MOST = 16
"""Settings of data modules that are kept as they were read."""


@dataclass
class DataModules:
    """Data modules of one process, keyed by their settings except the subset each run reads.

    Args:
        limit: number of data modules to keep, the last used ones; all of them if not given.
    """

    limit: int | None = None
    _modules: dict[str, SegmentationData] = field(default_factory=dict)
    _parsed: dict[tuple[str, ...], Parsed] = field(default_factory=dict)
    """The last settings by the words that they were read from: an audit states the same ones many times."""

    def of_plan(self, plan: Plan) -> SegmentationData | None:
        """Return the data module of a plan; None if it has none.

        Raises InputError for invalid settings.
        """
        import_all(readers)
        words = _words(plan, "data")
        if not words:
            return None
        if words not in self._parsed:
            if len(self._parsed) == MOST:
                del self._parsed[next(iter(self._parsed))]
            self._parsed[words] = _parsed(words, "data", SegmentationData)
            self._parsed[words].parser.add_instantiator(self._built, SegmentationData, subclasses=True)
        parser, settings = self._parsed[words]
        with _refusals():
            data: SegmentationData = parser.instantiate_classes(settings.clone()).data
        return data

    def module(
        self,
        kind: type[SegmentationData],
        settings: Mapping[str, Any],
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> SegmentationData:
        """Return a data module with these settings, on samples that are opened once.

        Args:
            kind: class of the data module.
            settings: arguments of its constructor.
            hyperparameters: values stored in checkpoints; the settings themselves if not given.
        """
        complete = defaults(kind) | dict(settings)
        lasting = {name: value for name, value in complete.items() if name not in VIEW}
        key = json.dumps([kind.__module__, kind.__qualname__, lasting], default=repr, sort_keys=True)
        known = self._modules.pop(key, None)
        self._modules[key] = kind(**settings) if known is None else known
        while self.limit is not None and len(self._modules) > self.limit:
            del self._modules[next(iter(self._modules))]
        view: dict[str, Any] = {name: complete[name] for name in VIEW if name in complete}
        return self._modules[key].viewed(hyperparameters or complete, **view)

    def _built(self, kind: type[SegmentationData], *_: object, **settings: Any) -> SegmentationData:
        settings.pop("applied_instantiation_links", None)
        return self.module(kind, settings)
