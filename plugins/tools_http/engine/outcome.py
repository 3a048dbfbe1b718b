"""A response as a tool's output: text for the model, JSON also as a value, what is no text as base64."""

from __future__ import annotations

import base64
import codecs
import json
import re
from http import HTTPStatus

import jiter

from shared.errors import CallerError, Code
from shared.off_loop import in_thread

from .decoding import decode
from .exchange import Response
from .redaction import Redactor
from .retry import retry_after
from .tool import ABSENT, JSON, Output

MOST_STRUCTURED = 2**18  # bytes of JSON that are read here: two milliseconds. More of it comes as text only
MOST_CHECKED = 2**15  # bytes of JSON with numbers that may be too large for a float
_HUGE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|(?<![0-9])[0-9]{309}")
_LARGE = 2**15  # bytes of a body: more take milliseconds to be read
_LONGEST_HEADER = 500  # characters of one that is shown

_WORTH_HAVING = frozenset(
    "accept-ranges age allow cache-control content-disposition content-language content-location content-range date "
    "deprecation etag expires last-modified link location retry-after sunset vary www-authenticate x-next-page "
    "x-page x-per-page x-request-id x-total x-total-count x-total-pages".split()
)
_WORTH_PREFIXES = ("ratelimit", "x-ratelimit-", "x-rate-limit-")

_TEXTUAL = frozenset(
    "application/json application/xml application/javascript application/ecmascript application/yaml "
    "application/x-yaml application/toml application/graphql application/sql application/x-www-form-urlencoded "
    "application/x-javascript application/x-ndjson application/jsonl application/ndjson application/json-seq "
    "application/x-sh application/rtf application/mbox application/x-tex application/http".split()
)
_TEXTUAL_ENDINGS = ("+json", "+xml", "+yaml", "+json-seq")

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Python's names of what the web's labels mean. Its other codecs are no charsets, or take long on what is hostile.
_CHARSETS = frozenset(
    "utf-8 ascii utf-16-le utf-16-be iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 "
    "iso8859-8 iso8859-9 iso8859-10 iso8859-13 iso8859-14 iso8859-15 iso8859-16 cp866 cp874 cp1250 cp1251 cp1252 "
    "cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 koi8-r koi8-u mac-roman gbk gb2312 gb18030 big5 big5hkscs euc_jp "
    "shift_jis cp932 iso2022_jp euc_kr cp949 tis-620".split()
)

