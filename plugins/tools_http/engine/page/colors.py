"""Text in the colour of what is behind it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from turbohtml import Element, Node
from turbohtml.cssom import StyleDeclaration

from .sheets import Rule, matches
from .styles import declarations, value

_SAME = 24  # of 255: two colours that differ less in each of red, green and blue are not told apart
_FAINT = 0.05  # of opacity
_MOST_RULES = 300  # whose backgrounds are looked up: of a page with more, only what stands in style attributes counts
_NAMES = {
    "white": 0xFFFFFF, "black": 0x000000, "snow": 0xFFFAFA, "ivory": 0xFFFFF0, "whitesmoke": 0xF5F5F5,
    "ghostwhite": 0xF8F8FF, "floralwhite": 0xFFFAF0, "mintcream": 0xF5FFFA, "azure": 0xF0FFFF, "aliceblue": 0xF0F8FF,
    "seashell": 0xFFF5EE, "honeydew": 0xF0FFF0, "lavenderblush": 0xFFF0F5, "red": 0xFF0000, "lime": 0x00FF00,
    "blue": 0x0000FF, "yellow": 0xFFFF00, "cyan": 0x00FFFF, "aqua": 0x00FFFF, "magenta": 0xFF00FF, "fuchsia": 0xFF00FF,
    "silver": 0xC0C0C0, "gray": 0x808080, "grey": 0x808080, "maroon": 0x800000, "olive": 0x808000, "green": 0x008000,
    "purple": 0x800080, "teal": 0x008080, "navy": 0x000080, "orange": 0xFFA500,
}  # fmt: skip
_HEX = re.compile(r"#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})")
_OWN = "[style*=background i], [bgcolor]"
_SHEETS_ELSEWHERE = "link[rel~=stylesheet i]"
_FILL = "-webkit-text-fill-color"  # where it is set, the colour of text in place of `color`
_FUNCTION = re.compile(r"(rgb|hsl)a?\(([^()]{1,80})\)")


class Color(NamedTuple):
    red: int
    green: int
    blue: int
    opacity: float

    def is_like(self, other: Color) -> bool:
        """Whether a reader cannot tell them apart."""
        return (
            abs(self.red - other.red) <= _SAME
            and abs(self.green - other.green) <= _SAME
            and abs(self.blue - other.blue) <= _SAME
        )


WHITE = Color(255, 255, 255, 1.0)


@functools.lru_cache(maxsize=1_000)
def parse(text: str) -> Color | None:
    """A colour in one of the usual forms, in lower case; None for others, which may be any.

    >>> parse("#fff")
    Color(red=255, green=255, blue=255, opacity=1.0)
    """
    if text == "transparent":
        return Color(0, 0, 0, 0.0)
    if text in _NAMES:
        red, green, blue = _NAMES[text].to_bytes(3, "big")
        return Color(red, green, blue, 1.0)
    if _HEX.fullmatch(text):
        digits = text[1:] if len(text) > 5 else "".join(2 * digit for digit in text[1:])
        red, green, blue, opacity = bytes.fromhex(digits if len(digits) == 8 else digits + "ff")
        return Color(red, green, blue, opacity / 255)
    if match := _FUNCTION.fullmatch(text):
        return _function(match[1], match[2].replace(",", " ").replace("/", " ").split())
    return None


def _function(name: str, parts: list[str]) -> Color | None:
    try:
        numbers = [float(part.rstrip("%").removesuffix("deg")) for part in parts]
    except ValueError:
        return None
    if len(numbers) not in (3, 4) or not all(abs(number) < 1e6 for number in numbers):
        return None
    opacity = numbers[3] / (100 if parts[3].endswith("%") else 1) if len(numbers) == 4 else 1.0
    if name == "rgb":
        numbers[:3] = [n * 2.55 if part.endswith("%") else n for n, part in zip(numbers[:3], parts, strict=False)]
        red, green, blue = (max(0, min(255, round(number))) for number in numbers[:3])
        return Color(red, green, blue, opacity)
    if numbers[2] >= 97:  # lightness in percent: white or black, whatever the hue
        return Color(255, 255, 255, opacity)
    return Color(0, 0, 0, opacity) if numbers[2] <= 3 else None


def background(style: StyleDeclaration) -> tuple[bool, Color | None]:
    """Whether it sets a background, and its colour where that is known."""
    if text := value(style, "background-color"):
        color = parse(text)
        return not (color and color.opacity < _FAINT), color
    text = value(style, "background")
    if value(style, "background-image") not in ("", "none") or "url(" in text or "gradient(" in text:
        return True, None
    if not text or text in ("none", "transparent", "inherit", "initial", "unset"):
        return False, None
    color = parse(text) or next((color for word in text.split()[:8] if (color := parse(word))), None)
    return not (color and color.opacity < _FAINT), color


def own_background(element: Element) -> tuple[bool, Color | None]:
    """As `background`, of its attributes."""
    if style := element.attr("style"):
        sets, color = background(declarations(str(style)))
        if sets:
            return sets, color
    if name := element.attr("bgcolor"):
        return True, parse(str(name).strip().lower())
    return False, None


class Backgrounds:
    """What is behind each element, by the style attributes and the sheets that stand in the page."""

    def __init__(self, document: Node, rules: Sequence[Rule]) -> None:
        self._by_sheet: dict[Node, Color | None] = {}
        self._behind: dict[Node, Color | None] = {}
        self._painted: set[Color] = {WHITE}  # all that can be behind a text
        painted = [(rule, color) for rule in rules for sets, color in [background(rule.style)] if sets]
        # With other sheets, which are not read, an element that these can address may have any background.
        self._may_differ = len(painted) > _MOST_RULES or document.select_one(_SHEETS_ELSEWHERE) is not None
        styled = map(own_background, document.select(_OWN))
        self._painted.update(color for sets, color in [*styled, *(background(rule.style) for rule in rules)] if color)
        for rule, color in painted[:_MOST_RULES]:
            for element in matches(document, rule.selector):
                self._by_sheet[element] = color

    def may_hide(self, color: Color) -> bool:
        return any(map(color.is_like, self._painted))

    def behind(self, element: Element) -> Color | None:
        """The colour behind its text; None where that is not known. White where nobody says anything."""
        path: list[Node] = []
        color: Color | None = WHITE
        node: Node | None = element
        while isinstance(node, Element):
            if node in self._behind:
                color = self._behind[node]
                break
            path.append(node)
            sets, own = own_background(node)
            if sets or node in self._by_sheet:
                color = own if sets else self._by_sheet[node]
                break
            if self._may_differ and (node.attr("class") or node.attr("id")):
                color = None
                break
            node = node.parent
        self._behind.update(dict.fromkeys(path, color))
        return color


def has_color(style: StyleDeclaration) -> bool:
    """Whether it says what colour text has."""
    return "color" in style or _FILL in style


def is_unseen(style: StyleDeclaration, backgrounds: Backgrounds, element: Element) -> bool:
    """Whether the text of `element`, which has this style, cannot be told from what is behind it."""
    fill = value(style, _FILL)
    color = parse(value(style, "color") if fill in ("", "currentcolor") else fill)
    if color is None:
        return False
    if color.opacity < _FAINT:
        clip = value(style, "background-clip") or value(style, "-webkit-background-clip")
        return "text" not in clip and not value(style, "text-shadow")
    if not backgrounds.may_hide(color):
        return False
    behind = backgrounds.behind(element)
    return behind is not None and color.is_like(behind)
