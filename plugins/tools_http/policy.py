"""Says, without connecting, what the policy would allow on a URL and which rule decides. Names are resolved.

    python -m {package}.policy https://api.example.com/v1 --method POST --config tools.yaml

It takes the settings of the plugin, as options, from the environment and from --config. Exit status: 0 where the call
would be allowed, 1 where not, 2 for settings that cannot be read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from shared.cli import configure
from shared.config import types
from shared.errors import CallerError, StartError
from shared.nearest import nearest
from shared.start import run
from shared.units import name_for_message
from shared.visible import visible_line

from . import PACKAGE
from .config import Config
from .engine import urls
from .engine.addresses import Address, kind_of
from .engine.network import Resolve, Resolver
from .engine.policy import Decision, Policy
from .engine.urls import Url

_WORDS = ("true", "false", "yes", "no", "on", "off", "1", "0")  # that may stand behind an option that is on or off


def main(argv: Sequence[str] | None = None, resolve: Resolve | None = None) -> int:
    url, method, options = _split(sys.argv[1:] if argv is None else argv)
    config = configure(Config, package=PACKAGE, section="tool_providers", argv=options, about=__doc__)
    if not url:
        raise StartError(f"command line: which URL? python -m {PACKAGE}.policy URL; see --help")
    allowed, lines = asyncio.run(explain(url, method, config, resolve or Resolver()))
    print("\n".join(map(visible_line, lines)))
    return 0 if allowed else 1


def policy_of(config: Config) -> Policy:
    """The policy that the settings make. Raises StartError."""
    return Policy(
        allowed_hosts=config.allowed_hosts,
        denied_hosts=config.denied_hosts,
        allowed_networks=config.allowed_networks,
        allowed_ports=config.allowed_ports,
        allowed_methods=config.allowed_methods,
    )


async def explain(text: str, method: str, config: Config, resolve: Resolve) -> tuple[bool, list[str]]:
    """Whether the call would be allowed, and why, in lines for the operator."""
    policy = policy_of(config)
    try:
        url = urls.parse(text)
    except CallerError as error:
        return False, [f"refused by the rule `{policy.decide(text, method).rule}`: {error.message}"]
    lines = [f"{method} {url}", f"methods: {', '.join(policy.methods(url)) or 'none'}"]
    decision = policy.decide(url, method)
    allowed = decision.allowed
    if allowed and url.address is None:
        if config.proxy_resolves:
            decision = _by_proxy(policy, url, decision)
            allowed = decision.allowed
        else:
            by_address = [(address, policy.decide_address(url, address)) for address in await _addresses(url, resolve)]
            lines += [_line(address, by) for address, by in by_address]
            if not by_address:
                return False, [*lines, f"refused: {url.host} cannot be resolved"]
            refused = [by for _, by in by_address if not by.allowed]
            allowed, decision = not refused, refused[0] if refused else decision
    if decision.error is not None:
        return False, [*lines, f"refused by the rule `{decision.rule}`: {decision.error.message}"]
    return allowed, [*lines, f"allowed by the rule `{decision.rule}`"]


def _by_proxy(policy: Policy, url: Url, decision: Decision) -> Decision:
    error = None if policy.allows_by_name(url) else policy.unnamed(url.host)
    return decision if error is None else Decision(False, "address", error)


async def _addresses(url: Url, resolve: Resolve) -> list[Address]:
    try:
        return [ip_address(text) for text in await resolve(url.host, url.port)]
    except (OSError, ValueError):
        return []


def _line(address: Address, decision: Decision) -> str:
    verdict = "allowed" if decision.allowed else "refused"
    return f"address {address} ({kind_of(address) or 'public'}): {verdict} by the rule `{decision.rule}`"


def _split(argv: Sequence[str]) -> tuple[str, str, list[str]]:
    """(URL, method, the options of the plugin)."""
    url, method, options = "", "GET", []
    pending = list(argv)
    while pending:
        argument = pending.pop(0)
        name, equals, value = argument.partition("=")
        if name == "--method":
            if not equals and not pending:
                raise StartError("command line: --method needs a value, such as POST")
            method = (value if equals else pending.pop(0)).upper()
        elif not argument.startswith("-"):
            if url:
                raise StartError("command line: there is more than one URL")
            url = argument
        else:
            _check_name(name)
            options.append(argument)
            if not equals and pending and _takes_value(name, pending[0]):
                options.append(pending.pop(0))
    return url, method, options


def _check_name(option: str) -> None:
    """Raises StartError where `--method` was meant, which the plugin's own options do not have."""
    known = ["--" + name.replace("_", "-") for name in (*types(Config), "config", "name", "check", "help", "method")]
    if option.startswith("--") and option not in known and nearest(option, known, 1) == ["--method"]:
        raise StartError(f"command line: unknown option {name_for_message(option)}; did you mean '--method'?")


def _takes_value(option: str, following: str) -> bool:
    if option in ("--help", "-h", "--check"):
        return False
    is_switch = types(Config).get(option.lstrip("-").replace("-", "_")) is bool
    return following.lower() in _WORDS if is_switch else True


if __name__ == "__main__":
    run(main)
