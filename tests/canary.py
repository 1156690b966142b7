"""A key that must be nowhere, every form in which it may come back, and a look for it."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
import zlib
from typing import Any

from tests.servers import Reply, Request

KEY = "sk-proj-7Qm2/xW9vTb4+LrK8dPz1Ns5Hy"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FORMS = {
    "plain": KEY,
    "escaped": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "escaped twice": "".join(f"\\\\u{ord(c):04X}" for c in KEY),
    "escaped in part": KEY.replace("/", "\\/").replace("7", "\\u0037"),
    "as bytes": "".join(f"\\x{ord(c):02x}" for c in KEY),
    "in octal": "".join(f"\\{ord(c):03o}" for c in KEY),
    "as code points": "".join(f"\\u{{{ord(c):x}}}" for c in KEY),
    "as long code points": "".join(f"\\U{ord(c):08x}" for c in KEY),
    "percent-encoded": urllib.parse.quote(KEY, safe=""),
    "percent-encoded wholly": "".join(f"%{ord(c):02X}" for c in KEY),
    "percent-encoded twice": urllib.parse.quote("".join(f"%{ord(c):02X}" for c in KEY)),
    "percent-encoded as UTF-16": "".join(f"%u{ord(c):04x}" for c in KEY),
    "HTML entities": "".join(f"&#{ord(c)};" for c in KEY),
    "HTML entities in hexadecimal": "".join(f"&#x{ord(c):x};" for c in KEY),
    "in small letters": KEY.lower(),
    "in capitals": KEY.upper(),
    "base64": b64(KEY),
    "base64 after one byte": b64(f"x{KEY}"),
    "base64 after two bytes": b64(f"xy{KEY}"),
    "base64 of a header": b64(f"Authorization: Bearer {KEY}\r\n"),
    "base64 of a login": b64(f"user:{KEY}"),
    "base64 for URLs": base64.urlsafe_b64encode(f"{KEY}??>".encode()).decode(),
    "base64 in lines": "\n".join(b64(f"user:{KEY}")[i : i + 16] for i in range(0, 60, 16)),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal in capitals": KEY.encode().hex(" ").upper(),
    "by its first half": KEY[:17],
    "by its second half": KEY[17:],
    "cut off": KEY[:-3],
    "halves in two fields of JSON": json.dumps({"first": KEY[:17], "second": KEY[17:]}),
    "thirds in a list": json.dumps([KEY[:12], KEY[12:23], KEY[23:]]),
    "letters with spaces": " ".join(KEY),
    "letters in a list": json.dumps(list(KEY)),
    "letters with dots": ".".join(KEY),
    "in lines": "\n".join(KEY[i : i + 4] for i in range(0, len(KEY), 4)),
    "between tags": f"<b>{KEY[:9]}</b>{KEY[9:]}"[3:],
}


def shown(text: str) -> str:
    """Ten letters and digits of the key in a row that can be read from a text by any of the ways above, with
    what stands around them; nothing where there are none."""
    readings = [text, urllib.parse.unquote(urllib.parse.unquote(text.replace("\\\\", "\\")))]
    for form in (KEY[8:], *(b64("\0" * n + KEY)[2 * n + 2 :] for n in range(3)), KEY.encode().hex()):
        plain = "".join(filter(str.isalnum, form)).lower()
        for reading in readings:
            seen = "".join(filter(str.isalnum, reading)).lower()
            for at in range(len(plain) - 9):
                if (found := seen.find(plain[at : at + 10])) >= 0:
                    return f"{plain[at : at + 10]} in {seen[max(0, found - 60) : found + 60]}"
    return ""


# ---------------------------------------------------------------- an endpoint that sends the key back
NAMES = list(FORMS)
KINDS = (
    "answer",
    "tool call",
    "model",
    "finish reason",
    "error",
    "html",
    "header",
    "broken",
    "pieces",
    "odd",
)


ANSWER = """{"model": "MODEL", "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "choices":
[{"finish_reason": "FINISH", "message": {"role": "assistant", "content": "CONTENT"MORE}}]}"""
ERROR = """{"error": {"message": "no: TEXT", "code": "TEXT"}}"""


def body(content: str, more: str = "", model: str = "m", finish: str = "stop") -> bytes:
    """An answer, from texts as they stand in JSON."""
    parts = {"MODEL": model, "FINISH": finish, "CONTENT": content, "MORE": more}
    return re.sub("MODEL|FINISH|CONTENT|MORE", lambda match: parts[match[0]], ANSWER).encode()


def rows() -> list[dict[str, str]]:
    """A row for each form in each place."""
    return [{"ask": f"{kind}|{name}"} for name in NAMES for kind in KINDS]


def answer(request: Request) -> Reply:
    """Send the key back in the form, and at the place, that the prompt asks for."""
    kind, _, name = request.prompt.partition("|")
    # As it stands in JSON, so that escapes are escapes of JSON.
    form = FORMS[name]
    text = form if name.startswith("escaped") else json.dumps(form)[1:-1]
    calls = """, "tool_calls": [{"id": "1", "function": {"name": "NAME", "arguments": "ALL"}}]"""
    calls = calls.replace("NAME", text[:40]).replace("ALL", text)
    pieces_in = """, "tool_calls": [{"id": "PIECE", "function": {"name": "LAST", "arguments": "1"}}]"""
    third = len(KEY) // 3
    pieces = [KEY[:third], KEY[third : 2 * third], KEY[2 * third :]]
    pieces_in = pieces_in.replace("PIECE", pieces[1]).replace("LAST", pieces[2])
    replies = {
        "answer": Reply(body=body(f"it is {text}.")),
        "tool call": Reply(body=body("", calls)),
        "model": Reply(body=body("fine", model=text)),
        "finish reason": Reply(body=body("fine", finish=text)),
        "error": Reply(status=400, body=ERROR.replace("TEXT", text).encode()),
        "html": Reply(status=403, body=f"<html>{form} {'x' * 430} {form}</html>".encode()),
        "header": Reply(status=422, headers={"X-Key": KEY, "Content-Encoding": KEY}, text="no"),
        "broken": Reply(body=body(text)[:-9]),
        "pieces": Reply(body=body(pieces[0], pieces_in)),
        "odd": Reply(body=body(text).replace(b"[{", b"[null, {", 1)),
    }
    return replies[kind]


def looked_at(name: str, data: bytes) -> None:
    """Look for the key in some bytes, also in what is deflated in them, or JSON in a text of JSON."""
    text = data.decode("latin-1")
    assert KEY not in text, name
    assert not shown(text), f"{name}: {shown(text)}"


def inflated(value: Any) -> Any:
    """What a store keeps, with what is deflated in it as text."""
    if isinstance(value, dict):
        return {name: inflated(item) for name, item in value.items()}
    data = getattr(value, "value", value)
    if isinstance(data, bytes):
        for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
            try:
                return zlib.decompress(data, bits)
            except zlib.error:
                pass
    return data
