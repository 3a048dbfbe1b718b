"""A chat in the terminal over the plugin's own gRPC: to see at once whether an endpoint works.

python -m {package}.chat                              # talk; an empty line or Ctrl-D ends it
python -m {package}.chat --model gpt-4o-mini "Hi"     # one question
git diff | python -m {package}.chat "Summarise this"  # what comes in is put below the question, or is it

What a model wrote is shown as text on a terminal, whatever it would have the terminal do; into a pipe it goes as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from shared.cli import naming
from shared.client import Address, channel
from shared.config import variable
from shared.start import run
from shared.units import Secret
from shared.visible import visible, visible_line

from . import PACKAGE


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr] # what is piped in may be in any encoding
    address = Address(
        options.address, token=Secret(os.environ.get(variable(PACKAGE, "token"), "")), tls_ca=options.tls_ca
    )
    stub = rpc.LLMProviderStub(channel(address))
    try:
        if options.models:
            return _list(stub, address)
        chat = _Chat(stub, address, options.model, options.system)
        piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
        if options.question or piped:
            return chat.ask("\n\n".join(filter(None, (options.question, piped))))
        return _talk(chat) if sys.stdin.isatty() else 0
    except grpc.RpcError as error:
        return _failed(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.chat",
        description=naming(PACKAGE, __doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"A token of the plugin is read from {variable(PACKAGE, 'token')}.",
    )
    parser.add_argument("question", nargs="?", help="ask this and exit; without it, talk")
    parser.add_argument("--address", default="127.0.0.1:8081", help="of the plugin [127.0.0.1:8081]")
    parser.add_argument("--tls-ca", default="", metavar="FILE", help="PEM of the CA of the plugin's certificate")
    parser.add_argument("--model", default="", help="empty takes the plugin's")
    parser.add_argument("--system", default="", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--models", action="store_true", help="list the models and exit")
    return parser


class _Chat:
    """Remembers what was said."""

    def __init__(self, stub: rpc.LLMProviderStub, address: Address, model: str, system: str) -> None:
        self._stub, self._address, self._model = stub, address, model
        self._messages = [pb.ChatMessage(role="system", content=system)] if system else []

    def ask(self, question: str) -> int:
        """Prints the answer as it comes, and what it took on stderr; the exit status."""
        asked = [*self._messages, pb.ChatMessage(role="user", content=question)]
        request = pb.StreamTextRequest(model=self._model, messages=asked)
        said: list[str] = []
        call = self._stub.StreamText(request, metadata=self._address.metadata)
        try:
            _show(call, said)
        except KeyboardInterrupt:  # enough of this answer
            call.cancel()
            print()
            return 130
        except grpc.RpcError as error:
            print()
            return _failed(error)
        self._messages = [*asked, pb.ChatMessage(role="assistant", content="".join(said))]
        return 0


def _show(replies: Iterable[pb.StreamTextResponse], said: list[str]) -> None:
    dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    as_it_is = not sys.stdout.isatty()
    thinking = False
    for reply in replies:
        if reply.reasoning:
            print(f"{dim}{_piece(reply.reasoning)}{plain}", end="", file=sys.stderr, flush=True)
            thinking = True
        elif thinking:
            print(file=sys.stderr)
            thinking = False
        if text := reply.text or reply.refusal:
            print(text if as_it_is else _piece(text), end="", flush=True)
            said.append(text)
        if reply.done:
            for call in reply.tool_calls:
                written = f"{call.name}({call.arguments_json})"
                print(written if as_it_is else visible(written), end="")
            print()
            _sum_up(reply)


def _piece(text: str) -> str:
    """As it may be shown; the line feed of a carriage return may be in the next piece."""
    return visible(text.removesuffix("\r"))


def _sum_up(reply: pb.StreamTextResponse) -> None:
    facts = [reply.model, pb.FinishReason.Name(reply.finish_reason).removeprefix("FINISH_REASON_").lower()]
    if reply.HasField("usage"):
        facts.append(f"{reply.usage.prompt_tokens} + {reply.usage.completion_tokens} tokens")
    if reply.dropped_params:
        facts.append(f"not taken: {', '.join(reply.dropped_params)}")
    print(visible_line(f"[{', '.join(filter(None, facts))}]"), file=sys.stderr)


def _talk(chat: _Chat) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - arrows and history in `input`
    while True:
        try:
            question = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if not question.strip():
            return 0
        chat.ask(question)  # an error ends neither the talk nor what was said before


def _list(stub: rpc.LLMProviderStub, address: Address) -> int:
    for model in stub.ListModels(pb.ListModelsRequest(), metadata=address.metadata).models:
        facts = [f"{model.context_length} tokens"] if model.context_length else []
        facts += [*model.capabilities, *(["default"] if model.is_default else [])]
        print("\t".join(map(visible_line, filter(None, (model.id, ", ".join(facts))))))
    return 0


def _failed(error: grpc.RpcError) -> int:
    code, said = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "Connection refused" in said:
        said = f"the plugin does not run at this address; start it with `python -m {PACKAGE}`"
    print(f"error: {code.name}: {visible(said)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # Windows has none
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--models | head`
    run(main)
