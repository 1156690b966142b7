"""A provider's key, and the hosts that it may be sent to."""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from promptlab.errors import ConfigError

OWN_HOSTS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("https://api.anthropic.com",),
    "deepseek": ("https://api.deepseek.com",),
    "groq": ("https://api.groq.com",),
    "mistral": ("https://api.mistral.ai",),
    "openai": ("https://api.openai.com", "https://eu.api.openai.com", "https://us.api.openai.com"),
    "openrouter": ("https://openrouter.ai",),
}
"""The hosts that belong to a provider itself. Azure has none: a resource's name may be anybody's."""
VARIABLES = "PROMPTLAB_KEY_VARIABLES"
"""The environment variable that lists, with commas, further variables that an experiment may name as keys."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_PORTS = {"https": 443, "http": 80}
_SENT_TO = "Sent to "


@dataclass(frozen=True, slots=True)
class Secret:
    """A key as a secret store holds it."""

    value: str = field(repr=False)
    hosts: tuple[str, ...] | None = None
    """Origins that it may be sent to, as `origin_of` writes them; None for a variable of one's own machine,
    which whoever names it sends where it goes."""

    def to_text(self) -> str:
        """The secret as one text, with its hosts: whoever can replace the key replaces both at once."""
        return json.dumps({"key": self.value, "hosts": list(self.hosts or ())})

    @classmethod
    def from_text(cls, name: str, text: str) -> Secret:
        """Read what a store holds under a name: the JSON of `to_text`, or a key alone.

        A key alone, as it was kept before and as the consoles of secret stores write it, goes to the hosts of
        the provider that its name names. `hosts` is empty where it names none: then the key goes to the own
        hosts of the model's provider.
        """
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, dict) and found.keys() == {"key", "hosts"}:
            hosts = found["hosts"] if isinstance(found["hosts"], list) else []
            return cls(str(found["key"]), tuple(host_given(str(host)) for host in hosts) or ("nowhere",))
        return cls(text, hosts_named_by(name))


def hosts_named_by(name: str) -> tuple[str, ...]:
    """The own hosts of the provider that stands in a secret's name: `openai`, `OPENAI_API_KEY`,
    `team/openai`.

    Returns:
        The provider's hosts; none where the name has no provider in it, or several.
    """
    named = [
        hosts for provider, hosts in OWN_HOSTS.items() if provider in re.split(r"[^a-z0-9]+", name.lower())
    ]
    return tuple(map(host_given, named[0])) if len(named) == 1 else ()


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL in one form: `https://api.openai.com:443`.

    Two origins are one only if they are equal letter for letter; another way to write a host is another host.
    """
    parts = urllib.parse.urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def host_given(host: str) -> str:
    """Read a host as people write it for `--host`: `api.openai.com`, `gateway.example.com:8443`, `https://…`.

    Raises:
        ConfigError: it is no host, has a path, or speaks plain http elsewhere than on this machine.
    """
    given = host.strip()
    url = given if "://" in given else f"https://{given}"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    bare = f"{parts.scheme}://{parts.netloc}"
    name = re.sub(r":\d*$", "", parts.netloc)
    if (
        parts.scheme not in _PORTS
        or port == 0
        or not _HOST.fullmatch(name)
        or url.rstrip("/").lower() != bare.lower()
    ):
        raise ConfigError(
            f"--host {given[:300]!r} is not a host such as api.openai.com or gateway.example.com:8443: "
            "no path, no user name, no wildcard."
        )
    if parts.scheme == "http" and not is_loopback_name(parts.hostname or ""):
        raise ConfigError(f"--host {given!r}: a key is sent over https only. Write https://{parts.netloc}.")
    return origin_of(url)


def is_loopback_name(host: str) -> bool:
    """Whether a host is this machine by its very name: `localhost`, names under it (RFC 6761, 6.3),
    127.0.0.0/8 and ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_variable(variable: str, environment: Mapping[str, str]) -> None:
    """Refuse to read an environment variable as a key that an experiment names, unless its name says that it
    is one: else an experiment of somebody else's could send any variable anywhere.

    Raises:
        ConfigError: its name does not end in _API_KEY, and the machine's owner does not list it.
    """
    listed = [name.strip() for name in environment.get(VARIABLES, "").split(",")]
    if variable in listed or (
        variable.upper().endswith("_API_KEY") and not variable.upper().startswith(("PROMPTLAB_", "AWS_"))
    ):
        return
    raise ConfigError(
        f"The environment variable {variable[:200]!r} is not read as a key of a provider: its name does not "
        "end in _API_KEY, or it opens something else. If it is one, say so on this machine: "
        f"{VARIABLES}={variable[:200]}"
    )


def secret_variable(name: str, environment: Mapping[str, str]) -> str:
    """The environment variable that stands for a secret on one machine: of its very name, or `OPENAI_API_KEY`
    for `openai`, so that one experiment runs in both places. Where neither is set, it is the one to set."""
    long = re.sub(r"[^A-Z0-9]+", "_", name.upper()) + "_API_KEY"
    if environment.get(name):
        return name
    return name if name.upper().endswith("_API_KEY") and not environment.get(long) else long


def words_for(hosts: Iterable[str]) -> str:
    """Hosts as people read them: without the port that the scheme implies."""
    return ", ".join(host.removesuffix(":443") if host.startswith("https") else host for host in hosts)


def description_of(hosts: Iterable[str]) -> str:
    """Return what a secret store says beside a secret, for those who may not read the secret itself."""
    return f"{_SENT_TO}{' '.join(hosts)}"


def hosts_described(name: str, description: str | None) -> tuple[str, ...]:
    """Read hosts from `description_of`; without such a description as `Secret.from_text` does."""
    if description and description.startswith(_SENT_TO):
        return tuple(description.removeprefix(_SENT_TO).split())
    return hosts_named_by(name)
