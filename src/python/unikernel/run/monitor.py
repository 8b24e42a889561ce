"""QEMU's monitor, by the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec), for callers that know nothing of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import Any, Callable

# What QEMU answers at once.
_ANSWER_SECONDS = 10
# What the machine is in when it cannot go on, though nobody has stopped it.
_BROKEN = {"internal-error": "the accelerator failed in it (see QEMU's own message above)", "io-error": "a disk of it failed"}


class MonitorError(Exception):
    """QEMU has ended, or does not understand."""


class Monitor:
    """Connected to QEMU by `connection`, whose other end QEMU has. `on_broken` is called with a reason when the machine cannot go on; QEMU
    itself stays.

    Until QEMU answers, commands wait; after its end, they raise MonitorError.
    """

    def __init__(self, connection: socket.socket, on_broken: Callable[[str], None]) -> None:
        self._connection, self._on_broken = connection, on_broken
        self._loop = asyncio.new_event_loop()
        # Of the library's own tasks, after QEMU's end; what matters is raised.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._session = asyncio.run_coroutine_threadsafe(self._connect(), self._loop)

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """What QEMU returns. Raises MonitorError."""
        from qemu.qmp import QMPError

        async def ask() -> Any:
            client = await asyncio.wrap_future(self._session)
            return await client.execute(command, dict(arguments or {}))

        try:
            return self._wait(ask())
        except (QMPError, OSError, TimeoutError, asyncio.TimeoutError, asyncio.CancelledError, CancelledError) as error:
            raise MonitorError(f"QEMU does not answer to {command}: {error}") from error

    def close(self) -> None:
        """The machine is not asked to end."""

        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._disconnect())
        self._loop.close()
        self._connection.close()

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, _ANSWER_SECONDS), self._loop).result()

    async def _connect(self) -> Any:
        # Here, while QEMU starts: it takes a tenth of a second.
        from qemu.qmp import EventListener, QMPClient

        # What it logs of a connection that ends is no news: QEMU's end is seen elsewhere.
        logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)
        client = QMPClient("unikernel")
        listener = EventListener(names="STOP")
        client.register_listener(listener)
        await client.connect(self._connection)
        self._watching = asyncio.ensure_future(self._watch(client, listener))
        return client

    async def _disconnect(self) -> None:
        session = asyncio.wrap_future(self._session)
        if self._session.done():
            with contextlib.suppress(Exception):
                # A connection that QEMU has closed is an error of the session's.
                await (await session).disconnect()
        # As asyncio.run() does.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, client: Any, events: Any) -> None:
        with contextlib.suppress(Exception):
            async for _ in events:
                state = await client.execute("query-status")
                if state["status"] in _BROKEN:
                    self._on_broken(_BROKEN[state["status"]])
