"""One worker process: its services, and how it ends.

SIGTERM or SIGINT drains it (nothing new is leased, runs finish or go back without using up an attempt); a
second signal ends it at once, and what it held is reaped when the leases run out.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from engine import db, reflex, telemetry
from engine import settings as settings_
from engine.errors import ValidationFailed
from engine.gate.client import open_gate
from engine.metrics import Metrics
from engine.reflex.proof import prepare
from engine.service import Service, ended, stop_signals
from engine.settings import Settings
from engine.store import leases, notifier
from engine.store.allowances import LOOK_EVERY as READ_EVERY
from engine.tools.registry import Catalog
from engine.tools.reload import LOOK_EVERY, LiveCatalog
from engine.tools.toolbox import Toolbox, open_toolbox
from workers.config import WorkerConfig
from workers.coordinator import Coordinator
from workers.failures import FailureWatch
from workers.heartbeat import Heartbeat
from workers.requested import RequestCheck
from workers.runner import Runner
from workers.settler import Settler

PROMOTE_EVERY = timedelta(seconds=15)
ENFORCE_EVERY = timedelta(seconds=1)


async def serve(settings: Settings) -> None:
    """Lease and run work until a signal or an operator drains this process."""
    log = telemetry.logger("workers.main")
    config = WorkerConfig.of(settings)
    metrics = Metrics()
    prepare(settings)
    catalog = LiveCatalog(settings, metrics)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(db.pool(settings, "worker", size=6, hot=True))
        gate = await stack.enter_async_context(open_gate(settings, metrics))
        ask = None if gate is None else gate.hits
        toolbox = await stack.enter_async_context(open_toolbox(settings, pool, ask))
        catalog.admit = partial(require_callable, toolbox)
        await catalog.admit(catalog.current)
        watch = FailureWatch(pool, config.process.id)
        settler = Settler(pool, watch.note)
        runner = Runner(settings, pool, toolbox, catalog.current, metrics, ask)
        catalog.changed = runner.reload
        coordinator = Coordinator(config, pool, runner, settler, metrics)
        ending = Ending()
        heartbeat = Heartbeat(config, pool, coordinator, ending.begun.set)
        await runner.allowed.look()  # before the first run, which would be refused what is allowed
        services = _services(settings, config, coordinator, settler, heartbeat)
        services.append(Service("workers.allowances", runner.allowed.look, READ_EVERY))
        services.append(Service("workers.failures", watch.check, timedelta(0)))
        services.append(Service("workers.catalog", catalog.look, LOOK_EVERY))
        with stop_signals(ending.begin):
            await heartbeat.beat()
            log.info("worker.started", worker=config.process.id, slots=config.concurrency)
            tasks = [asyncio.create_task(service.run(), name=service.name) for service in services]
            await ending.begun.wait()
            await coordinator.drain()
        await ended(tasks)
        await watch.finish()
        await heartbeat.forget()
        log.info("worker.stopped", worker=config.process.id)


async def require_callable(toolbox: Toolbox, catalog: Catalog) -> None:
    """Raises ValidationFailed for tools that this host cannot call: a worker starts whole or not at all."""
    problems = await toolbox.faults(catalog.listed())
    if problems:
        details = "; ".join(problem.detail for problem in problems)
        raise ValidationFailed(
            f"the catalog has tools that cannot be called here: {details}", errors=problems
        )


class Ending:
    """The first signal begins the drain, the second ends the process on the spot."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._calls = 0

    def begin(self) -> None:
        """A signal arrived."""
        self._calls += 1
        if self._calls > 1:
            os._exit(130)
        self.begun.set()


def _services(
    settings: Settings, config: WorkerConfig, coordinator: Coordinator, settler: Settler, heartbeat: Heartbeat
) -> list[Service]:
    at_once = timedelta(0)

    async def promote() -> None:
        async with coordinator.pool.connection() as conn:
            await leases.promote(conn)

    renewal = Service("workers.renew", coordinator.renew, config.lease / 3)
    coordinator.recheck = renewal.wake
    services = [
        Service("workers.fetch", coordinator.fetch, at_once),
        Service("workers.settle", settler.flush, at_once),
        renewal,
        Service("workers.enforce", coordinator.enforce, min(ENFORCE_EVERY, config.lease / 6)),
        Service("workers.heartbeat", heartbeat.beat, config.heartbeat),
        Service("workers.promote", promote, PROMOTE_EVERY),
    ]
    runner = coordinator.runner
    check = RequestCheck(settings, coordinator.pool, coordinator.metrics, runner.allowed, runner.ask)
    asked = Service("workers.requested", check.look, config.poll)
    services.append(asked)

    def notice(channel: str, payload: str) -> None:
        if channel == notifier.REQUEST:
            asked.wake()
        else:
            coordinator.notice(channel, payload)

    if not config.poll_only:
        channels = notifier.WORK, notifier.CANCEL, notifier.REQUEST
        ears = notifier.Notifier(settings.database_url, channels, notice)
        services.append(Service("workers.listen", ears.listen, at_once))
    return services


def main() -> None:
    """Entry of a child process that the supervisor starts: settings come through the environment."""
    settings = settings_.load(dotenv=None)
    telemetry.configure(settings, reflex.mask)
    telemetry.capture()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
