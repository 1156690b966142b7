"""A hundred tries to take a key, or to reach what is inside: each is made against stand-ins on this machine
that note whatever arrives."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from promptlab.domain.secrets import Secret
from promptlab.errors import ConfigError, EndpointUnreachableError, ModelError
from promptlab.experiments.prepare import unlock
from promptlab.models.registry import get_model
from promptlab.outbound import Outbound
from tests.servers import ModelServer, Reply

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "::1", "localhost", "0.0.0.0", "::ffff:7f00:1"])
KEY = "sk-canary-7Qm2xW9vTb4LrK8dPz"
PROMPT = [{"role": "user", "content": "hi"}]
CLOUD = Outbound(hosted=True)
OPEN_CLOUD = Outbound(hosted=True, allowed=(ipaddress.ip_network("127.0.0.0/8"),))
"""A deployed lab that may reach this machine: so only the key's own rules are in the way."""
LAPTOP = Outbound()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "openai_base_url", "openai_api_base"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def thief() -> Iterator[ModelServer]:
    """Whoever waits for a key, or is not to be reached."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The world's names: those in the dict are at its addresses, one after another; all others as usual."""
    known: dict[str, list[str]] = {}
    usual = socket.getaddrinfo

    def resolved(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        addresses = known.get(name) or known.get("*", [])
        if not addresses or name in ("127.0.0.1", "::1"):
            return usual(host, port, *args, **kwargs)
        at = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        family = socket.AF_INET6 if ":" in at else socket.AF_INET
        where = (at, int(port), 0, 0) if ":" in at else (at, int(port))
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return known


class Held:
    """A store with one secret, whatever it is called."""

    def __init__(self, *hosts: str) -> None:
        self._secret = Secret(KEY, hosts)

    async def get(self, name: str) -> Secret | None:
        return self._secret

    async def close(self) -> None:
        """Nothing is held."""


async def attempt(config: dict[str, Any], outbound: Outbound, *hosts: str) -> list[str]:
    """Check a model and call it, as a run does, whatever is refused on the way; what was refused."""
    refused: list[str] = []
    try:
        model = get_model({"timeout_s": 5, **config})
        await unlock((model,), Held(*hosts), outbound)
    except ConfigError as error:
        return [str(error)]
    for call in (model.check, lambda: model.achat(PROMPT)):  # type: ignore[attr-defined]
        try:
            await call()
        except (ConfigError, EndpointUnreachableError, ModelError) as error:
            refused.append(str(error))
    await model.aclose()
    return refused


def carried(server: ModelServer) -> str:
    """All that a server was sent."""
    return "".join(f"{r.path}?{r.query}{dict(r.headers)}{r.json}" for r in server.requests)


INSIDE = [
    "http://127.0.0.1:{port}/v1",
    "http://127.0.0.2:{port}/v1",
    "http://127.1:{port}/v1",
    "http://127.0.1:{port}/v1",
    "http://2130706433:{port}/v1",
    "http://0x7f000001:{port}/v1",
    "http://0x7f.0.0.1:{port}/v1",
    "http://0x7f.1:{port}/v1",
    "http://0177.0.0.1:{port}/v1",
    "http://0177.1:{port}/v1",
    "http://017700000001:{port}/v1",
    "http://127.0.0.1.:{port}/v1",
    "http://0:{port}/v1",
    "http://0.0.0.0:{port}/v1",
    "http://[::1]:{port}/v1",
    "http://[::]:{port}/v1",
    "http://[0:0:0:0:0:0:0:1]:{port}/v1",
    "http://[::ffff:127.0.0.1]:{port}/v1",
    "http://[::ffff:7f00:1]:{port}/v1",
    "http://[::127.0.0.1]:{port}/v1",
    "http://[64:ff9b::7f00:1]:{port}/v1",
    "http://[64:ff9b:1::7f00:1]:{port}/v1",
    "http://[2002:7f00:1::]:{port}/v1",
    "http://localhost:{port}/v1",
    "http://LOCALHOST:{port}/v1",
    "http://localhost.:{port}/v1",
    "http://inside.example:{port}/v1",
    "http://INSIDE.example:{port}/v1",
    "http://mapped.example:{port}/v1",
    "http://inside.example:{port}/v1?x=#/../",
    "https://127.0.0.1:{port}/v1",
    "https://inside.example:{port}/v1",
]
"""Ways to write an address of this machine."""


@pytest.mark.parametrize("endpoint", INSIDE)
async def test_a_deployed_lab_does_not_reach_itself(
    thief: ModelServer, names: dict[str, list[str]], endpoint: str
) -> None:
    """However its address is written, no connection is made: neither by the check before a run nor by a
    call."""
    names["inside.example"], names["mapped.example"] = ["127.0.0.1"], ["::ffff:127.0.0.1"]
    refused = await attempt({"name": "openai/x", "endpoint": endpoint.format(port=thief.port)}, CLOUD)
    assert refused and thief.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.0.1",
        "169.254.170.23",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.250",
        "ff02::1",
    ],
)
async def test_metadata_and_multicast_are_reached_from_nowhere(
    names: dict[str, list[str]], address: str
) -> None:
    """Neither from a laptop, which may be a machine in a cloud, nor from a deployed lab."""
    names["x.example"] = [address]
    literal = f"[{address}]" if ":" in address else address
    for outbound in (LAPTOP, CLOUD, OPEN_CLOUD):
        for host in (literal, "x.example"):
            refused = await attempt({"name": "openai/x", "endpoint": f"http://{host}/v1"}, outbound)
            assert len(refused) == 2 and all("calls may not go to" in text for text in refused)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.192",
        ),
        *("198.18.0.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "0.1.2.3", "fc00::1", "fd12::1"),
        *(
            "2001:db8::1",
            "::",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:a00:1::",
            "fec0::1",
        ),
    ],
)
def test_private_and_reserved_networks_are_reached_from_a_deployed_lab_only_where_they_are_listed(
    address: str,
) -> None:
    """What is listed is reachable, and nothing beside it."""
    assert CLOUD.refusal(address, 443)
    assert LAPTOP.refusal(address, 443) is None or ipaddress.ip_address(address).is_multicast
    listed = Outbound.from_environment(
        {"PROMPTLAB_ALLOWED_ADDRESSES": "10.0.0.0/24, 192.168.1.1"}, hosted=True
    )
    # 64:ff9b::a00:1 is 10.0.0.1, behind the translation of the listed network itself.
    expected = address in ("10.0.0.1", "192.168.1.1", "64:ff9b::a00:1")
    assert (listed.refusal(address, 443) is None) == expected


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_reached(address: str) -> None:
    """Also through the translation of a network that speaks IPv6 only."""
    assert CLOUD.refusal(address, 443) is None and LAPTOP.refusal(address, 443) is None


