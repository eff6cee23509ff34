"""The service model: botocore's, with the limits and members that `models/overlay` adds."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.loaders import Loader

from support.processes import ROOT

MODELS = ROOT / "models"


@dataclass(frozen=True)
class Bounds:
    """Inclusive; of a number its value, of anything else its length."""

    min: int | None = None
    max: int | None = None

    def __and__(self, other: Bounds) -> Bounds:
        """The bounds of a shape and those of one use of it hold together."""
        lows = [low for low in (self.min, other.min) if low is not None]
        highs = [high for high in (self.max, other.max) if high is not None]
        return Bounds(max(lows, default=None), min(highs, default=None))


@dataclass
class Shape:
    """A shape; `members` of a structure, `item` of a list, `value` of a map, `enum` of a string."""

    name: str
    kind: str
    bounds: Bounds = Bounds()
    enum: tuple[str, ...] = ()
    pattern: str | None = None
    union: bool = False
    document: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    item: Shape | None = None
    value: Shape | None = None


@dataclass
class Member:
    """A use of a shape by a structure."""

    shape: Shape
    required: bool
    bounds: Bounds


@dataclass
class Operation:
    """An operation: its request, its answer, the errors the model names for it."""

    name: str
    input: Shape
    output: Shape
    errors: dict[str, Shape]


# A step into a value: a member's name, or one of these for what a list or a map holds.
ITEM, ENTRY = "[]", "{}"
Steps = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where something stands in a request."""

    steps: Steps
    shape: Shape = field(compare=False)
    required: bool = field(compare=False)
    bounds: Bounds = field(compare=False)
    owner: Shape = field(compare=False)

    def __str__(self) -> str:
        return shown(self.steps)

    @property
    def is_member(self) -> bool:
        """Whether it is a structure's, so that it can be left out or null."""
        return self.steps[-1] not in (ITEM, ENTRY)

    @property
    def member(self) -> str:
        """The innermost member's name: what a refusal has to say."""
        return next(step for step in reversed(self.steps) if step not in (ITEM, ENTRY))


def shown(steps: Steps) -> str:
    """`containerDefinitions[].portMappings[].hostPort`."""
    text = ""
    for step in steps:
        text += step if step in (ITEM, ENTRY) or not text else f".{step}"
    return text


def places(shape: Shape, steps: Steps = ()) -> Iterator[Place]:
    """Everything that a value of a shape can hold, from the outside in."""
    if len(steps) > 20:
        raise ValueError(f"{shown(steps)}: the shape holds itself")
    inner: list[Place] = []
    if shape.kind == "structure" and not shape.document:
        for name, member in shape.members.items():
            bounds = member.shape.bounds & member.bounds
            here = (*steps, name)
            inner.append(Place(here, member.shape, member.required, bounds, shape))
    elif shape.kind == "list" and shape.item:
        inner.append(Place((*steps, ITEM), shape.item, False, shape.item.bounds, shape))
    elif shape.kind == "map" and shape.value:
        inner.append(Place((*steps, ENTRY), shape.value, False, shape.value.bounds, shape))
    for place in inner:
        yield place
        yield from places(place.shape, place.steps)


class Model:
    """The service."""

    def __init__(self, service: dict[str, Any], overlay: dict[str, Any]) -> None:
        self.raw, self.overlay = service["shapes"], overlay
        self.shapes: dict[str, Shape] = {}
        self.operations = {
            name: Operation(
                name,
                self.shape(raw["input"]["shape"]),
                self.shape(raw["output"]["shape"]),
                {error["shape"]: self.shape(error["shape"]) for error in raw["errors"]},
            )
            for name, raw in sorted(service["operations"].items())
        }

    def shape(self, name: str) -> Shape:
        """A shape by its name, with the overlay on it."""
        if name in self.shapes:
            return self.shapes[name]
        raw = self.raw[name]
        limits = self._limits(name)
        shape = Shape(
            name,
            raw["type"],
            Bounds(raw.get("min"), raw.get("max")) & limits.get(None, Bounds()),
            tuple(raw.get("enum", ())),
            raw.get("pattern"),
            raw.get("union", False),
            raw.get("document", False),
        )
        self.shapes[name] = shape
        added = [one for one in self.overlay["members"] if one["shape"] == name]
        members = {wire: reference["shape"] for wire, reference in raw.get("members", {}).items()}
        members |= {one["member"]: one["target"] for one in added}
        required = raw.get("required", ())
        for wire, target in members.items():
            bounds = limits.get(wire, Bounds())
            shape.members[wire] = Member(self.shape(target), wire in required, bounds)
        shape.item = self.shape(raw["member"]["shape"]) if "member" in raw else None
        shape.value = self.shape(raw["value"]["shape"]) if "value" in raw else None
        return shape

    def _limits(self, name: str) -> dict[str | None, Bounds]:
        limits = [one for one in self.overlay["limits"] if one["shape"] == name]
        return {one.get("member"): Bounds(one.get("min"), one.get("max")) for one in limits}


@functools.cache
def ecs() -> Model:
    """The model of ECS, from the installed botocore and never from somebody's home."""
    loader = Loader(
        extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False
    )
    overlay = json.loads((MODELS / "overlay" / "ecs.json").read_text())
    return Model(loader.load_service_model("ecs", "service-2"), overlay)
