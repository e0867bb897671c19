"""What a node tells the others, and knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.valkey.node import Node


class Cluster:
    """See `gateway.engines.base.Cluster`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def node(self) -> str:
        return self._node.id

    @property
    def secret(self) -> bytes:
        return self._node.secret

    @property
    def host(self) -> str:
        return str(self._node.address.options.get("host", "localhost"))

    def address_of(self, node: str) -> str | None:
        return self._node.others.get(node) or None

    def now(self) -> float:
        return self._node.clock.unix()

    async def announce(self, address: str) -> None:
        await self._node.announce(address)

    def watch(self, gone: Callable[[str], None]) -> None:
        self._node.watch(gone)