def test_the_runtime_api_of_lambda_is_reached_by_nothing() -> None:
    """Not even where the owner lists all of loopback."""
    environment = {
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "PROMPTLAB_ALLOWED_ADDRESSES": "127.0.0.0/8,::/0",
    }
    for hosted in (True, False):
        rules = Outbound.from_environment(environment, hosted=hosted)
        assert rules.refusal("127.0.0.1", 9001) and rules.refusal("::ffff:127.0.0.1", 9001)
        assert rules.refusal("127.0.0.1", 9002) is None


def test_a_list_that_is_none_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match=r"PROMPTLAB_ALLOWED_ADDRESSES.*10\.0\.3\.0/24"):
        Outbound.from_environment({"PROMPTLAB_ALLOWED_ADDRESSES": "gateway.internal"})


async def test_a_name_that_moves_inside_after_the_check_is_not_followed(
    thief: ModelServer, names: dict[str, list[str]]
) -> None:
    """DNS rebinding: public when it is looked at, this machine when it is called."""
    model: Any = get_model("openai/x", endpoint=f"http://moving.example:{thief.port}/v1")
    model.guard(CLOUD)
    names["moving.example"] = ["127.0.0.1"]
    with pytest.raises(ModelError, match=r"moving\.example \(127\.0\.0\.1\).*AllowedAddresses"):
        await model.achat(PROMPT)
    assert thief.connections == 0
    await model.aclose()


