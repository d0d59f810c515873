"""Addresses as text: host and port joined, and URLs without what must not be shown."""


def join_host_port(host: str, port: int | str) -> str:
    """Return host:port, an IPv6 address in brackets (RFC 3986, section 3.2.2); brackets that are there stay."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
