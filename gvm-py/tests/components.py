"""Generates components for tests: WebAssembly text for any WIT type.

In: a WIT type as a small tree. Out: a component with a function that returns its argument. The canonical ABI passes
more than sixteen flat parameters in memory, and a result of several values too, so a core function that returns its
pointer echoes a value of any type. Must not know: nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

PADS = 16
"""Additional parameters, so that all parameters are passed in memory."""

MEMORY = """
  (core module $m
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 65536))
    (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (block $enough
        (loop $grow
          (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
          (if (i32.eq (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16))))
                (i32.const -1))
            (then unreachable))
          (br $grow)))
      (local.get $at))
    %s)
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
"""


@dataclass(frozen=True)
class Ty:
    """A WIT type: its kind and its parts (types, names with types, or names)."""

    kind: str
    parts: tuple = ()


class Types:
    """Definitions of types, inner ones first. Named kinds are exported, because a component must export them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def define(self, text: str, named: bool) -> str:
        n = len(self.lines)
        line = f"(type $d{n} {text})"
        if named:
            line += f' (export $t{n} "t{n}" (type $d{n}))'
        self.lines.append(line)
        return f"$t{n}" if named else f"$d{n}"

    def of(self, ty: Ty) -> str:
        def side(name: str, part: Ty | None) -> str:
            return "" if part is None else f" {name}{self.of(part)}{')' if name else ''}"

        match ty.kind, ty.parts:
            case "list", (element,):
                return self.define(f"(list {self.of(element)})", False)
            case "fixed", (element, length):
                return self.define(f"(list {self.of(element)} {length})", False)
            case "map", (key, value):
                return self.define(f"(map {self.of(key)} {self.of(value)})", False)
            case "tuple", parts:
                return self.define(f"(tuple {' '.join(map(self.of, parts))})", False)
            case "option", (some,):
                return self.define(f"(option {self.of(some)})", False)
            case "result", (ok, err):
                return self.define(f"(result{side('', ok)}{side('(error ', err)})", False)
            case "record", fields:
                text = " ".join(f'(field "{name}" {self.of(part)})' for name, part in fields)
                return self.define(f"(record {text})", True)
            case "variant", cases:
                inner = [(name, part and self.of(part)) for name, part in cases]
                text = " ".join(f'(case "{n}" {t})' if t else f'(case "{n}")' for n, t in inner)
                return self.define(f"(variant {text})", True)
            case ("enum" | "flags") as kind, names:
                quoted = " ".join(f'"{name}"' for name in names)
                return self.define(f"({kind} {quoted})", True)
        return ty.kind


def echo(*types: Ty) -> bytes:
    """Returns a component with a function `echo0`, `echo1`… for each type. Each takes a value and PADS numbers, and
    returns the value and the first number."""
    known = Types()
    functions = []
    for n, ty in enumerate(types):
        name = known.of(ty)
        pads = " ".join(f'(param "p{p}" u32)' for p in range(PADS))
        functions.append(
            f'(func $f{n} (param "v" {name}) {pads} (result (tuple {name} u32))'
            f' (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))'
            f' (export "echo{n}" (func $f{n}))'
        )
    core = '(func (export "echo") (param i32) (result i32) (local.get 0))'
    return "\n".join(["(component", MEMORY % core, *known.lines, *functions, ")"]).encode()


def lists() -> bytes:
    """Returns a component with functions that return their list (`bytes`, `floats`, `words`…), and `add`."""
    core = """
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) (i32.const 8))
    (func (export "done") (param i32) (global.set $free (i32.const 65536)))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))"""
    functions = "\n".join(
        f'(func ${name} (param "v" (list {ty})) (result (list {ty}))'
        f' (canon lift (core func $i "echo") (memory $memory) (realloc $realloc) (post-return (core func $i "done"))))'
        f' (export "{name}" (func ${name}))'
        for name, ty in (
            ("bytes", "u8"), ("s8s", "s8"), ("words", "s16"), ("u16s", "u16"), ("s32s", "s32"), ("u32s", "u32"),
            ("s64s", "s64"), ("u64s", "u64"), ("halves", "f32"), ("floats", "f64"),
        )
    )
    add = """(func $add (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add")))
      (export "add" (func $add))"""
    return f"(component {MEMORY % core} {functions} {add})".encode()