@pytest.mark.parametrize("name", ["localhost", "gateway.localhost"])
async def test_a_name_under_localhost_that_is_elsewhere_is_not_called(
    thief: ModelServer, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Keys go there without https: a resolver that asks the network for the name must not send them out."""
    names[name] = ["198.51.100.7"]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = {
        "name": "openai/x",
        "endpoint": f"http://{name}:{thief.port}/v1",
        "api_key_env": "OPENAI_API_KEY",
    }
    refused = await attempt(config, LAPTOP)
    assert len(refused) == 2 and all("names under localhost are this machine" in text for text in refused)
    names[name] = ["127.0.0.1"]
    assert await attempt(config, LAPTOP) == [] and KEY in carried(thief)


async def test_a_name_that_is_allowed_is_called_by_its_name_at_the_address_that_was_judged(
    thief: ModelServer, names: dict[str, list[str]]
) -> None:
    """The Host header keeps the name, and the name is asked for once a connection."""
    names["gateway.example"] = ["127.0.0.1", "169.254.169.254"]
    model: Any = get_model("openai/x", endpoint=f"http://gateway.example:{thief.port}/v1")
    model.guard(OPEN_CLOUD)
    assert (await model.achat(PROMPT)).response == "ok"
    assert thief.requests[0].headers["host"] == f"gateway.example:{thief.port}"
    await model.aclose()


async def test_models_on_this_machine_are_reached_from_a_laptop(thief: ModelServer) -> None:
    """Ollama and vLLM are there, also by the address that vLLM prints."""
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        assert await attempt({"name": "openai/x", "endpoint": f"http://{host}:{thief.port}/v1"}, LAPTOP) == []


ELSEWHERE = [
    "http://127.0.0.1:{port}/v1",
    "http://localhost:{port}/v1",
    "http://api.openai.com:{port}/v1",
    "http://API.OPENAI.COM:{port}/v1",
    "http://api.openai.com.:{port}/v1",
    "http://api.openai.com.thief.example:{port}/v1",
    "http://thief.example:{port}/api.openai.com/v1",
    "http://thief.example:{port}/v1?host=api.openai.com",
    "http://thief.example:{port}/v1#@api.openai.com",
    "http://thief.example:{port}#api.openai.com/v1",
    "http://thief.example:{port}?api.openai.com",
    "http://api.openai.com@thief.example:{port}/v1",
    "http://api.openai.com:443@thief.example:{port}/v1",
    "http://api.openai.com%40thief.example:{port}/v1",
    "http://api.openai.com%00.thief.example:{port}/v1",
    "http://thief.example:{port}\\@api.openai.com/v1",
    "http:\\\\thief.example:{port}/v1",
    "http://api.openai.com\n.thief.example:{port}/v1",
    "http://thief.example:{port}/v1\r\nX-Evil: 1",
    "http://thief.example:{port}/\t/v1",
    "http://xapi.openai.com:{port}/v1",
    "http://api.openai.com-thief.example:{port}/v1",
    "http://api-openai.com:{port}/v1",
    "http://api.openai.com。thief.example:{port}/v1",
    "http://ａｐｉ.openai.com:{port}/v1",
    "http://аpi.openai.com:{port}/v1",
    "http://2130706433:{port}/v1",
    "http://[::ffff:127.0.0.1]:{port}/v1",
    "https://thief.example:{port}/v1",
    "https://127.0.0.1:{port}/v1",
    "https://api.openai.com:{port}/v1",
    "https://api.openai.com.thief.example:{port}/v1",
    "HTTP://thief.example:{port}/v1",
    "ftp://thief.example:{port}/v1",
    "file:///etc/passwd",
    "//thief.example:{port}/v1",
    "unix:///var/run/docker.sock",
    "gopher://thief.example:{port}/_POST",
]
"""Where an experiment might have the key sent that is for https://api.openai.com."""


@pytest.mark.parametrize("endpoint", ELSEWHERE)
@pytest.mark.parametrize("name", ["openai/x", "anthropic/x", "azure/x", "ollama/x"])
async def test_a_secret_is_sent_to_its_hosts_only(
    thief: ModelServer, names: dict[str, list[str]], name: str, endpoint: str
) -> None:
    """Every name in the world leads to the thief, and no address is in the way: the key stays all the
    same."""
    names["*"] = ["127.0.0.1"]
    config = {"name": name, "endpoint": endpoint.format(port=thief.port), "api_key_secret": "openai"}
    refused = await attempt(config, OPEN_CLOUD, "https://api.openai.com:443")
    assert refused and KEY not in carried(thief) and KEY not in str(refused)


@pytest.mark.parametrize("endpoint", ELSEWHERE)
async def test_the_usual_variable_of_a_laptop_is_not_sent_elsewhere(
    thief: ModelServer, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """An experiment file from somebody else names an endpoint, and the key of the shell is not for it."""
    names["*"] = ["127.0.0.1"]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refused = await attempt({"name": "openai/x", "endpoint": endpoint.format(port=thief.port)}, LAPTOP)
    assert KEY not in carried(thief) and KEY not in str(refused)


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "PROMPTLAB_API_KEY",
        "HOME",
        "GITHUB_TOKEN",
        "aws_api_key",
    ],
)
@pytest.mark.parametrize("field", ["api_key_env", "api_key_secret"])
async def test_no_other_variable_of_a_laptop_is_sent_anywhere(
    thief: ModelServer, monkeypatch: pytest.MonkeyPatch, variable: str, field: str
) -> None:
    """Whatever an experiment calls a key."""
    monkeypatch.setenv(variable, KEY)
    model: Any = get_model({"name": "openai/x", "endpoint": thief.openai_url, field: variable})
    for call in (model.check(), model.achat(PROMPT)):
        with pytest.raises(ConfigError, match="PROMPTLAB_KEY_VARIABLES"):
            await call
    assert thief.connections == 0


