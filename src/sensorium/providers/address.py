"""The address of a service: encrypted, unless it is on this machine or the user says otherwise."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ..core import ConfigError


def parse_address(base_url: str, plain_http: bool) -> tuple[bool, str, int | None, str]:
    """Whether to encrypt, the host, its port and the folder of a URL. It may hold a secret, and is not repeated."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise ConfigError("base_url: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[^!-~]", base_url):
        raise ConfigError("base_url: expected https://HOST/FOLDER, such as https://api.openai.com/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("base_url: expected no user, password, query or fragment in it")
    if parts.scheme == "http" and not plain_http and not _is_here(parts.hostname):
        raise ConfigError(
            f"base_url: http:// to {parts.hostname} would send everything unencrypted: use https:// or plain_http"
        )
    return parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
