"""Compares calls by GVM, by the `wasmtime` package, and by `extism`, with the same guest in one process.

In: nothing; it needs `pip install wasmtime extism numpy`. Out: a table with microseconds per call, and the throughput
of large values next to that of a plain copy. The rounds of all packages alternate, and the best round of each counts,
so a busy machine affects all of them equally. Must not know: the internals of `gvm`.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import extism
import gvm
import numpy
import wasmtime
import wasmtime.component

HERE = Path(__file__).parent
ROUNDS = 7
MIB = bytes(1 << 20)

Call = Callable[[], object]


def rounds(calls: dict[str, tuple[Call, int]]) -> dict[str, float]:
    """Returns the microseconds per call, the best of some rounds in which all packages alternate."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, (call, count) in calls.items():
            begun = time.perf_counter()
            for _ in range(count):
                call()
            best[name] = min(best[name], (time.perf_counter() - begun) / count * 1e6)
    return best


class Wasmtime:
    """Calls the component with the `wasmtime` package."""

    def __init__(self) -> None:
        self.engine = wasmtime.Engine()
        self.component = wasmtime.component.Component.from_file(self.engine, str(HERE / "guest.wat"))
        self.linker = wasmtime.component.Linker(self.engine)
        self.store, instance = self.instance()
        self.add_ = self.function(self.store, instance, "add")
        self.echo_ = self.function(self.store, instance, "echo")

    def instance(self) -> tuple[wasmtime.Store, wasmtime.component.Instance]:
        store = wasmtime.Store(self.engine)
        return store, self.linker.instantiate(store, self.component)

    @staticmethod
    def function(store: wasmtime.Store, instance: wasmtime.component.Instance, name: str) -> wasmtime.component.Func:
        found = instance.get_func(store, name)
        assert found is not None
        return found

    def add(self) -> object:
        result = self.add_(self.store, 1, 2)
        self.post(self.add_, self.store)
        return result

    def echo(self) -> object:
        result = self.echo_(self.store, MIB)
        self.post(self.echo_, self.store)
        return result

    def fresh(self) -> object:
        store, instance = self.instance()
        return self.function(store, instance, "add")(store, 1, 2)

    @staticmethod
    def post(function: wasmtime.component.Func, store: wasmtime.Store) -> None:
        """Calls `post_return`, which older versions of the package require after each call."""
        if hasattr(function, "post_return"):
            function.post_return(store)


class Extism:
    """Calls a similar plugin with `extism`. Its functions take and return bytes."""

    def __init__(self) -> None:
        wasm = wasmtime.wat2wasm((HERE / "plugin.wat").read_text())
        self.manifest = {"wasm": [{"data": bytes(wasm)}]}
        self.plugin = extism.Plugin(self.manifest)

    def add(self) -> object:
        return struct.unpack("<q", self.plugin.call("add", struct.pack("<qq", 1, 2)))[0]

    def echo(self) -> object:
        return self.plugin.call("echo", MIB)

    def fresh(self) -> object:
        return extism.Plugin(self.manifest).call("add", struct.pack("<qq", 1, 2))


def main() -> None:
    theirs, plugin = Wasmtime(), Extism()
    with gvm.LocalNetwork(nodes=1) as net, gvm.LocalNetwork(nodes=1, processes=True) as far:
        for network in (net, far):
            network.upload("guest", "1.0.0", HERE / "guest.wat")
        guest, live = net.node.module("guest"), net.node.spawn("guest")
        there, lives_there = far.nodes[0].module("guest"), far.nodes[0].spawn("guest")
        assert live.add(1, 2) == guest.add(1, 2) == theirs.add() == theirs.fresh() == plugin.add() == 3
        assert live.echo(MIB) == guest.echo(MIB) == bytes(theirs.echo()) == plugin.echo() == MIB
        tables: dict[str, dict[str, tuple[Call, int]]] = {
            "add(1, 2), live": {
                "gvm": (lambda: live.add(1, 2), 2000), "wasmtime": (theirs.add, 500), "extism": (plugin.add, 500),
                "gvm, other process": (lambda: lives_there.add(1, 2), 300),
            },
            "add(1, 2), fresh instance": {
                "gvm": (lambda: guest.add(1, 2), 1000), "wasmtime": (theirs.fresh, 100), "extism": (plugin.fresh, 5),
                "gvm, other process": (lambda: there.add(1, 2), 300),
            },
            "echo of 1 MiB, live": {
                "gvm": (lambda: live.echo(MIB), 100), "wasmtime": (theirs.echo, 1), "extism": (plugin.echo, 20),
                "gvm, other process": (lambda: lives_there.echo(MIB), 30), "plain copy": (lambda: bytearray(MIB), 100),
            },
        }
        packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("gvm", "wasmtime", "extism"))
        print(f"{packages}, Python {sys.version.split()[0]}; µs per call")
        for title, calls in tables.items():
            times = rounds(calls)
            print(f"\n{title}")
            for name, micros in times.items():
                print(f"  {name:20}{micros:12.2f}   {micros / times['gvm']:8.2f} x")
        large(live, lives_there)


def large(live: gvm.Instance, there: gvm.Instance) -> None:
    """Prints the throughput of large values to the guest and back, and the time as a multiple of a plain copy."""
    data = numpy.random.default_rng(1).integers(0, 256, 64 << 20, dtype=numpy.uint8)
    floats = numpy.random.default_rng(2).random(8_000_000)
    print("\nlarge values, to the guest and back")
    for name, function, value in (
        ("list<u8> of 64 MiB, here", live.echo, data), ("list<f64> of 8 million, here", live.echo_floats, floats),
        ("list<u8> of 16 MiB, other process", there.echo, data[: 16 << 20]),
        ("list<f64> of 2 million, other process", there.echo_floats, floats[:2_000_000]),
        ("list<u8> of 63 MiB, other process", there.echo, data[: 63 << 20]),
    ):
        got = function(value)
        assert (got == value.tobytes()) if value.dtype == numpy.uint8 else numpy.array_equal(got, value)
        del got
        best, copy = float("inf"), float("inf")
        for _ in range(5):
            begun = time.perf_counter()
            function(value)
            best = min(best, time.perf_counter() - begun)
            begun = time.perf_counter()
            value.copy()
            copy = min(copy, time.perf_counter() - begun)
        print(f"  {name:40}{value.nbytes / best / 1e6:8.0f} MB/s   {best / copy:6.1f} copies")


if __name__ == "__main__":
    main()