@pytest.mark.parametrize(
    ("environment", "config", "sent"),
    [
        ({"OPENAI_BASE_URL": "{url}/v1"}, {}, True),
        ({"OPENAI_BASE_URL": "{url}/v1"}, {"endpoint": "{url}/other"}, True),
        ({}, {"endpoint": "{url}/v1"}, False),
        ({}, {"endpoint": "{url}/v1", "api_key_env": "OPENAI_API_KEY"}, True),
        ({"ANTHROPIC_BASE_URL": "{url}"}, {"endpoint": "{url}/v1"}, False),
    ],
)
async def test_another_endpoint_gets_the_key_where_the_user_of_the_machine_says_so(
    thief: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    config: dict[str, str],
    sent: bool,
) -> None:
    """By naming the variable, or by an address that stands beside the key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value.format(url=thief.url))
    given = {name: value.format(url=thief.url) for name, value in config.items()}
    assert await attempt({"name": "openai/x", **given}, LAPTOP) == []
    assert (KEY in carried(thief)) is sent


async def test_a_refusal_says_which_key_was_kept_back(
    thief: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that wanted a key answers 401, and nothing else would tell why."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    thief.answer = lambda request: Reply(status=401, text="no key")
    refused = await attempt({"name": "openai/x", "endpoint": thief.openai_url}, LAPTOP)
    assert "api_key_env: OPENAI_API_KEY" in refused[0] and "https://api.openai.com" in refused[0]


@pytest.mark.parametrize("host", ["gateway.example", "192.168.1.5", "10.0.0.1"])
async def test_no_key_goes_over_plain_http_but_to_this_machine(
    names: dict[str, list[str]], host: str
) -> None:
    """Also one that was given with the endpoint; a stand-in for a key is none."""
    for outbound in (LAPTOP, OPEN_CLOUD):
        model: Any = get_model("openai/x", endpoint=f"http://{host}/v1", api_key=KEY)
        model.guard(outbound)
        with pytest.raises(ConfigError, match="use https"):
            await model.achat(PROMPT)
    assert (
        get_model("openai/x", endpoint=f"http://{host}/v1", api_key="EMPTY")._key_for(f"http://{host}")
        == "EMPTY"
    )  # type: ignore[attr-defined]


async def test_a_key_for_this_machine_does_not_go_through_a_proxy(
    thief: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over plain http the proxy would read it."""
    monkeypatch.setenv("http_proxy", thief.url)
    model: Any = get_model("openai/x", endpoint="http://127.0.0.1:9/v1", api_key=KEY)
    with pytest.raises(ConfigError, match="without a proxy"):
        await model.achat(PROMPT)
    with pytest.raises(ConfigError, match="no_proxy"):
        model.guard(CLOUD)
    assert thief.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(thief: ModelServer, status: int) -> None:
    """With a key or without."""
    with ModelServer(lambda r: Reply(status=status, headers={"Location": thief.openai_url})) as server:
        config = {"name": "openai/x", "endpoint": server.openai_url, "api_key_secret": "mine"}
        refused = await attempt(config, OPEN_CLOUD, server.url)
        assert KEY in carried(server)
    assert len(refused) == 1 and thief.connections == 0


