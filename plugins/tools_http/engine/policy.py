"""What may be asked of whom. Every URL passes here, and every address before it is dialled, redirects included.

Rules in this order, the first that objects decides: `url`, `scheme`, `denied_hosts`, `allowed_hosts`, `allowed_ports`,
`allowed_methods`; and for each address that a name has, `denied_hosts`, `allowed_hosts` where it lists networks, and
`address`, whose exceptions are `allowed_networks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import CallerError, PermissionDenied, StartError, quoted

from . import urls
from .addresses import METADATA, PUBLIC, Address, Network, embedded, kind_of, plain, read_network
from .hosts import HostSet
from .urls import Url

ALL_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
DEFAULT_METHODS = ("GET", "HEAD")
DEFAULT_PORTS = ("80", "443")


@dataclass(frozen=True)
class Decision:
    """`rule` decided; of a refusal `error` says why, and what would allow it."""

    allowed: bool
    rule: str
    error: CallerError | None = None


class Policy:
    """The operator's settings of the same names. Raises StartError where one cannot be read."""

    def __init__(
        self,
        *,
        allowed_hosts: Sequence[str] = (),
        denied_hosts: Sequence[str] = (),
        allowed_networks: Sequence[str] = (),
        allowed_ports: Sequence[str] = DEFAULT_PORTS,
        allowed_methods: Sequence[str] | Mapping[str, Sequence[str] | str] = DEFAULT_METHODS,
    ) -> None:
        self._allowed = HostSet("allowed_hosts", allowed_hosts)
        self._denied = HostSet("denied_hosts", denied_hosts)
        self._networks = _networks(allowed_networks)
        self._ports = _ports(allowed_ports)
        by_host = allowed_methods if isinstance(allowed_methods, Mapping) else {"*": allowed_methods}
        self._method_hosts = HostSet("allowed_methods", list(by_host))
        self._methods = {host.strip(): _methods(names) for host, names in by_host.items()}

    @property
    def names_hosts(self) -> bool:
        """Whether `allowed_hosts` is set."""
        return bool(self._allowed)

    def decide(self, url: str | Url, method: str = "GET") -> Decision:
        """Whether `method` may be used on `url`, as far as can be told without resolving. Never raises."""
        try:
            url = urls.parse(url) if isinstance(url, str) else url
        except CallerError as error:
            return Decision(False, error.metadata.get("rule", "url"), error)
        decision = self._host(url)
        if decision.allowed:
            decision = self._port(url) or self._method(url, method) or self._opened(url, method) or decision
        if decision.allowed and url.address is not None:
            by_address = self.decide_address(url, url.address)
            return by_address if not by_address.allowed or by_address.rule == "allowed_networks" else decision
        return decision

    def check(self, url: Url, method: str) -> str:
        """The rule that allows it. Raises PermissionDenied."""
        decision = self.decide(url, method)
        if decision.error is not None:
            raise decision.error
        return decision.rule

    def decide_address(self, url: Url, address: Address) -> Decision:
        """Whether `address`, one of those of the URL's host, may be dialled. Never raises."""
        address = plain(address)
        # To tell the model where inner names lead would be a map of the network: the command line tells the operator.
        what = f"the address {url.host}" if url.address is not None else f"{quoted(url.host)} leads to an address that"
        inner = embedded(address)
        if self._denied.network_of(address) or (inner is not None and self._denied.network_of(inner)):
            return _refusal("denied_hosts", "denied_hosts", "BLOCKED_HOST", f"{what} is denied", "take it off the list")
        if self._is_by_network(url) and not self._allowed.network_of(address):
            return _refusal("allowed_hosts", "allowed_hosts", "BLOCKED_HOST", f"{what} is not among the allowed hosts",
                            f"add {url.host}")  # fmt: skip
        kind = kind_of(address)
        if kind == PUBLIC:
            return Decision(True, "address")
        # An address that hands out credentials is opened by its own name only, never along with a range.
        exact = kind.endswith(METADATA)
        for network in self._networks:
            if address in network and (not exact or network.num_addresses == 1):
                return Decision(True, "allowed_networks")
        return _refusal("address", "allowed_networks", "BLOCKED_ADDRESS", f"{what} is not public ({kind})",
                        "list that very address" if exact else "list its network")  # fmt: skip

    def check_address(self, url: Url, address: Address) -> str:
        """The rule that allows it. Raises PermissionDenied."""
        decision = self.decide_address(url, address)
        if decision.error is not None:
            raise decision.error
        return decision.rule

    def allows_by_name(self, url: Url) -> bool:
        """Whether `allowed_hosts` has the host by its name, so that the operator answers for where it leads."""
        return url.address is None and self._allowed.entry_of(url.host, None) not in ("", "*")

    def unnamed(self, host: str) -> PermissionDenied:
        """What is to be said where a proxy resolves names, and `host` is not allowed by name."""
        return PermissionDenied(
            f"nobody here can check where {quoted(host)} leads, since the proxy resolves names: blocked by the rule "
            f"`address`; the operator can allow it in the setting allowed_hosts (add {host})",
            reason="BLOCKED_HOST",
            metadata={"rule": "address", "setting": "allowed_hosts"},
        )

    def methods(self, url: Url) -> tuple[str, ...]:
        """Those that may be used on the host of `url`."""
        entry = self._method_hosts.entry_of(url.host, url.address)
        return self._methods[entry] if entry else DEFAULT_METHODS

    def _is_by_network(self, url: Url) -> bool:
        """Whether the host can be allowed by its addresses alone."""
        return bool(self._allowed) and not self._allowed.entry_of(url.host, url.address)

    def _host(self, url: Url) -> Decision:
        if entry := self._denied.entry_of(url.host, url.address):
            return _refusal("denied_hosts", "denied_hosts", "BLOCKED_HOST", f"the host {quoted(url.host)} is denied",
                            f"take {quoted(entry)} off the list")  # fmt: skip
        if not self._allowed:
            return Decision(True, "default")
        if self._allowed.entry_of(url.host, url.address) or (url.address is None and self._allowed.networks):
            return Decision(True, "allowed_hosts")
        return _refusal("allowed_hosts", "allowed_hosts", "BLOCKED_HOST",
                        f"the host {quoted(url.host)} is not among the allowed hosts", f"add {url.host}")  # fmt: skip

    def _port(self, url: Url) -> Decision | None:
        if any(first <= url.port <= last for first, last in self._ports):
            return None
        return _refusal("allowed_ports", "allowed_ports", "BLOCKED_PORT", f"port {url.port} is not allowed",
                        f"add {url.port}")  # fmt: skip

    def _method(self, url: Url, method: str) -> Decision | None:
        methods = self.methods(url)
        if method in methods:
            return None
        return _refusal("allowed_methods", "allowed_methods", "BLOCKED_METHOD",
                        f"{quoted(method)} is not allowed on {url.host}, only {', '.join(methods) or 'nothing'}",
                        f"add {method[:20]}")  # fmt: skip

    def _opened(self, url: Url, method: str) -> Decision | None:
        """What let it through that is closed by default, where no list of hosts did."""
        if self._allowed:
            return None
        if method not in DEFAULT_METHODS:
            return Decision(True, "allowed_methods")
        return None if str(url.port) in DEFAULT_PORTS else Decision(True, "allowed_ports")


