"""How much work it is to check a value against a JSON Schema, known before it is done.

A validator in C cannot be interrupted and keeps every other thread waiting, and a schema of 200 bytes can make it work
for longer than the universe is old. So the work is counted first: each pair of a place in the schema and a place in
the value that a validator may have to look at, without its shortcuts. What is counted twice is what `jsonschema_rs`
does twice (measured with 0.60): it remembers what it found at a `$ref` that leads back to itself, and nothing else,
and not even that in a schema with `unevaluated…`, whose parts it checks up to three times; and to gather errors it
remembers nothing either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

Node = Any  # a place in a schema: a mapping, or true or false

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_LISTS = ("allOf", "anyOf", "oneOf")
_HERE = ("not", "if", "then", "else")  # of the same value, as the lists above
_WITHIN = ("items", "additionalItems", "contains", "unevaluatedItems", "additionalProperties", "propertyNames",
           "unevaluatedProperties", "contentSchema")  # fmt: skip
_BY_NAME = ("dependentSchemas", "dependencies")  # of the same value where it has that name
_UNEVALUATED = {"unevaluatedItems", "unevaluatedProperties"}
_MAPS = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
_PLAIN = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "default", "description",
          "title", "examples", "format", "deprecated", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
          "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}  # fmt: skip
_META = "json-schema.org/"  # the schemas of schemas, which a validator knows
_META_WORK = 200  # steps that each place of a value takes against one of those
_FEW_STATES = 12  # of a pattern: such a one takes two nanoseconds for a character, whatever it is
_BRACES = re.compile(r"\{(\d{1,6})(?:,(\d{0,6}))?\}")
MOST_PLACES = 20_000  # of a schema; it takes 25 ms and 4 MB to be made a validator of
MOST_REFERENCES = 2_000  # of a schema; the time that they take grows with their square: 40 ms
_MOST_LOOKUPS = 100_000  # references times the places that they may start from
_CAP = 10**9  # where counting ends


class TooMuch(Exception):
    """There is more to do than was allowed."""


class Schema:
    """A schema as parsed JSON, with its references resolved: to all that they may lead to, never to less."""

    def __init__(self, root: Node) -> None:
        """Raises TooMuch where it is too large to be used."""
        self.root = root
        self._anchors: dict[str, list[Node]] = {}
        self._bases = [root]  # that a `#/…` may start from
        self._targets: dict[int, list[list[Node]]] = {}
        self._measure()
        nodes = self._reachable()
        in_cycles, order = _cycles(nodes, self.here)
        self.endless = bool(in_cycles)  # checking a value leads to checking the same value again
        unfolded: dict[int, int] = {}
        for node in () if self.endless else order:
            unfolded[id(node)] = min(_CAP, 1 + sum(unfolded.get(id(inner), 1) for inner in self.here(node)))
        self.unfolded = max(unfolded.values(), default=1)  # how many schemas a single value is checked against at most
        in_cycles, _ = _cycles(nodes, lambda node: [*subschemas(node), *self._all_targets(node)])
        # Where something is `unevaluated…`, a validator does not use what it remembers.
        remembers = not any(node.keys() & _UNEVALUATED for node in nodes)
        # What each of its keywords costs for a value grows with the value alone, and no value is looked at twice.
        self._plain = all(node.keys() <= _PLAIN for node in nodes) and not any(self._targets.values())
        self._recursive = (
            in_cycles & {id(target) for node in nodes for target in self._all_targets(node)} if remembers else set()
        )

    def is_cheap(self, value: Any, most: int) -> bool:
        """Whether checking `value` takes fewer than `most` steps, as far as a look tells that is quicker than to count
        them. Most schemas of tools and most arguments are so."""
        if not self._plain:
            return False
        left = most // self._places
        waiting = [value]
        while waiting and left > 0:
            item = waiting.pop()
            left -= 1
            if isinstance(item, str):
                left -= len(item) // 64
            elif isinstance(item, dict):
                left -= len(item)
                waiting += item.values()
            elif isinstance(item, list):
                left -= len(item)
                waiting += item
            elif isinstance(item, int):
                left -= _of_number(item)
        return left > 0

    def _measure(self) -> None:
        """Everything that stands in it is counted, schema or not, and what its patterns take besides."""
        places = references = 0
        for node in _everything(self.root):
            places += 1
            if isinstance(node, dict):
                references += sum(isinstance(node.get(keyword), str) for keyword in _REFERENCES)
                for pattern in (node.get("pattern"), *_map(node, "patternProperties")):
                    places += states(pattern) // 20 if isinstance(pattern, str) else 0
                self._index(node)
            if places > MOST_PLACES:
                raise TooMuch(f"the schema has more than {MOST_PLACES} places, its patterns' states counted")
        self._places = places
        if references > MOST_REFERENCES or references * len(self._bases) > _MOST_LOOKUPS:
            raise TooMuch(f"the schema has more than {MOST_REFERENCES} references, or too many with too many ids")

    def _index(self, node: dict[str, Any]) -> None:
        id_ = node.get("$id", node.get("id"))
        if isinstance(id_, str):
            if node is not self.root:
                self._bases.append(node)
            self._anchors.setdefault(id_.partition("#")[2], []).append(node)
        for keyword in _ANCHORS:
            if isinstance(node.get(keyword), str):
                self._anchors.setdefault(node[keyword], []).append(node)

    def targets(self, node: dict[str, Any]) -> list[list[Node]]:
        """For each reference of `node`, the places that it may mean: several where ids or anchors are alike."""
        if id(node) not in self._targets:
            written = [node[keyword] for keyword in _REFERENCES if isinstance(node.get(keyword), str)]
            self._targets[id(node)] = [self._resolved(reference) for reference in written]
        return self._targets[id(node)]

    def _resolved(self, reference: str) -> list[Node]:
        uri, _, fragment = reference.partition("#")
        if _META in uri:
            return [_META]
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(fragment, [])
        targets = [node for base in self._bases for node in _at(base, fragment)]
        return list({id(node): node for node in targets}.values())

    def _all_targets(self, node: dict[str, Any]) -> list[Node]:
        return [target for targets in self.targets(node) for target in targets]

    def here(self, node: dict[str, Any]) -> Iterator[Node]:
        """The schemas that are checked against the same value as `node`."""
        yield from self._all_targets(node)
        for keyword in _LISTS:
            if isinstance(node.get(keyword), list):
                yield from node[keyword]
        for keyword in _HERE:
            if keyword in node:
                yield node[keyword]
        for keyword in _BY_NAME:
            if isinstance(node.get(keyword), dict):
                yield from node[keyword].values()

    def is_recursive(self, node: Node) -> bool:
        """Whether references lead to `node`, and from there to it again."""
        return id(node) in self._recursive

    def _reachable(self) -> list[dict[str, Any]]:
        nodes: dict[int, dict[str, Any]] = {}
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict) and id(node) not in nodes:
                nodes[id(node)] = node
                waiting += subschemas(node)
                waiting += self._all_targets(node)
        return list(nodes.values())


def subschemas(node: Node) -> Iterator[Node]:
    """The schemas that are written in `node`, without those that it refers to: what stands in `default`, `enum` or
    `examples` may look like one and is none.

    >>> list(subschemas({"items": {"type": "string"}, "default": {"items": {}}}))
    [{'type': 'string'}]
    """
    for keyword, value in node.items() if isinstance(node, Mapping) else ():
        if isinstance(value, list) and keyword in (*_LISTS, "prefixItems", "items"):
            yield from value
        elif isinstance(value, Mapping) and keyword in _MAPS:
            yield from value.values()
        elif keyword in _HERE or keyword in _WITHIN:
            yield value


class Work(NamedTuple):
    """In steps, each about twenty nanoseconds of `jsonschema_rs`; but one of errors takes it microseconds."""

    check: int  # to say whether the value holds
    errors: int  # to find every error, and all that lies behind each
    error: int  # to find the first


def work(schema: Schema, value: Any, limit: int, matches: Callable[[str, str], bool]) -> Work:
    """What checking `value` takes at most. Raises TooMuch where that is more than `limit`, RecursionError where it is
    too deep. `matches` says whether a pattern is in a text."""
    counter = _Counter(schema, limit, matches)
    root = counter.pair(schema.root, value)
    check = root.check + sum(counter.entered.values())
    if check > limit:
        raise TooMuch
    return Work(check, root.errors, root.error)


class _Counter:
    def __init__(self, schema: Schema, limit: int, matches: Callable[[str, str], bool]) -> None:
        self._schema, self._left, self._matches = schema, limit, matches
        self._known: dict[tuple[int, int], Work] = {}
        self._sizes: dict[int, int] = {}
        self._fixed: dict[int, int] = {}
        self.entered: dict[tuple[int, int], int] = {}  # pairs that a validator remembers

    def pair(self, node: Node, value: Any) -> Work:
        """What `node` takes with `value`. Without recursion: values and schemas can be deep."""
        waiting = [self._counted(node, value)] if isinstance(node, dict) else []
        result: Work | None = None if waiting else self._quick(node, value)
        while waiting:
            try:
                inner, item = waiting[-1].send(result)
            except StopIteration as stop:
                waiting.pop()
                result = stop.value
                continue
            result = self._quick(inner, item) if not isinstance(inner, dict) else self._known.get((id(inner), id(item)))
            if result is None:
                waiting.append(self._counted(inner, item))
        assert result is not None
        return result

    def _quick(self, node: Node, value: Any) -> Work:
        if node is _META:
            steps = self._size(value) * _META_WORK
            return Work(steps, steps, steps)
        return Work(1, 5 + self._size(value) // 50, 5 + self._size(value) // 50)

    def _counted(self, node: dict[str, Any], value: Any) -> Generator[tuple[Node, Any], Any, Work]:
        """Yields the pairs that it needs to know of."""
        own = self._own(node, value)
        self._left -= own
        if self._left < 0:
            raise TooMuch
        here, branches, within = _Sum(), _Sum(), _Sum()
        for targets in self._schema.targets(node):
            options = []
            for target in targets:
                counted = yield target, value
                if self._schema.is_recursive(target):
                    self.entered[id(target), id(value)] = counted.check
                    counted = counted._replace(check=1)
                options.append(counted)
            here.add(_largest(options))
        for keyword in _LISTS:
            for inner in _list(node, keyword):
                (here if keyword == "allOf" else branches).add((yield inner, value))
        for keyword in _HERE:
            if keyword in node:
                branches.add((yield node[keyword], value))
        for keyword in _BY_NAME if isinstance(value, dict) else ():
            for name, inner in _map(node, keyword).items():
                if name in value:
                    here.add((yield inner, value))
        for inner, item in self._within(node, value):
            within.add((yield inner, item))
        again = 3 if node.keys() & _UNEVALUATED else 1
        check = own + again * (here.check + branches.check) + within.check
        # An error takes the value along; of branches it is first asked whether there are any, and then all are kept.
        clone = 5 + self._size(value) // 50
        asked = check if branches.check or "contains" in node else 0
        errors = own + clone + asked + again * (here.errors + branches.errors) + within.errors
        error = max(clone + asked + branches.errors, here.error, within.error)
        work = Work(min(check, _CAP), min(errors, _CAP), min(error, _CAP))
        self._known[id(node), id(value)] = work
        return work

    def _within(self, node: dict[str, Any], value: Any) -> Iterator[tuple[Node, Any]]:
        if isinstance(value, dict):
            properties, patterns = _map(node, "properties"), _map(node, "patternProperties")
            for name, item in value.items():
                inner = [properties[name]] if name in properties else []
                inner += [one for pattern, one in patterns.items() if self._matches(pattern, name)]
                if not inner and "additionalProperties" in node:
                    inner = [node["additionalProperties"]]
                if "unevaluatedProperties" in node:
                    inner.append(node["unevaluatedProperties"])
                yield from ((one, item) for one in inner)
                if "propertyNames" in node:
                    yield node["propertyNames"], name
        elif isinstance(value, list):
            items = node.get("items")
            first = _list(node, "prefixItems") or (items if isinstance(items, list) else [])
            yield from zip(first, value, strict=False)
            rest = [items] if isinstance(items, dict | bool) else []
            rest += [node["additionalItems"]] if "additionalItems" in node else []
            yield from ((one, item) for item in value[len(first) :] for one in rest)
            every = [node[keyword] for keyword in ("contains", "unevaluatedItems") if keyword in node]
            yield from ((one, item) for item in value for one in every)

    def _own(self, node: dict[str, Any], value: Any) -> int:
        """What the keywords of `node` take, its inner schemas left out."""
        if id(node) not in self._fixed:
            lists = ("required", "properties", "dependentRequired", "dependencies", "dependentSchemas")
            named = sum(len(node[keyword]) for keyword in lists if isinstance(node.get(keyword), list | dict))
            enum = node.get("enum")
            hashed = isinstance(enum, list) and all(isinstance(item, str) for item in enum)
            values = (0 if hashed or enum is None else 3 * self._size(enum)) + self._size(node.get("const"))
            self._fixed[id(node)] = 1 + len(node) + named + values
        steps = self._fixed[id(node)]
        if isinstance(value, str):
            steps += len(value) // 64
            if isinstance(node.get("pattern"), str):
                steps += _matching(node["pattern"], len(value))
        elif isinstance(value, dict):
            steps += len(value)
            names = sum(map(len, value))
            for pattern in _map(node, "patternProperties"):
                steps += 20 * len(value) + _matching(pattern, names)
        elif isinstance(value, list):
            if node.get("uniqueItems"):
                steps += 2 * self._size(value) + 50 * _large_numbers(value) ** 2
        else:
            steps += _of_number(value)
        return steps

    def _size(self, value: Any) -> int:
        """Of a value: one for each place of it, and for ten characters."""
        if isinstance(value, str):
            return 1 + len(value) // 10
        if not isinstance(value, dict | list):
            return 1 + _of_number(value) // 10
        if id(value) not in self._sizes:
            items = value.values() if isinstance(value, dict) else value
            names = sum(map(len, value)) // 10 if isinstance(value, dict) else 0
            self._sizes[id(value)] = 1 + names + len(value) + sum(map(self._size, items))
        return self._sizes[id(value)]


def states(pattern: str) -> int:
    """About how many states the automaton of a pattern has, rather more than less.

    >>> states("^a{3}$"), states("(ab){10}")
    (5, 20)
    """
    totals, last, place = [0], 0, 0
    while place < len(pattern):
        character = pattern[place]
        braces = _BRACES.match(pattern, place) if character == "{" else None
        if braces:
            times = max(int(braces[1]), int(braces[2] or 0), 1)
            totals[-1] += last * (times - 1)
            last *= times
            place = braces.end()
            continue
        if character == "(":
            totals.append(0)
            last = 0
        elif character == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        else:
            last = 100 if pattern[place : place + 2] in ("\\p", "\\P") else 1
            totals[-1] += last
            place += character == "\\"
        place += 1
        if totals[-1] > _CAP:
            return _CAP
    return min(sum(totals), _CAP)


def _matching(pattern: str, characters: int) -> int:
    """Steps to look for a pattern in a text. Without a table of its states each of them costs at each character."""
    count = states(pattern)
    return 2 + (characters // 8 if count <= _FEW_STATES else characters * count // 2)


def _large_numbers(value: Any) -> int:
    """How many numbers in `value` do not fit into 64 bits."""
    return sum(1 for item in _everything(value) if _of_number(item))


def _of_number(value: Any) -> int:
    """Steps that a number takes which does not fit into 64 bits."""
    bits = value.bit_length() if isinstance(value, int) else 0
    return 0 if bits < 64 else 10 + (bits // 64) ** 2


def _everything(value: Any) -> Iterator[Any]:
    """`value` and all that is in it."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _cycles(
    nodes: Iterable[dict[str, Any]], after: Callable[[dict[str, Any]], Iterable[Node]]
) -> tuple[set[int], list[dict[str, Any]]]:
    """The ids of the nodes from which `after` leads back to them, and all nodes, each behind those that it leads to.
    It is Tarjan's search for components, without recursion."""
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    component: list[int] = []
    open_: set[int] = set()
    cycles: set[int] = set()
    order: list[dict[str, Any]] = []
    for start in nodes:
        path: list[tuple[dict[str, Any], Iterator[Node]]] = []
        following: Node | None = start
        while following is not None or path:
            if following is not None and id(following) not in number:
                here = id(following)
                number[here] = lowest[here] = len(number)
                component.append(here)
                open_.add(here)
                path.append((following, iter(after(following))))
            elif following is not None and path and id(following) in open_:
                here = id(path[-1][0])
                lowest[here] = min(lowest[here], number[id(following)])
                if id(following) == here:
                    cycles.add(here)
            if not path:
                break
            node, rest = path[-1]
            here = id(node)
            following = next((node for node in rest if isinstance(node, dict)), None)
            if following is not None:
                continue
            path.pop()
            order.append(node)
            if path:
                above = id(path[-1][0])
                lowest[above] = min(lowest[above], lowest[here])
            if lowest[here] == number[here]:
                members = [component.pop()]
                while members[-1] != here:
                    members.append(component.pop())
                open_.difference_update(members)
                if len(members) > 1:
                    cycles.update(members)
    return cycles, order


def _at(schema: Node, fragment: str) -> Iterator[Node]:
    """The place that `/a/0/b` names, if there is one."""
    for part in fragment.split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict) and name in schema:
            schema = schema[name]
        elif isinstance(schema, list) and name.isdecimal() and len(name) < 10 and int(name) < len(schema):
            schema = schema[int(name)]
        else:
            return
    yield schema


class _Sum:
    """Of works; of what the first error takes the largest."""

    def __init__(self) -> None:
        self.check = self.errors = self.error = 0

    def add(self, part: Work) -> None:
        self.check += part.check
        self.errors += part.errors
        self.error = max(self.error, part.error)


def _largest(parts: list[Work]) -> Work:
    return Work(*(max(column) for column in zip(*parts, strict=True))) if parts else Work(0, 0, 0)


def _list(node: dict[str, Any], keyword: str) -> list[Node]:
    value = node.get(keyword)
    return value if isinstance(value, list) else []


def _map(node: dict[str, Any], keyword: str) -> dict[str, Node]:
    value = node.get(keyword)
    return value if isinstance(value, dict) else {}
