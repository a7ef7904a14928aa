"""An event loop whose clock jumps to the next thing that is due, so that minutes pass in no time and to the second."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.BaseSelector):
    """Looks at files as ever; but where it would wait, the clock moves instead."""

    def __init__(self) -> None:
        self._files = selectors.DefaultSelector()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Files that are ready, or else the next moment."""
        if ready := self._files.select(0):
            return ready
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for another")
        self.now += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See BaseSelector."""
        return self._files.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See BaseSelector."""
        return self._files.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """See BaseSelector."""
        return self._files.get_map()

    def close(self) -> None:
        """See BaseSelector."""
        self._files.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop; `time()` is the virtual clock."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since some moment."""
        return self._jumping.now


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, and whatever it starts, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
