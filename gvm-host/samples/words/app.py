"""Words of a text. In: text. Out: how often each word occurs, and the longest word."""

import re
from collections import Counter

import wit_world


class WitWorld(wit_world.WitWorld):
    def frequencies(self, text: str) -> list[wit_world.Entry]:
        counted = Counter(re.findall(r"\w+", text.lower()))
        return [wit_world.Entry(word, times) for word, times in sorted(counted.items(), key=lambda e: (-e[1], e[0]))]

    def longest(self, text: str) -> str | None:
        return max(re.findall(r"\w+", text), key=len, default=None)
