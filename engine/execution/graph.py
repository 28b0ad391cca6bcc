"""The front of a run: which steps may begin now. Pure bookkeeping over an Order."""

from __future__ import annotations

from heapq import heappop, heappush

from engine.plan import Order, Prepared


class Front:
    """Steps that may begin, in the order of their positions. Each is taken once, and told when it has ended."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._missing = dict(order.needs)
        self._ready = [(one.position, one) for one in order.steps if not order.needs[one.step.id]]

    def take(self) -> Prepared | None:
        """The next step that may begin; None when there is none at this moment."""
        return heappop(self._ready)[1] if self._ready else None

    def ended(self, step: str) -> None:
        """`step` needs no waiting for any more, however it ended."""
        for follower in self._order.followers[step]:
            name = follower.step.id
            self._missing[name] -= 1
            if not self._missing[name]:
                heappush(self._ready, (follower.position, follower))