# status: (code, reason, what to do)
_ERRORS = {
    400: (Code.INVALID_ARGUMENT, "UPSTREAM_BAD_REQUEST", "correct the request as the body says"),
    401: (Code.UNAUTHENTICATED, "UPSTREAM_UNAUTHENTICATED", "the operator has to configure a credential for this host"),
    402: (Code.FAILED_PRECONDITION, "UPSTREAM_PAYMENT_REQUIRED", "the account there has to be paid for"),
    403: (Code.PERMISSION_DENIED, "UPSTREAM_FORBIDDEN", "the credential does not reach this far, or there is none"),
    404: (Code.NOT_FOUND, "UPSTREAM_NOT_FOUND", "check the path"),
    405: (Code.UNIMPLEMENTED, "UPSTREAM_METHOD_NOT_ALLOWED", "use a method that the header Allow has"),
    406: (Code.INVALID_ARGUMENT, "UPSTREAM_NOT_ACCEPTABLE", "change the header Accept"),
    408: (Code.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT", "call again"),
    409: (Code.ABORTED, "UPSTREAM_CONFLICT", "read its present state first"),
    410: (Code.NOT_FOUND, "UPSTREAM_GONE", "it does not come back"),
    412: (Code.FAILED_PRECONDITION, "UPSTREAM_PRECONDITION_FAILED", "read its present state first"),
    413: (Code.RESOURCE_EXHAUSTED, "UPSTREAM_BODY_TOO_LARGE", "send less"),
    415: (Code.INVALID_ARGUMENT, "UPSTREAM_MEDIA_TYPE", "change the header Content-Type"),
    422: (Code.INVALID_ARGUMENT, "UPSTREAM_UNPROCESSABLE", "correct the request as the body says"),
    425: (Code.UNAVAILABLE, "UPSTREAM_TOO_EARLY", "call again"),
    429: (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", "call less often"),
    501: (Code.UNIMPLEMENTED, "UPSTREAM_NOT_IMPLEMENTED", "use another call"),
    504: (Code.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT", "call again later, or ask for less"),
}
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})


async def output_of(response: Response, redactor: Redactor | None = None) -> Output:
    """What a tool gives for `response`: with an error from status 400 on, its body kept. `redactor` takes secrets out
    of what is shown as base64 or cut, where nobody else finds them."""
    redactor = redactor or Redactor()
    if len(response.body) > _LARGE:
        return await in_thread(_output_of, response, redactor)
    return _output_of(response, redactor)


def _output_of(response: Response, redactor: Redactor) -> Output:
    kind = media_type(response)
    facts = metadata(response, redactor)
    text = text_of(response)
    if text is None:
        facts["encoding"] = "base64"
        text = base64.b64encode(redactor.clean_bytes(response.body)).decode("ascii")
        return Output(text=text, content_type=kind, metadata=facts, error=error_of(response))
    structured = ABSENT
    if is_json(kind):
        structured = json_of(response)
        if structured is ABSENT and len(response.body) > MOST_STRUCTURED:
            facts["structured_left_out"] = f"the JSON has more than {MOST_STRUCTURED} bytes"
    return Output(text=text, structured=structured, content_type=kind, metadata=facts, error=error_of(response))


def metadata(response: Response, redactor: Redactor | None = None) -> dict[str, JSON]:
    """Facts about the exchange: status, final URL, headers worth having, whether and when to try again."""
    facts: dict[str, JSON] = {"status": response.status, "url": response.url, "bytes": response.wire_bytes}
    headers: dict[str, str] = {}
    for name, value in response.headers:
        if name in _WORTH_HAVING or name.startswith(_WORTH_PREFIXES):
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers:
        clean = redactor.clean if redactor else str
        # Cleaned before it is cut: half of a secret nobody would know.
        facts["headers"] = {name: clean(value)[:_LONGEST_HEADER] for name, value in headers.items()}
    if response.redirects:
        facts["redirects"] = list(response.redirects)
    if response.attempts > 1:
        facts["attempts"] = response.attempts
    if response.status >= 400:
        facts["retryable"] = response.status in _RETRYABLE
    wait = retry_after(response)
    if wait is not None and response.status >= 300:
        facts["retry_after_s"] = int(wait) if wait.is_integer() else round(wait, 3)
    return facts


def error_of(response: Response) -> CallerError | None:
    """From status 400 on: one sentence, with a stable reason."""
    if response.status < 400:
        return None
    code, reason, remedy = _ERRORS.get(response.status) or (
        (Code.UNAVAILABLE, "UPSTREAM_ERROR", "call again later")
        if response.status >= 500
        else (Code.FAILED_PRECONDITION, "UPSTREAM_REFUSED", "see the body")
    )
    wait = retry_after(response) if response.status in _RETRYABLE else None
    if wait is not None:
        remedy = f"call again in {wait:.0f} seconds"
    try:
        phrase = f" {HTTPStatus(response.status).phrase}"
    except ValueError:
        phrase = ""
    error = CallerError(
        f"the server answered HTTP {response.status}{phrase}; {remedy}",
        reason=reason,
        metadata={"http_status": str(response.status), "retryable": str(response.status in _RETRYABLE).lower()},
        retry_after=wait,
    )
    error.code = code
    return error


def media_type(response: Response) -> str:
    """In lower case, without parameters; application/octet-stream or text/plain where the server says none."""
    kind = response.header("content-type").partition(";")[0].strip().lower()
    if kind.isascii() and kind.isprintable() and kind.count("/") == 1 and " " not in kind:
        return kind[:100]
    return "text/plain" if _is_plain(response.body) else "application/octet-stream"


def is_json(kind: str) -> bool:
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def text_of(response: Response) -> str | None:
    """The body as text: by its byte order mark, the header's charset, strict UTF-8, and only then as Windows-1252.
    None where it is none."""
    kind = media_type(response)
    if not (kind.startswith("text/") or kind in _TEXTUAL or kind.endswith(_TEXTUAL_ENDINGS)) and response.body:
        return None
    for mark, charset in _BOMS:
        if response.body.startswith(mark):
            return decode(response.body[len(mark) :], charset, "replace")
    declared = "" if is_json(kind) else _charset(response.header("content-type"))
    try:
        return decode(response.body, declared or "utf-8")
    except UnicodeError:
        return decode(response.body, declared or "cp1252", "replace")


def json_of(response: Response) -> JSON:
    """The body as a JSON value; ABSENT where it is none that JSON can write again, or a long one."""
    body = response.body
    may_overflow = _HUGE.search(body) if len(body) <= MOST_STRUCTURED else None
    if len(body) > (MOST_CHECKED if may_overflow else MOST_STRUCTURED):
        return ABSENT
    try:
        value = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
        if may_overflow:
            # 1e999 is read as infinity, which no JSON can hold.
            json.dumps(value, allow_nan=False)
    except ValueError:
        return ABSENT
    return value


def _charset(content_type: str) -> str:
    for parameter in content_type.split(";")[1:20]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            try:
                charset = codecs.lookup(value.strip(" \t\"'")[:40]).name
            except (LookupError, ValueError):
                return ""
            if charset in ("iso8859-1", "ascii"):
                return "cp1252"  # as the web has it
            if charset == "utf-16":
                return "utf-16-le"  # so too, where no byte order mark says more
            return charset if charset in _CHARSETS else ""
    return ""


def _is_plain(body: bytes) -> bool:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(char < " " and char not in "\t\n\r\f" for char in text[:4096])
