"""Progress bar of decoding and of passes over all samples."""

from types import TracebackType
from typing import Never, Self

from tqdm import tqdm


class DecodingBar:
    """A progress bar that appears with the first sample, so that nothing is shown for an existing cache."""

    def __init__(self, description: str = "decoding into the cache", unit: str = "sample") -> None:
        self.description, self.unit = description, unit
        self.bar: tqdm[Never] | None = None
        self.done = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.description, unit=self.unit, leave=False, disable=None)
        self.bar.update(done - self.done)
        self.done = done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
