"""Python's side: calls of the measured functions by GVM, extism or the `wasmtime` package, one package per process.

In: the name of the package and what it calls; requests on standard input, as `worker.rs` describes. Out: times in
nanoseconds. Must not know: what is compared.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable

Call = Callable[[], object]


def gvm(home: str) -> dict[str, Callable[[int], tuple[Call, object]]]:
    import gvm
    import numpy

    node = gvm.Node("python", home=home)
    fresh, live = node.module("sums"), node.spawn("sums")
    unix, tls = node.connect("far").spawn("sums"), node.connect("farther").spawn("sums")

    def array(size: int) -> tuple[Call, object]:
        data = numpy.random.default_rng(1).integers(0, 256, size, dtype=numpy.uint8)
        return lambda: live.echo(data), data.tobytes()

    def copy(size: int) -> tuple[Call, object]:
        data = numpy.random.default_rng(1).integers(0, 256, size, dtype=numpy.uint8)
        return lambda: data.copy().data, data.data

    def echo(of: gvm.Instance) -> Callable[[int], tuple[Call, object]]:
        def made(size: int) -> tuple[Call, object]:
            data = bytes(size)
            return lambda: of.echo(data), data

        return made

    return {
        "live": lambda _: (lambda: live.add(1, 2), 3),
        "fresh": lambda _: (lambda: fresh.add(1, 2), 3),
        "unix": lambda _: (lambda: unix.add(1, 2), 3),
        "tls": lambda _: (lambda: tls.add(1, 2), 3),
        "echo": echo(live),
        "unix-echo": echo(unix),
        "array": array,
        "copy": copy,
    }


def extism(path: str) -> dict[str, Callable[[int], tuple[Call, object]]]:
    import extism

    manifest = {"wasm": [{"path": path}]}
    plugin = extism.Plugin(manifest)

    def add(plugin: extism.Plugin) -> object:
        return struct.unpack("<q", plugin.call("add", struct.pack("<qq", 1, 2)))[0]

    def echo(size: int) -> tuple[Call, object]:
        data = bytes(size)
        return lambda: plugin.call("echo", data), data

    return {
        "live": lambda _: (lambda: add(plugin), 3),
        "fresh": lambda _: (lambda: add(extism.Plugin(manifest)), 3),
        "echo": echo,
    }


def wasmtime(path: str) -> dict[str, Callable[[int], tuple[Call, object]]]:
    import wasmtime
    from wasmtime import component

    engine = wasmtime.Engine()
    linker = component.Linker(engine)
    linker.add_wasip2()
    compiled = component.Component.from_file(engine, path)

    def fresh() -> tuple[wasmtime.Store, component.Func]:
        store = wasmtime.Store(engine)
        store.set_wasi(wasmtime.WasiConfig())
        function = linker.instantiate(store, compiled).get_func(store, "add")
        assert function is not None
        return store, function

    def add(store: wasmtime.Store, function: component.Func) -> object:
        result = function(store, 1, 2)
        # Older versions of the package require it after each call.
        if hasattr(function, "post_return"):
            function.post_return(store)
        return result

    live = fresh()
    return {
        "live": lambda _: (lambda: add(*live), 3),
        "fresh": lambda _: (lambda: add(*fresh()), 3),
    }


def main() -> None:
    calls = {"gvm": gvm, "extism": extism, "wasmtime": wasmtime}[sys.argv[1]](sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        # The number of samples, the calls of each, and the bytes of a value.
        word, samples, batch, size = line.split()
        call, expected = calls[word](int(size))
        assert call() == expected
        times = []
        for _ in range(int(samples)):
            began = time.perf_counter_ns()
            for _ in range(int(batch)):
                call()
            times.append((time.perf_counter_ns() - began) / int(batch))
        print(*times, flush=True)


if __name__ == "__main__":
    main()
