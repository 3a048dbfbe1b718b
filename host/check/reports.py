"""What a person and a CI read of the results: a table with the failures below it, JUnit XML, JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree  # writes only; nothing from outside is parsed

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from host.check.claims import FULL
from host.check.runner import FAILED, NOT_ASKED, NOT_OFFERED, PASSED, Result

_STYLES = {PASSED: "green", FAILED: "bold red", NOT_OFFERED: "dim", NOT_ASKED: "dim"}
_LONGEST = 1500  # characters of a request or reply that a report has
_SHORT = 600  # of one in the terminal
_LINE = 160  # of what is wrong, on the line of its claim


def line(out: Console, result: Result) -> None:
    """One claim, as soon as it was tried; a plus is before an addition to the guide."""
    level = "+" if result.claim.level == FULL else " "
    text = Text.assemble((f"{result.outcome:12}", _STYLES[result.outcome]), f"{level} {result.claim.sentence}")
    if result.message:
        message = _plain(result.message)
        message = message if len(message) <= _LINE else message[:_LINE] + "…"
        text.append(f"  {message}", "bold" if result.outcome == FAILED else "dim")
    out.print(text, soft_wrap=True)


def failure(out: Console, result: Result) -> None:
    """What was sent, what came, and what it breaks."""
    out.print(f"\n[bold red]FAILED[/] [bold]{escape(result.claim.sentence)}[/] ({result.claim.name})", soft_wrap=True)
    out.print(f"  what is wrong  {escape(_plain(result.message))}", soft_wrap=True)
    if result.exchange is not None:
        out.print(
            f"  request        {escape(result.exchange.rpc)} {escape(shown(result.exchange.request, _SHORT))}",
            soft_wrap=True,
        )
        out.print(f"  reply          {escape(shown(result.exchange.reply, _SHORT))}", soft_wrap=True)
    out.print(f"  the contract   {escape(result.claim.contract)}", soft_wrap=True)


def summary(results: Sequence[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    parts = [f"{counts[outcome]} {outcome}" for outcome in (PASSED, FAILED, NOT_OFFERED, NOT_ASKED) if counts[outcome]]
    return ", ".join(parts) or "no claims"


def junit(address: str, results: Sequence[Result]) -> str:
    """A testsuite for each service and level; a claim's sentence is its name."""
    root = ElementTree.Element("testsuites", name="host check")
    suites: dict[str, Any] = {}
    for result in results:
        name = f"{result.service}.{result.claim.level}"
        if name not in suites:
            suites[name] = ElementTree.SubElement(root, "testsuite", name=name, hostname=address)
        case = ElementTree.SubElement(
            suites[name],
            "testcase",
            classname=f"{name}.{result.claim.kind}",
            name=result.claim.sentence,
            time=f"{result.seconds:.3f}",
        )
        if result.outcome == FAILED:
            ElementTree.SubElement(case, "failure", message=_plain(result.message)).text = _plain(_story(result), "\n")
        elif result.outcome != PASSED:
            ElementTree.SubElement(case, "skipped", message=_plain(f"{result.outcome}: {result.message}"))
    for element in suites.values():
        cases = list(element)
        element.set("tests", str(len(cases)))
        element.set("failures", str(sum(case.find("failure") is not None for case in cases)))
        element.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
        element.set("errors", "0")
        element.set("time", f"{sum(float(case.get('time') or 0) for case in cases):.3f}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def as_json(address: str, level: str, results: Sequence[Result]) -> str:
    """One object: where, how far, how many, and each claim."""
    counts = Counter(result.outcome for result in results)
    claims = [
        {
            "service": result.service,
            "kind": result.claim.kind,
            "level": result.claim.level,
            "name": result.claim.name,
            "sentence": result.claim.sentence,
            "contract": result.claim.contract,
            "outcome": result.outcome,
            "message": result.message,
            "seconds": round(result.seconds, 3),
            **(
                {
                    "rpc": result.exchange.rpc,
                    "request": shown(result.exchange.request),
                    "reply": shown(result.exchange.reply),
                }
                if result.exchange
                else {}
            ),
        }
        for result in results
    ]
    counted = {outcome.replace(" ", "_"): counts[outcome] for outcome in (PASSED, FAILED, NOT_OFFERED, NOT_ASKED)}
    return json.dumps({"address": address, "level": level, **counted, "claims": claims}, indent=2, ensure_ascii=False)


def shown(value: Any, longest: int = _LONGEST) -> str:
    """A request or a reply on one line, cut where it is long."""
    if isinstance(value, grpc.RpcError):
        text = f"gRPC status {value.code().name}: {value.details() or 'no details'}"
    elif isinstance(value, Message):
        # Of a message of megabytes only the beginning is ever seen: the fields are written one by one.
        parts: list[str] = []
        for field, content in value.ListFields():
            small = type(value)()
            if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
                getattr(small, field.name).extend(content[:8])
                more = f" … {len(content)} in all" if len(content) > 8 else ""
            else:
                small.CopyFrom(value)
                for other, _ in value.ListFields():
                    if other.name != field.name:
                        small.ClearField(other.name)
                more = ""
            parts.append(text_format.MessageToString(small, as_one_line=True, as_utf8=True) + more)
            if sum(map(len, parts)) > longest:
                break
        text = "{" + " ".join(parts) + "}"
    elif isinstance(value, bytes):
        text = f"{len(value)} bytes {value[:40].hex()}"
    elif isinstance(value, list):
        text = f"{len(value)} messages: " + " ".join(map(shown, value[:12]))
    else:
        text = str(value)
    text = _plain(text)
    return text if len(text) <= longest else text[:longest] + "…"


def _story(result: Result) -> str:
    parts = [f"what is wrong: {result.message}", f"the contract: {result.claim.contract}"]
    if result.exchange is not None:
        parts += [
            f"request: {result.exchange.rpc} {shown(result.exchange.request)}",
            f"reply: {shown(result.exchange.reply)}",
        ]
    return "\n".join(parts)


def _plain(text: str, kept: str = "") -> str:
    """Without what a terminal would obey or XML cannot hold."""
    return "".join(c if c.isprintable() or c in kept else " " if c in "\n\t" else "\ufffd" for c in text)
