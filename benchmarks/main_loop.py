"""What a kernel's machine code (cuobjdump -sass) says of its main loop.

The main loop is the one with the most tensor-core products (HMMA) among loops that hold no other loop with products.
An iteration is the shortest way through it, in instructions, that passes all its HMMA and LDGSTS: what is done now and
then only, such as a table that is refilled every eighth time, is not on that way.
"""

import heapq
import re
from dataclasses import dataclass

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;")
BRANCH = re.compile(r"\bBRA\b.*?(?:0x([0-9a-f]+)|`\(\.L_x_\d+\))$")
NOTHING = ("NOP",)


@dataclass(frozen=True)
class Iteration:
    """Instructions of one pass through a loop, by their names."""

    names: tuple[str, ...]

    def count(self, name: str) -> int:
        return sum(each == name for each in self.names)

    @property
    def per_product(self) -> float:
        """Instructions for each tensor-core product."""
        return len(self.names) / self.count("HMMA")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str  # without modifiers
    conditional: bool
    target: int | None  # of a branch


def parse(code: str) -> list[Instruction]:
    instructions = []
    for address, text in INSTRUCTION.findall(code):
        predicate, _, rest = text.partition(" ") if text.startswith("@") else ("", "", text)
        name = rest.split()[0].split(".")[0]
        branch = BRANCH.search(rest) if name == "BRA" else None
        target = int(branch[1], 16) if branch and branch[1] else None
        conditional = bool(predicate) or " P" in rest or "!P" in rest
        if predicate == "@!PT":  # never done, but issued
            conditional = True
        instructions.append(Instruction(int(address, 16), name, conditional, target))
    return instructions


def find_main_loop(code: str) -> Iteration | None:
    """One iteration of the main loop; None without tensor-core products in a loop."""
    instructions = parse(code)
    places = {each.address: i for i, each in enumerate(instructions)}
    loops = []
    for last, each in enumerate(instructions):
        if each.name == "BRA" and each.target is not None and each.target < each.address:
            first = places[each.target]
            products = sum(i.name == "HMMA" for i in instructions[first : last + 1])
            if products:
                loops.append((first, last, products))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        return None
    first, last, _ = max(inner, key=lambda loop: loop[2])
    return shortest_way(instructions[first : last + 1])


def shortest_way(loop: list[Instruction]) -> Iteration:
    """From the loop's head to its last instruction through everything that it is for."""
    places = {each.address: i for i, each in enumerate(loop)}
    needed = sum(each.name in ("HMMA", "LDGSTS") for each in loop)
    # States: how far, and how much of what is needed is behind.
    best: dict[tuple[int, int], int] = {}
    came_from: dict[tuple[int, int], tuple[int, int]] = {}
    queue = [(0, 0, 0)]
    best[0, 0] = 0
    end = None
    while queue:
        length, at, passed = heapq.heappop(queue)
        if best.get((at, passed), -1) != length:
            continue
        passed_here = passed + (loop[at].name in ("HMMA", "LDGSTS"))
        if at == len(loop) - 1:
            if passed_here == needed:
                end = (at, passed)
                break
            continue
        following = []
        target = loop[at].target
        if target is None or loop[at].conditional:
            following.append(at + 1)
        if target is not None and places.get(target, -1) > at:
            following.append(places[target])
        for each in following:
            if length + 1 < best.get((each, passed_here), 1 << 60):
                best[each, passed_here] = length + 1
                came_from[each, passed_here] = (at, passed)
                heapq.heappush(queue, (length + 1, each, passed_here))
    if end is None:
        raise ValueError("no way through the main loop passes all its products and copies")
    way = [end]
    while way[-1] != (0, 0):
        way.append(came_from[way[-1]])
    names = tuple(loop[at].name for at, _ in reversed(way))
    return Iteration(tuple(name for name in names if name not in NOTHING))