def _refusal(rule: str, setting: str, reason: str, what: str, remedy: str) -> Decision:
    message = f"{what}: blocked by the rule `{rule}`; the operator can allow it in the setting {setting} ({remedy})"
    error = PermissionDenied(message, reason=reason, metadata={"rule": rule, "setting": setting})
    return Decision(False, rule, error)


def _networks(entries: Iterable[str]) -> tuple[Network, ...]:
    networks = [(entry, read_network(entry.strip())) for entry in entries]
    for entry, network in networks:
        if network is None:
            raise StartError(
                f"setting allowed_networks: {quoted(entry)} is no network; write it as 10.0.0.0/8, with no bit set "
                f"behind the prefix, or as one address"
            )
    return tuple(network for _, network in networks if network is not None)


def _ports(entries: Iterable[str]) -> tuple[tuple[int, int], ...]:
    ranges = []
    for entry in entries:
        first, dash, last = str(entry).strip().partition("-")
        bounds = [first.strip(), last.strip() if dash else first.strip()]
        if not all(text.isascii() and text.isdigit() and len(text) <= 5 for text in bounds):
            raise StartError(f"setting allowed_ports: {quoted(str(entry))} is no port; write 8080 or 8000-8099")
        low, high = map(int, bounds)
        if not 1 <= low <= high <= 65535:
            raise StartError(f"setting allowed_ports: {quoted(str(entry))} is no range of ports from 1 to 65535")
        ranges.append((low, high))
    return tuple(ranges)


def _methods(names: object) -> tuple[str, ...]:
    if isinstance(names, str):
        names = [part for part in names.split(",") if part.strip()]
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise StartError("setting allowed_methods: expected a list of methods, or a mapping host to list")
    methods = [name.strip().upper() for name in names]
    if methods == ["*"]:
        return ALL_METHODS
    for method in methods:
        if method not in ALL_METHODS:
            raise StartError(f"setting allowed_methods: {quoted(method)} is none of {', '.join(ALL_METHODS)}")
    return tuple(dict.fromkeys(methods))