@pytest.mark.parametrize(
    "config",
    [
        {"endpoint": "https://thief.example"},
        {"endpoint": "https://bedrock-runtime.us-east-1.amazonaws.com"},
        {"profile": "other"},
        {"profile_name": "other"},
    ],
)
def test_bedrock_in_the_cloud_is_that_of_the_account(config: dict[str, str]) -> None:
    """Requests that are signed with the worker's rights go to AWS."""
    model: Any = get_model("bedrock/x", region="us-east-1", **config)
    with pytest.raises(ConfigError, match="endpoint and profile"):
        model.guard(CLOUD)


@pytest.mark.parametrize(
    "region", ["thief.example/", "x@thief.example", "a#", "a/../b", "us-east-1.thief.example"]
)
async def test_a_region_is_no_way_to_another_host(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    """It becomes a part of the host's name."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    with pytest.raises((ConfigError, ModelError)) as caught:
        await get_model("bedrock/x", region=region).achat(PROMPT)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    ["https://thief.example", "http://127.0.0.1:9", "https://bedrock-runtime.x.amazonaws.com.thief.example"],
)
def test_bedrocks_token_goes_to_aws_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """It stands in the environment, and an experiment could name any endpoint."""
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    get_model("bedrock/x", endpoint=endpoint)  # a signature is of use for its own host only
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_BEDROCK_RUNTIME"):
        get_model("bedrock/x", endpoint=endpoint)
    get_model("bedrock/x", endpoint="https://bedrock-runtime.eu-west-1.amazonaws.com")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", endpoint)
    get_model("bedrock/x", endpoint=endpoint)


@pytest.mark.parametrize("name", ["openai/x", "azure/x", "anthropic/x", "ollama/x"])
@pytest.mark.parametrize(
    "end", ["?", "?a=b", "#", "#x", "/?q=/", "/%23", "/%3f", "/;x", "?#", "/.", "/a?b#c"]
)
async def test_an_endpoint_does_not_cut_off_the_path_of_a_call(
    thief: ModelServer, name: str, end: str
) -> None:
    """What is asked is the provider's call, whatever stands at the end of an address."""
    await attempt({"name": name, "endpoint": f"{thief.url}/v1{end}"}, LAPTOP)
    (request,) = thief.requests
    assert request.kind in ("openai", "anthropic", "ollama")


def test_the_own_hosts_are_those_of_the_providers() -> None:
    """The table that keys are bound by says what the models call."""
    from promptlab.domain.secrets import OWN_HOSTS, origin_of

    for provider in ("anthropic", "deepseek", "groq", "mistral", "openai", "openrouter"):
        model: Any = get_model(f"{provider}/x")
        assert origin_of(model.endpoint) == model.own_hosts[0]
        assert f"{OWN_HOSTS[provider][0]}:443" == model.own_hosts[0]


def test_there_are_a_hundred_tries() -> None:
    assert len(INSIDE) + 5 * len(ELSEWHERE) >= 100
