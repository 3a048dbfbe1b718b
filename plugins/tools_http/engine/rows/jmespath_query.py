"""jmespath: a JMESPath expression over any JSON. What it may take is bounded by the worker's time and memory."""

from __future__ import annotations

from typing import Any

import jmespath
import jmespath.exceptions

from shared.errors import InvalidArgument

from .algorithm import Algorithm, Options, Result

_LONGEST = 5_000  # characters of an expression


def run(data: Any, options: Options, most_rows: int) -> Result:
    try:
        return Result(value=jmespath.compile(options["expression"]).search(data))
    except jmespath.exceptions.JMESPathError as error:
        problem = " ".join(str(error).split())[:300]
    except RecursionError:
        problem = "it is nested too deep"
    except (ValueError, TypeError, ArithmeticError, AttributeError, KeyError) as error:
        # What the library lets through, such as avg of what it takes for numbers.
        problem = f"it fails on this data ({type(error).__name__})"
    raise InvalidArgument(f"options.expression: {problem}", reason="BAD_EXPRESSION", field="options.expression")


ALGORITHM = Algorithm(
    name="jmespath",
    summary="What a JMESPath expression gives, of data of any form; its sum and avg are sums of doubles, rounded.",
    example={"expression": "[?amount > `100`].{id: id, who: customer.name}"},
    takes="anything",
    options={
        "type": "object",
        "properties": {"expression": {"type": "string", "minLength": 1, "maxLength": _LONGEST}},
        "required": ["expression"],
        "additionalProperties": False,
    },
    run=run,
)
