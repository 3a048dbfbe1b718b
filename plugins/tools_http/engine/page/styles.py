"""Which CSS declarations hide an element from whoever looks at the page."""

from __future__ import annotations

import re

from turbohtml.cssom import StyleDeclaration

_LONGEST = 4_000  # characters of a style attribute that are read
_FAR = 500  # pixels: further to the left or up than anything that scrolls into view
_TINY = 2.0  # pixels: smaller than anybody reads
_FAINT = 0.05  # of opacity
_LENGTH = re.compile(r"([+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}))([a-z]{0,4}|%)")
_PIXELS = {"": 1.0, "px": 1.0, "em": 16.0, "rem": 16.0, "pt": 1.33, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78,
           "ex": 8.0, "ch": 8.0, "vw": 12.8, "vh": 7.2, "vmin": 7.2, "vmax": 12.8, "%": 10.0}  # fmt: skip
_DISPLAY = re.compile(
    r"(?:-webkit-|-moz-|-ms-)?(?:inline-)?(?:block|flex|flexbox|grid|table|box|inline|list-item|run-in|flow|flow-root|ruby|"
    r"math|contents|none|initial|inherit|unset|revert|table-[a-z-]{1,20}|ruby-[a-z-]{1,20})(?: [a-z -]{1,40})?"
)
_NONE = re.compile(r"(?:^|;)\s{0,9}display:\s{0,9}none", re.IGNORECASE)
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,6})\s?|\\(.)")
_OPACITY = re.compile(r"opacity\(([^)]{1,20})\)")
_NO_SCALE = re.compile(r"scale(?:3d|x|y)?\(\s{0,9}0?(?:\.0{1,9})?\s{0,9}[,)]")
_SHIFT = re.compile(r"translate(?:3d|x|y)?\(([^)]{1,60})\)")
_CLIP_PATH = re.compile(
    r"inset\(\s{0,9}(?:[5-9][0-9]|100)%|(?:circle|ellipse)\(\s{0,9}0|polygon\(\s{0,9}0[^1-9]{0,99}\)"
)


def declarations(style: str) -> StyleDeclaration:
    return StyleDeclaration.parse(style[:_LONGEST])


def value(style: StyleDeclaration, name: str) -> str:
    """Of a property, in lower case and without escapes; empty where it is not set."""
    text = style.get(name) or ""
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: _character(match[1]) if match[1] else match[2], text)
    return text.strip().lower()


def hides(style: StyleDeclaration) -> bool:
    """Whether nobody sees the element or anything in it. Colours are another module's."""
    if not len(style):
        return False
    if is_none(style) or value(style, "content-visibility") == "hidden":
        return True
    if any(map(_is_faint, (value(style, "opacity"), *_OPACITY.findall(value(style, "filter"))))):
        return True
    return _is_clipped(style) or _is_off_screen(style) or _is_moved_away(style)


def is_none(style: StyleDeclaration) -> bool:
    """Whether `display` is `none`: the last value counts that is one, as `display:none;display:oops` is not shown."""
    display = value(style, "display")
    return display == "none" or (bool(display) and not _DISPLAY.fullmatch(display) and bool(_NONE.search(style.text)))


def hides_text(style: StyleDeclaration) -> bool:
    """Whether the text is not seen, unless an element in it says otherwise."""
    return value(style, "visibility") in ("hidden", "collapse") or is_tiny(style)


def shows_text(style: StyleDeclaration) -> bool:
    """Whether it makes text visible that an element around it hides."""
    return value(style, "visibility") == "visible" or bool(_font_size(style) and not is_tiny(style))


def is_tiny(style: StyleDeclaration) -> bool:
    size = _font_size(style)
    # In percent and em it is of the size around it, which is not known: only nothing is surely too small.
    pixels = _pixels(size)
    return pixels is not None and (pixels == 0 if size.endswith(("%", "em", "ex", "ch")) else pixels < _TINY)


def _font_size(style: StyleDeclaration) -> str:
    if size := value(style, "font-size"):
        return size
    # In the shorthand it is the first length, before a slash.
    words = value(style, "font").replace("/", " / ").split()
    return next((word for word in words[:8] if word[:1].isdigit() and not _is_weight(word)), "")


def _is_weight(word: str) -> bool:
    return len(word) == 3 and word.isdigit()


def _is_faint(opacity: str) -> bool:
    number = _pixels(opacity.strip())
    return number is not None and number < (10 * _FAINT if "%" in opacity else _FAINT)


def _is_clipped(style: StyleDeclaration) -> bool:
    clip = value(style, "clip")
    if clip.startswith("rect(") and value(style, "position") in ("absolute", "fixed"):
        sides = [_pixels(side) for side in clip[5:].rstrip(")").replace(",", " ").split()]
        if len(sides) == 4 and all(side is not None and abs(side) <= 1 for side in sides):
            return True
    if _CLIP_PATH.search(value(style, "clip-path")):
        return True
    if not any(value(style, name) in ("hidden", "clip") for name in ("overflow", "overflow-x", "overflow-y")):
        return False
    sizes = [_pixels(value(style, name)) for name in ("width", "height", "max-width", "max-height")]
    return any(size is not None and 0 <= size <= 1 for size in sizes)


def _is_off_screen(style: StyleDeclaration) -> bool:
    if _less(value(style, "text-indent"), -_FAR):
        return True
    margin = value(style, "margin").split()
    left = value(style, "margin-left") or (margin[-1] if len(margin) in (1, 2, 4) else "")
    top = value(style, "margin-top") or (margin[0] if margin else "")
    if _less(left, -_FAR) or _less(top, -_FAR):
        return True
    if value(style, "position") not in ("absolute", "fixed", "relative"):
        return False
    inset = value(style, "inset").split()
    if _less(value(style, "left") or (inset[-1] if inset else ""), -_FAR) or _less(
        value(style, "top") or (inset[0] if inset else ""), -_FAR
    ):
        return True
    # A long way to the right or down is reached by scrolling; with a negative `right` or `bottom` it may not be.
    return _less(value(style, "right"), -_FAR) or _less(value(style, "bottom"), -_FAR)


def _is_moved_away(style: StyleDeclaration) -> bool:
    if value(style, "scale") in ("0", "0 0"):
        return True
    transform = value(style, "transform")
    if not transform or transform == "none":
        return False
    if _NO_SCALE.search(transform):
        return True
    # In percent it is of the element's own size: sliders move by that, and come back.
    shifts = [part.strip() for match in _SHIFT.finditer(transform) for part in match[1].split(",")]
    return any(_less(shift, -_FAR) for shift in shifts if not shift.endswith("%"))


def _less(length: str, bound: float) -> bool:
    pixels = _pixels(length)
    return pixels is not None and pixels <= bound


def _pixels(length: str) -> float | None:
    """A length in pixels, about; a number without unit as it is."""
    match = _LENGTH.fullmatch(length)
    if not match or match[2] not in _PIXELS:
        return None
    return float(match[1]) * _PIXELS[match[2]]


def _character(digits: str) -> str:
    code = int(digits, 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
