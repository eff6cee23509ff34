"""What a client could send: cases of one operation, made from its shapes.

The name of a case says what was done at which place; it is what the baseline knows it by.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from conformance.model import Operation, Place, places
from conformance.samples import Samples

Request = Any
# Makes a request of the least valid one.
Maker = Callable[[dict[str, Any]], Request]

# Of every JSON type one value; what fits the shape is left out.
JSON_VALUES: dict[str, Any] = {
    "a string": "text",
    "a number": 7,
    "a fraction": 7.5,
    "a boolean": True,
    "a list": [],
    "an object": {},
}
FITTING = {
    "string": {"a string"},
    "integer": {"a number"},
    "long": {"a number"},
    "double": {"a number", "a fraction"},
    "timestamp": {"a number", "a fraction"},
    "boolean": {"a boolean"},
    "list": {"a list"},
    "structure": {"an object"},
    "map": {"an object"},
}
BITS = {"integer": 31, "long": 63}
# Longer than any name, shorter than any body may be.
LONG_TEXT, LONG_LIST = 10_000, 500
UNKNOWN = {"futureMember": {"a": [1, None]}}


class Expectation(enum.Enum):
    """How a case has to be answered."""

    # With success: nothing is wrong with it.
    ACCEPTED = "accepted"
    # One way or the other: the shapes allow it, the state or the sense may forbid it.
    ANSWERED = "answered"
    # With the operation's error for missing members and broken bounds, naming the member.
    REFUSED = "refused"
    # As unreadable, naming the member.
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Case:
    """One request and what becomes of it."""

    name: str
    expectation: Expectation
    # Where it differs from the least valid request; nothing for the request itself.
    place: str
    # What a refusal has to name.
    member: str
    make: Maker


def cases(operation: Operation, samples: Samples) -> Iterator[Case]:
    """All cases of an operation."""
    accepted, unreadable = Expectation.ACCEPTED, Expectation.UNREADABLE
    yield Case("minimal", accepted, "", "", lambda least: least)
    yield Case("unknown member", accepted, "", "", lambda least: least | UNKNOWN)
    for kind in ("a string", "a number", "a list"):
        yield Case(f"request is {kind}", unreadable, "", "", constant(JSON_VALUES[kind]))
    for place in places(operation.input):
        yield from At(samples, place).cases()


class At:
    """The cases of one place in the request."""

    def __init__(self, samples: Samples, place: Place) -> None:
        self.samples, self.place = samples, place

    def cases(self) -> Iterator[Case]:
        """All of them."""
        yield from self.presence()
        yield from self.wrong_types()
        match self.place.shape.kind:
            case "string":
                yield from self.choices() if self.place.shape.enum else self.lengths()
            case "list":
                yield from self.lengths()
            case "map":
                yield from self.lengths()
            case "integer" | "long" | "double":
                yield from self.ranges()
            case "boolean":
                yield self.answered("false", False)
            case "timestamp":
                yield from (self.answered(f"{time}", time) for time in (0, -1, 1e12, 0.123456))
            case "structure" if not self.place.shape.document:
                yield self.case("unknown member in", Expectation.ACCEPTED, self.with_unknown)

    def presence(self) -> Iterator[Case]:
        """There, not there, null."""
        if not self.place.is_member:
            yield self.case("null", Expectation.UNREADABLE, self.with_value(None))
        elif self.place.required:
            yield self.case("missing", Expectation.REFUSED, self.without)
            yield self.case("null", Expectation.REFUSED, self.with_value(None))
        else:
            good = self.samples.value
            yield self.case("with", Expectation.ACCEPTED, lambda r: self.put(r, good(self.place)))
            # Null is absent: nothing changes, unless it takes away what was needed.
            needed = self.samples.carries(self.place)
            null = Expectation.ANSWERED if needed else Expectation.ACCEPTED
            yield self.case("null", null, self.with_value(None))

    def wrong_types(self) -> Iterator[Case]:
        """Every JSON type but the right one."""
        if self.place.shape.document:
            return
        for kind, value in JSON_VALUES.items():
            if kind not in FITTING[self.place.shape.kind]:
                make = self.with_value(value)
                yield self.case(f"{kind} as", Expectation.UNREADABLE, make)

    def choices(self) -> Iterator[Case]:
        """Every value of an enum, and some that are none."""
        for value in self.place.shape.enum:
            yield self.answered(value, value)
        known = self.place.shape.enum[0]
        for value in ("NO_SUCH_VALUE", "", f"{known} ", known.swapcase()):
            if value not in self.place.shape.enum:
                make = self.with_value(value)
                yield self.case(f"{value!r} as", Expectation.REFUSED, make)

    def lengths(self) -> Iterator[Case]:
        """At the bounds, and one past them; empty and long where there are none."""
        bounds = self.place.bounds
        low = bounds.min or 0
        if low > 0:
            yield self.length(low - 1, Expectation.REFUSED)
        yield self.length(low, Expectation.ANSWERED)
        if bounds.max is not None:
            yield self.length(bounds.max, Expectation.ANSWERED)
            yield self.length(bounds.max + 1, Expectation.REFUSED)
        else:
            text = self.place.shape.kind == "string"
            yield self.length(LONG_TEXT if text else LONG_LIST, Expectation.ANSWERED)
        if self.place.shape.pattern:
            yield self.case("bad characters in", Expectation.REFUSED, self.with_value("a;b"))

    def ranges(self) -> Iterator[Case]:
        """At the bounds and one past them, and at the ends of what the type holds."""
        low, high = self.place.bounds.min, self.place.bounds.max
        numbers = {-1, 0} if low is None and high is None else set()
        numbers |= {low, low - 1} if low is not None else set()
        numbers |= {high, high + 1} if high is not None else set()
        bits = BITS.get(self.place.shape.kind)
        ends = range(-(2**bits), 2**bits) if bits else None
        numbers |= {ends[0] - 1, ends[0], ends[-1], ends[-1] + 1} if ends else set()
        for number in sorted(numbers):
            expectation = Expectation.ANSWERED
            if ends and number not in ends:
                expectation = Expectation.UNREADABLE
            elif (low is not None and number < low) or (high is not None and number > high):
                expectation = Expectation.REFUSED
            yield self.case(f"{number} as", expectation, self.with_value(number))

    def length(self, length: int, expectation: Expectation) -> Case:
        """A text, list or map of a length."""
        name = f"{length} of" if length else "empty"
        return self.case(name, expectation, lambda r: self.put(r, self.sized(length)))

    def sized(self, length: int) -> Any:
        """A value of a length, as good as it can be otherwise."""
        shape = self.place.shape
        if shape.kind == "string":
            return "x" * length
        if shape.kind == "map":
            return {f"key{index}": self.samples.minimal(shape.value) for index in range(length)}
        return self.samples.items(shape, self.samples.value(self.place)[0], length)

    def answered(self, what: str, value: Any) -> Case:
        """A value that the shapes allow."""
        return self.case(f"{what} as", Expectation.ANSWERED, self.with_value(value))

    def case(self, name: str, expectation: Expectation, make: Maker) -> Case:
        """A case of this place."""
        place = str(self.place)
        return Case(f"{name} {place}", expectation, place, self.place.member, make)

    def put(self, request: dict[str, Any], value: Any) -> Request:
        """The request with a value here."""
        return self.samples.planted(self.samples.surrounded(request, self.place), self.place, value)

    def with_value(self, value: Any) -> Maker:
        """Puts a value here."""
        return lambda request: self.put(request, value)

    def without(self, request: dict[str, Any]) -> Request:
        """Leaves out what is here."""
        surrounded = self.samples.surrounded(request, self.place)
        return self.samples.without(surrounded, self.place)

    def with_unknown(self, request: dict[str, Any]) -> Request:
        """Adds a member of the future to the structure here."""
        return self.put(request, self.samples.value(self.place) | UNKNOWN)


def constant(value: Any) -> Maker:
    """The same request, whatever the least valid one is."""
    return lambda _: value
