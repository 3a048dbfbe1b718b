"""Sets of hosts as settings name them: names, `*.example.com`, `api-*.example.com`, addresses, networks, `*`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import InvalidArgument, StartError, quoted

from . import urls
from .addresses import Address, Network, plain, read_network


@dataclass
class HostSet:
    """Of one setting. Raises StartError where an entry is none of the forms."""

    setting: str
    entries: Sequence[str]
    names: dict[str, str] = field(default_factory=dict)  # exact ones, each with its entry as it was written
    domains: dict[str, str] = field(default_factory=dict)  # of `*.example.com` what stands behind the dot
    wildcards: list[tuple[str, str, str]] = field(default_factory=list)  # of others, what is before and behind the *
    networks: list[tuple[Network, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._read(entry.strip())
        self.wildcards.sort(key=lambda item: -len(item[0]) - len(item[1]))
        self.networks.sort(key=lambda item: -item[0].prefixlen)

    def __bool__(self) -> bool:
        return bool(self.names or self.domains or self.wildcards or self.networks)

    def entry_of(self, host: str, address: Address | None) -> str:
        """The most exact entry that `host` matches, empty where none does. A name matches no network: see
        `network_of`."""
        if address is not None:
            return self.network_of(address) or self._everything()
        if host in self.names:
            return self.names[host]
        for before, after, entry in self.wildcards:
            inner = host[len(before) : len(host) - len(after)]
            if host.startswith(before) and host.endswith(after) and inner and "." not in inner:
                return entry
        domain = host
        while domain := domain.partition(".")[2]:
            if domain in self.domains:
                return self.domains[domain]
        return self._everything()

    def network_of(self, address: Address) -> str:
        """The narrowest network that `address` lies in, empty where none is."""
        address = plain(address)
        return next((entry for network, entry in self.networks if address in network), "")

    def _everything(self) -> str:
        return "*" if "*" in self.names else ""

    def _read(self, entry: str) -> None:
        network = read_network(entry)
        if network is not None:
            self.networks.append((network, entry))
        elif entry == "*":
            self.names["*"] = "*"
        elif "*" in entry:
            self._read_wildcard(entry)
        else:
            self.names[self._host(entry, entry)] = entry

    def _read_wildcard(self, entry: str) -> None:
        label, dot, rest = entry.partition(".")
        before, _, after = label.partition("*")
        if not dot or label.count("*") != 1 or "*" in rest or not label.isascii():
            raise self._wrong(entry, "a * stands once, in the first label, which is ASCII, as in *.example.com")
        # With an x for the star it is a name like any other.
        host = self._host(f"{before}x{after}.{rest}", entry)
        if label == "*":
            self.domains[host.partition(".")[2]] = entry
        else:
            star = host.index(".") - len(after) - 1
            self.wildcards.append((host[:star], host[star + 1 :], entry))

    def _host(self, text: str, entry: str) -> str:
        if "/" in text or (":" in text and not text.startswith("[")):
            raise self._wrong(entry, "a host stands alone, without scheme, port and path")
        if text.startswith("."):
            raise self._wrong(entry, f"write *{text}")
        try:
            return urls.read_host(text)[0]
        except InvalidArgument as error:
            raise self._wrong(entry, error.message) from None

    def _wrong(self, entry: str, why: str) -> StartError:
        return StartError(f"setting {self.setting}: {quoted(entry)} is neither a host nor a network: {why}")
