"""What an IP address is: public, or one of the kinds that a stranger must not be let to.

The table is our own, after IANA's registries of special-purpose addresses. `ipaddress.is_global` answers another
question: it is true for ::a9fe:a9fe, 64:ff9b::a9fe:a9fe, 2002:a9fe:a9fe::1, fec0::1 and 168.63.129.16.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PUBLIC = ""
METADATA = "cloud metadata"

# Services of clouds that hand out credentials to whoever asks from inside, some of them at public addresses.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, DigitalOcean, OpenStack, Oracle and others
        "169.254.170.2", "169.254.170.23",  # AWS: credentials of containers and of pods
        "169.254.169.250", "169.254.169.251", "169.254.169.253",  # AWS: licences and names
        "169.254.0.23", "169.254.10.10", "169.254.42.42",  # Tencent, IBM, Scaleway
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle
        "fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253",  # AWS
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fe80::a9fe:a9fe",  # OpenStack
    )
)  # fmt: skip

_IPV4 = tuple(
    (IPv4Network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),  # relays of 6to4, which are gone
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_IPV6 = tuple(
    (IPv6Network(text), kind)
    for text, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard-only"),
        ("100:0:0:1::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("3ffe::/16", "reserved"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL = IPv6Network("2000::/3")  # all that has been given out for the internet
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the upper half of an interface's identifier


def kind_of(address: Address) -> str:
    """PUBLIC, or what else it is, with what it embeds where that decides.

    >>> kind_of(ip_address("8.8.8.8")), kind_of(ip_address("64:ff9b::8.8.8.8"))
    ('', '')
    >>> kind_of(ip_address("64:ff9b::a9fe:a9fe"))
    'NAT64 of cloud metadata'
    """
    if address in _METADATA:
        return METADATA
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _IPV4 if address in network), PUBLIC)
    if address.scope_id is not None:
        return "link-local"
    inner, form = _inside(address)
    if inner is not None:
        kind = kind_of(inner)
        return f"{form} of {kind}" if kind else PUBLIC
    return next((kind for network, kind in _IPV6 if address in network), PUBLIC if address in _GLOBAL else "reserved")


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that is dialled in the end where `address` is; None where it embeds none, or one of the past.

    >>> embedded(ip_address("64:ff9b::8.8.8.8"))
    IPv4Address('8.8.8.8')
    """
    return _inside(address)[0] if isinstance(address, IPv6Address) else None


def _inside(address: IPv6Address) -> tuple[IPv4Address | None, str]:
    """The embedded address and the form."""
    bits = int(address)
    if address in _MAPPED:
        return IPv4Address(bits & 0xFFFFFFFF), "IPv4-mapped"
    if address in _NAT64:
        return IPv4Address(bits & 0xFFFFFFFF), "NAT64"
    if address in _6TO4:
        return IPv4Address(bits >> 80 & 0xFFFFFFFF), "6to4"
    is_special = address not in _GLOBAL or any(address in network for network, _ in _IPV6)
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP and not is_special:
        return IPv4Address(bits & 0xFFFFFFFF), "ISATAP"
    return None, ""


def plain(address: Address) -> Address:
    """An IPv4-mapped address as the IPv4 address that it is: the system dials the same host for either."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def read_network(text: str) -> Network | None:
    """An address or a network as in settings; None where `text` is neither.

    >>> read_network("10.1.2.3"), read_network("10.0.0.0/8"), read_network("example.com")
    (IPv4Network('10.1.2.3/32'), IPv4Network('10.0.0.0/8'), None)
    """
    try:
        network = ip_network(text.strip("[]") if text.startswith("[") else text)
    except ValueError:
        return None
    # Of an IPv4-mapped network only its IPv4 form is ever compared.
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.subnet_of(_MAPPED):
        address = IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        return IPv4Network((int(address), network.prefixlen - 96))
    return network
