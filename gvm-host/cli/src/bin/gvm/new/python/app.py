"""The functions that nodes can call. Their types are in wit/world.wit."""

import wit_world


class WitWorld(wit_world.WitWorld):
    def add(self, a: int, b: int) -> int:
        print(f"adding {a} and {b}")
        return a + b

    def words(self, text: str) -> list[str]:
        return text.split()
