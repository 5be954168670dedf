"""The forwarder's descriptors. What it carries: tests/security/test_dials.py, tests/vm/test_network.py."""

import asyncio
import os
import socket
from typing import cast

from katapy.agent_client.client import AgentClient
from katapy.linux.nftables import RedirectTable
from katapy.network.loopback import Loopback
from katapy.sandbox.loopback import Forwarder

HEARD_S = 5.0


class NoTable:
    def close(self) -> None: ...


def test_a_descriptor_that_is_opened_right_after_its_end_is_heard() -> None:
    """It may get a number that the loop still watches, for the listener that had it."""

    async def scenario() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        forwarder = Forwarder(cast(AgentClient, None), Loopback((listener,), cast(RedirectTable, NoTable())))
        await asyncio.sleep(0)  # it accepts
        forwarder.close()
        reading, writing = os.pipe()
        heard = asyncio.Event()
        asyncio.get_running_loop().add_reader(reading, heard.set)
        os.write(writing, b"x")
        await asyncio.wait_for(heard.wait(), HEARD_S)
        asyncio.get_running_loop().remove_reader(reading)
        os.close(reading)
        os.close(writing)
        assert listener.fileno() == -1

    asyncio.run(scenario())
