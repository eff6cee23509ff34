"""Requests made from the shapes and from the values that mean something."""

from __future__ import annotations

import copy
import functools
from typing import Any

from conformance.model import ENTRY, ITEM, Bounds, Place, Shape
from conformance.values import (
    MEMBERS,
    NAMES,
    REQUESTS,
    STRUCTURES,
    SURROUNDINGS,
    Maker,
    Value,
)
from conformance.world import World

UNBOUNDED = Bounds()


class Samples:
    """Requests and values for one operation."""

    def __init__(self, world: World, operation: str, input: Shape) -> None:
        self.world, self.operation, self.input = world, operation, input

    @functools.cached_property
    def base(self) -> dict[str, Any]:
        """A least valid request, for what is refused before anything in it is looked for."""
        return self.request()

    def request(self) -> dict[str, Any]:
        """The least valid request, with fresh things in it."""
        make = REQUESTS.get(self.operation)
        return make(self.world) if make else self.minimal(self.input)

    def surrounded(self, request: dict[str, Any], place: Place) -> dict[str, Any]:
        """The request with everything that a place in it needs."""
        needed = SURROUNDINGS.get(self.operation, {})
        fitting = [start for start in needed if str(place).startswith(start)]
        return request | copy.deepcopy(needed[max(fitting, key=len)]) if fitting else request

    def value(self, place: Place) -> Value:
        """A good value for a place."""
        if place.is_member:
            known = f"{place.owner.name}.{place.member}"
            if known in MEMBERS:
                return self._made(MEMBERS[known])
            if place.member in NAMES and place.shape.kind == "string":
                return self._made(NAMES[place.member])
        return self.minimal(place.shape, place.bounds)

    def minimal(self, shape: Shape, bounds: Bounds = UNBOUNDED) -> Value:
        """The least valid value of a shape."""
        bounds = shape.bounds & bounds
        if shape.name in STRUCTURES:
            return self._made(STRUCTURES[shape.name])
        match shape.kind:
            case "structure":
                names = [name for name, member in shape.members.items() if member.required]
                if shape.union and not names:
                    names = list(shape.members)[:1]
                return {name: self._of(shape, name) for name in names}
            case "list":
                return self.items(shape, self.minimal(shape.item), max(bounds.min or 0, 1))
            case "map":
                return {"key": self.minimal(shape.value)}
            case "string":
                return shape.enum[0] if shape.enum else "x" * max(bounds.min or 0, 1)
            case "boolean":
                return True
            case "integer" | "long":
                return least(bounds)
            case _:
                return float(least(bounds))

    def items(self, shape: Shape, item: Value, count: int) -> list[Value]:
        """Items of a list like one of them, and different from each other where they can be."""
        if shape.item.enum:
            return [shape.item.enum[index % len(shape.item.enum)] for index in range(count)]
        return [varied(shape.item, item, index) for index in range(count)]

    def _of(self, shape: Shape, name: str) -> Value:
        member = shape.members[name]
        bounds = member.shape.bounds & member.bounds
        return self.value(Place((name,), member.shape, member.required, bounds, shape))

    def _made(self, sample: Value | Maker) -> Value:
        return sample(self.world) if callable(sample) else copy.deepcopy(sample)

    def planted(self, request: dict[str, Any], place: Place, value: Value) -> dict[str, Any]:
        """The request with a value at a place; what lies on the way there is made."""
        request = copy.deepcopy(request)
        node, shape = self._parent(request, place)
        last = place.steps[-1]
        if last == ITEM:
            node[:1] = [value]
        elif last == ENTRY:
            node[next(iter(node), "key")] = value
        else:
            if shape.union:
                node.clear()
            node[last] = value
        return request

    def without(self, request: dict[str, Any], place: Place) -> dict[str, Any]:
        """The request with nothing at a place, and all that is needed around it."""
        request = self.planted(request, place, None)
        node, _ = self._parent(request, place)
        del node[place.steps[-1]]
        return request

    def carries(self, place: Place) -> bool:
        """Whether something stands at a place before anything is put there."""
        node, _ = self._parent(copy.deepcopy(self.surrounded(self.base, place)), place)
        return place.steps[-1] in node

    def _parent(self, request: dict[str, Any], place: Place) -> tuple[Value, Shape]:
        node, shape = request, self.input
        for step in place.steps[:-1]:
            if step == ITEM:
                if not node:
                    node.append(self.minimal(shape.item))
                node, shape = node[0], shape.item
            elif step == ENTRY:
                if not node:
                    node["key"] = self.minimal(shape.value)
                node, shape = next(iter(node.values())), shape.value
            else:
                if step not in node:
                    if shape.union:
                        node.clear()
                    node[step] = self._of(shape, step)
                node, shape = node[step], shape.members[step].shape
        return node, shape


def least(bounds: Bounds) -> int:
    """A small number within bounds; 1 if that is one."""
    low = bounds.min if bounds.min is not None else 1
    return min(max(low, 1), bounds.max if bounds.max is not None else max(low, 1))


def varied(shape: Shape, value: Value, index: int) -> Value:
    """Another value of the same kind: items of most lists must differ."""
    if index == 0:
        return value
    if shape.kind == "string":
        return f"{value}{index}"
    if shape.kind == "integer":
        return value + index
    if shape.kind == "structure":
        members = (name for name in ("key", "name") if name in value)
        naming = next((name for name in members if not shape.members[name].shape.enum), None)
        return value | {naming: f"{value[naming]}{index}"} if naming else value
    return value
