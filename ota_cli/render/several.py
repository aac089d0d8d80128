"""Several sinks as one."""

from __future__ import annotations

from types import TracebackType
from typing import Mapping, Optional, Tuple, Type

from ..errors import OtaError
from ..events import Event
from .choice import Output


class SeveralOutputs:
    """Tells all of them the same, in their order."""

    def __init__(self, *outputs: Output) -> None:
        self._outputs = outputs

    def __enter__(self) -> SeveralOutputs:
        for output in self._outputs:
            output.__enter__()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for output in reversed(self._outputs):
            output.__exit__(kind, error, trace)

    def emit(self, event: Event) -> None:
        for output in self._outputs:
            output.emit(event)

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        for output in self._outputs:
            output.result(document, lines)

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        for output in self._outputs:
            output.failure(document, error)
