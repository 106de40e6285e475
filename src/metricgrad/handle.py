"""What attaching a loss to a training gives back."""

from __future__ import annotations

from collections.abc import Callable


class Handle:
    """An attachment of a loss to a model and an optimiser; ``detach()`` removes the hooks."""

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove: Callable[[], None] | None = remove

    def detach(self) -> None:
        """Remove the hooks; calling it twice does no harm."""
        if self._remove is not None:
            self._remove()
            self._remove = None
