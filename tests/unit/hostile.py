"""Hostile code for the sandbox: each is the body of a function of a bundle, what it tries, and what its case
is to say. A body may use `data["guard"]`, the process of the guard, and `data["port"]`, of a server that
nobody may reach."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent, indent

REFUSED = "Operation not permitted"
DENIED = "Operation not permitted|Permission denied"
LATE = "no score within timeout_s"
NOT_ALLOWED = r"EPERM"
"""What `call` says of a call that the kernel refused."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """Something that code may try."""

    name: str
    body: str
    says: str
    """A regular expression for the JSON of its score."""
    landlock: bool = False
    """Whether only this wall holds it: elsewhere the sandbox has no such files, as in Lambda."""

    def source(self) -> str:
        """The text of a module whose `f` does it in the case that says so."""
        return f"{_HEAD}\ndef hostile(data):\n{indent(dedent(self.body).strip(), '    ')}\n\n{_FOOT}"

    @property
    def limit_s(self) -> float:
        """How long it may take: what never ends is waited for no longer than that takes to see."""
        return 2.0 if LATE in self.says else 30.0

    def held(self, score: str) -> bool:
        """Whether a score says what it should."""
        return re.search(self.says, score) is not None


_HEAD = '''
import asyncio, ctypes, errno, fcntl, gc, json, os, platform, re, resource, signal, socket, struct, subprocess
import sys, threading, time
from promptlab import Evaluator, Score

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"


def call(x86, aarch64, *arguments):
    """Make a call of the kernel; say the error's name, or "done"."""
    given = [one if isinstance(one, bytes) else ctypes.c_long(one) for one in arguments]
    made = libc.syscall(x86 if X86 else aarch64, *given)
    return errno.errorcode[ctypes.get_errno()] if made == -1 else "done"


def pipes():
    """The descriptors of the pipes to the guard."""
    found = []
    for number in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                found.append(number)
        except OSError:
            pass
    return found


def forge(kind, payload):
    """Write a frame to the guard, as an answer is written."""
    data = json.dumps(payload).encode() if not isinstance(payload, bytes) else payload
    for number in pipes():
        try:
            os.write(number, (len(data) + 1).to_bytes(8, "big") + kind + data)
        except OSError:
            pass
'''
_FOOT = """
def f(data):
    if data["do"]:
        return hostile(data)
    return 1
"""


def _calls() -> list[Hostile]:
    """Calls of the kernel that are refused, by their numbers."""
    numbers = {
        "ptrace of the guard": (101, 117, "16, data['guard'], 0, 0"),
        "process_vm_readv of the guard": (310, 270, "data['guard'], 0, 0, 0, 0, 0"),
        "process_vm_writev of the guard": (311, 271, "data['guard'], 0, 0, 0, 0, 0"),
        "pidfd_open of the guard": (434, 434, "data['guard'], 0"),
        "pidfd_getfd": (438, 438, "3, 3, 0"),
        "kcmp with the guard": (312, 272, "os.getpid(), data['guard'], 0, 1, 1"),
        "tkill": (200, 130, "data['guard'], 9"),
        "rt_sigqueueinfo": (129, 138, "data['guard'], 9, 0"),
        "setpriority of the guard": (141, 140, "0, data['guard'], 19"),
        "sched_setaffinity of the guard": (203, 122, "data['guard'], 8, 0"),
        "io_uring": (425, 425, "4, 0"),
        "bpf": (321, 280, "0, 0, 0"),
        "perf_event_open": (298, 241, "0, 0, -1, -1, 0"),
        "userfaultfd": (323, 282, "0"),
        "mount": (165, 40, "b'none', b'/tmp', b'tmpfs', 0, 0"),
        "umount": (166, 39, "b'/proc', 0"),
        "chroot": (161, 51, "b'/'"),
        "unshare of users": (272, 97, "0x10000000"),
        "unshare of processes": (272, 97, "0x20000000"),
        "setns": (308, 268, "0, 0"),
        "keyctl": (250, 219, "0, -3"),
        "add_key": (248, 217, "b'user', b'a', b'b', 1, -3"),
        "memfd_create": (319, 279, "b'x', 0"),
        "mknod": (259, 33, "-100, b'fifo', 0o10600, 0"),
        "personality": (135, 92, "0x0040000"),
        "another filter": (317, 277, "1, 0, 0"),
        "setuid": (105, 146, "0"),
        "capset": (126, 91, "0, 0"),
        "shared memory": (29, 194, "0, 4096, 0o1600"),
        "message queues": (68, 186, "0, 0o1600"),
        "semaphores": (64, 190, "0, 1, 0o1600"),
        "locked memory": (151, 230, "1"),
        "a new session": (112, 157, ""),
        "another process group": (109, 154, "0, 0"),
        "inotify": (294, 26, "0"),
        "files by handle": (304, 265, "-100, 0, 0"),
        "the kernel's log": (103, 116, "3, 0, 0"),
        "the clock": (227, 112, "0, 0"),
        "a module of the kernel": (175, 105, "0, 0, b''"),
        "reboot": (169, 142, "0xfee1dead, 672274793, 0, 0"),
        "clone of a process": (56, 220, "17, 0, 0, 0, 0"),
        "clone with shared memory": (56, 220, "0x4111, 0, 0, 0, 0"),
        "clone of a thread in a namespace": (56, 220, "0x103d0f00, 0, 0, 0, 0"),
    }
    found = [
        Hostile(f"call: {name}", f"return call({x86}, {arm}, {arguments})", f'"label":"{NOT_ALLOWED}"')
        for name, (x86, arm, arguments) in numbers.items()
    ]
    found.append(Hostile("call: clone3", "return call(435, 435, 0, 88)", '"label":"ENOSYS"'))
    return found


def _sockets() -> list[Hostile]:
    families = {
        "IPv4": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "IPv4 datagrams": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "IPv4 raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "IPv6": "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
        "Unix": "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "netlink": "socket.socket(16, socket.SOCK_RAW, 0)",
        "packets": "socket.socket(17, socket.SOCK_RAW, 0)",
        "the hypervisor": "socket.socket(40, socket.SOCK_STREAM)",
        "the kernel's ciphers": "socket.socket(38, socket.SOCK_SEQPACKET)",
        "Bluetooth": "socket.socket(31, socket.SOCK_RAW)",
        "a pair of IPv4": "socket.socketpair(socket.AF_INET)",
    }
    return [Hostile(f"socket: {name}", code, REFUSED) for name, code in families.items()]


HOSTILE: tuple[Hostile, ...] = (
    # ------------------------------------------------------------------ what the guard knows
    Hostile("environment", "return json.dumps(dict(os.environ)) + '.'", r'"label":"\{\}\."'),
    Hostile(
        "environment: C", "return str(ctypes.c_char_p(libc.getenv(b'AWS_SECRET_ACCESS_KEY')).value)", '"None"'
    ),
    Hostile(
        "environment: as it began",
        "return 'has ' + repr(open('/proc/self/environ').read().count('canary'))",
        '"has 0"',
    ),
    Hostile("environment: of the guard", "return open(f\"/proc/{data['guard']}/environ\").read()", DENIED),
    Hostile("environment: of the parent", "return open(f'/proc/{os.getppid()}/environ').read()", DENIED),
    Hostile("memory of the guard", "return open(f\"/proc/{data['guard']}/mem\", 'rb').read(1)", DENIED),
    Hostile("memory of the parent", "return open(f'/proc/{os.getppid()}/mem', 'rb').read(1)", DENIED),
    Hostile("maps of the guard", "return open(f\"/proc/{data['guard']}/maps\").read()", DENIED),
    Hostile(
        "descriptors of the guard",
        """
        folder = f"/proc/{data['guard']}/fd"
        return str([os.readlink(f"{folder}/{number}") for number in os.listdir(folder)])
        """,
        DENIED,
    ),
    Hostile("files through the guard", "return os.listdir(f\"/proc/{data['guard']}/root/\")", DENIED),
    Hostile("all processes", "return os.listdir('/proc')", DENIED, landlock=True),
    Hostile("credentials in a file", "return open(data['secret']).read()", DENIED, landlock=True),
    Hostile("the system's users", "return open('/etc/passwd').read()", DENIED, landlock=True),
    Hostile(
        "a key in memory",
        """
        wanted = "wJalr-" + "canary"
        texts = [one for one in gc.get_objects() if isinstance(one, (str, bytes, dict))]
        return "found" if wanted in repr(texts).replace("'wJalr-'", "") else "none"
        """,
        '"none"',
    ),
    Hostile(
        "descriptors that were left open",
        """
        found = []
        for n in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{n}"))
            except OSError:
                pass
        others = [one for one in found if not one.startswith(("pipe:", "/dev/null", "/proc"))]
        return f"others {others}"
        """,
        r'"others \[\]"',
    ),
    # ------------------------------------------------------------------ the network
    *_sockets(),
    Hostile(
        "the runtime API",
        """
        import urllib.request
        return urllib.request.urlopen(f"http://127.0.0.1:{data['port']}/2018-06-01/runtime/invocation/next").read()
        """,
        REFUSED,
    ),
    Hostile(
        "the runtime API, asynchronously",
        "return asyncio.run(asyncio.open_connection('127.0.0.1', data['port']))",
        REFUSED,
    ),
    Hostile(
        "metadata of the machine",
        "import http.client\nc = http.client.HTTPConnection('169.254.169.254')\nc.request('GET', '/')",
        REFUSED,
    ),
    Hostile("names", "return socket.getaddrinfo('example.com', 443)[0][4][0]", "gaierror"),
    Hostile(
        "a pair that sends elsewhere",
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\na.sendto(b'x', '/tmp/other')",
        REFUSED,
    ),
    Hostile(
        "descriptors by message",
        "a, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0])",
        REFUSED,
    ),
    Hostile("a connection of libc", "return 'made' if libc.socket(2, 1, 0) >= 0 else 'none'", '"none"'),
    # ------------------------------------------------------------------ processes
    *_calls(),
    Hostile("fork", "return os.fork()", REFUSED),
    Hostile("fork of a terminal", "import pty\nreturn pty.fork()", DENIED + "|out of pty"),
    Hostile("vfork", "return 'done' if libc.fork() >= 0 else errno.errorcode[ctypes.get_errno()]", '"EPERM"'),
    Hostile("a shell", "return 'made' if os.system('true') == 0 else 'none'", '"none"'),
    Hostile("subprocess", "return subprocess.run(['/bin/true'])", DENIED),
    Hostile("exec", "os.execv('/bin/true', ['true'])", DENIED),
    Hostile("spawn", "return os.posix_spawn('/bin/true', ['true'], {})", DENIED),
    Hostile(
        "multiprocessing",
        "import multiprocessing\np = multiprocessing.Process(target=print)\np.start()",
        DENIED,
    ),
    Hostile(
        "a pool of processes",
        """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(1) as pool:
            return pool.submit(abs, 1).result()
        """,
        DENIED + "|BrokenProcessPool",
    ),
    Hostile("kill the guard", "os.kill(data['guard'], 9)", REFUSED),
    Hostile("kill the parent", "os.kill(os.getppid(), 9)", REFUSED),
    Hostile("kill everybody", "os.kill(-1, 9)", REFUSED),
    Hostile("kill the group", "os.killpg(0, 9)", REFUSED),
    Hostile(
        "signals by descriptor", "r, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, data['guard'])", REFUSED
    ),
    Hostile(
        "limits of the guard",
        "resource.prlimit(data['guard'], resource.RLIMIT_NOFILE, (3, 3))",
        REFUSED,
    ),
    Hostile("own limits", "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "not allowed|ValueError"),
    Hostile("a terminal's input", "fcntl.ioctl(0, 0x5412, b'x')", REFUSED),
    Hostile("dumpable", "return call(157, 167, 4, 1, 0, 0, 0)", '"EPERM"'),
    Hostile("who may trace", "return call(157, 167, 0x59616d61, -1, 0, 0, 0)", '"EPERM"'),
    # ------------------------------------------------------------------ time
    Hostile("endless loop", "while True: pass", LATE),
    Hostile("endless sleep", "time.sleep(1000)", LATE),
    Hostile("C code that holds the interpreter", "return sum(range(10**12))", LATE),
    Hostile("a pattern without end", "return re.match('(a+)+$', 'a' * 40 + 'b')", LATE),
    Hostile("a lock that nobody opens", "l = threading.Lock()\nl.acquire()\nl.acquire()", LATE),
    Hostile(
        "loop that ignores everything",
        """
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        while True:
            try:
                while True: pass
            except BaseException:
                pass
        """,
        LATE,
    ),
    Hostile(
        "an error that never says its words",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        LATE,
    ),
    Hostile(
        "a value that takes for ever",
        "class S(str):\n    def __str__(self):\n        while True: pass\nreturn Score(label=S('x'))",
        LATE,
    ),
    Hostile("prints without end", "while True: print('spam' * 100)", LATE),
    # ------------------------------------------------------------------ memory, disk, descriptors, threads
    Hostile(
        "memory at once",
        "return len(bytearray(64 << 30))",
        "MemoryError",
    ),
    Hostile(
        "memory by and by",
        "kept = []\nwhile True: kept.append(bytearray(16 << 20))",
        "MemoryError",
    ),
    Hostile(
        "shared memory by and by",
        "import mmap\nkept = []\nwhile True: kept.append(mmap.mmap(-1, 64 << 20))",
        "Cannot allocate memory|MemoryError",
    ),
    Hostile("a number that has no end", "return len(str(10 ** 10 ** 8))", f"{LATE}|ValueError|MemoryError"),
    Hostile("recursion", "return hostile(data)", "RecursionError"),
    Hostile(
        "recursion in C",
        "sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nreturn repr(x)",
        "SIGSEGV|RecursionError|MemoryError|" + LATE,
    ),
    Hostile(
        "recursion without a limit",
        "sys.setrecursionlimit(10**9)\nreturn hostile(data)",
        "SIGSEGV|RecursionError|MemoryError|SIGABRT|" + LATE,
    ),
    Hostile(
        "a large file",
        "with open('x', 'wb') as f:\n    while True: f.write(bytes(8 << 20))",
        "File too large",
    ),
    Hostile(
        "large files",
        """
        for n in range(100):
            with open(str(n), "wb") as f:
                for _ in range(7): f.write(bytes(8 << 20))
        """,
        "wrote more than 100 MB|No space left",
    ),
    Hostile(
        "many files",
        "for n in range(10**6):\n    open(str(n), 'w').close()",
        "wrote more than 100 MB or 2,000 files",
    ),
    Hostile(
        "folders without end",
        "while True:\n    os.mkdir('d')\n    os.chdir('d')",
        f"wrote more than|{LATE}|File name too long",
    ),
    Hostile(
        "descriptors",
        "kept = []\nwhile True: kept.append(open('/dev/null'))",
        "Too many open files",
    ),
    Hostile("pipes", "while True: os.pipe()", "Too many open files"),
    Hostile(
        "threads",
        "while True: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "can't start new thread|MemoryError|Cannot allocate",
    ),
    Hostile("another folder", "open('/var/tmp/mark', 'w').write('x')", DENIED + "|Read-only", landlock=True),
    Hostile(
        "the code of the guard",
        "import promptlab\nopen(promptlab.__file__, 'a').write('')",
        DENIED + "|Read-only",
        landlock=True,
    ),
    # ------------------------------------------------------------------ the end of the process
    Hostile("sys.exit", "sys.exit(3)", "SystemExit"),
    Hostile("os._exit", "os._exit(3)", r"ended \(exit code 3\)"),
    Hostile("os._exit as if all was well", "os._exit(0)", r"ended \(exit code 0\)"),
    Hostile("abort", "os.abort()", "SIGABRT"),
    Hostile("a fault", "ctypes.string_at(0)", "SIGSEGV"),
    Hostile("suicide", "os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    Hostile("interrupt", "raise KeyboardInterrupt", "KeyboardInterrupt"),
    Hostile("generator's end", "raise GeneratorExit", "GeneratorExit"),
    Hostile(
        "atexit",
        "import atexit\natexit.register(lambda: forge(b'a', [0, {'value': 1}]))\nos._exit(0)",
        "exit code 0",
    ),
    Hostile(
        "an alarm inside the protocol",
        """
        def fire(*_):
            raise RuntimeError("alarm")
        signal.signal(signal.SIGALRM, fire)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while True: time.sleep(1)
        """,
        "alarm|ended|" + LATE,
    ),
    Hostile(
        "the end of its own pipes",
        "for number in range(64):\n    try: os.close(number)\n    except OSError: pass",
        "ended",
    ),
    Hostile(
        "another file in place of the pipes",
        "n = os.open('/dev/null', os.O_RDWR)\nfor p in pipes(): os.dup2(n, p)\nos.close(n)",
        "ended|" + LATE,
    ),
    # ------------------------------------------------------------------ forged answers
    Hostile("answers twice", "forge(b'a', [0, {'value': 1}])\nreturn 1", "answered twice"),
    Hostile(
        "answers for its whole batch",
        "for n in range(3): forge(b'a', [n, {'value': 1}])\nreturn 1",
        "answered twice|not its turn",
    ),
    Hostile("answers for another case", "forge(b'a', [1, {'value': 1}])", "not its turn"),
    Hostile("answers for no case", "forge(b'a', [-1, {'value': 1}])", "not its turn"),
    Hostile("answers for true", "forge(b'a', [True, {'value': 1}])\nreturn 1", "not its turn|answered twice"),
    Hostile("an answer that is no JSON", "forge(b'a', b'{]')", "what is no JSON"),
    Hostile("an answer of NaN", "forge(b'a', b'[0,{\"value\":NaN}]')", "what is no JSON"),
    Hostile(
        "an answer without an end", "forge(b'a', b'[0,{\"value\":1e999}]')\nos._exit(0)", "finite|no JSON"
    ),
    Hostile(
        "an answer with a large label",
        "forge(b'a', [0, {'label': 'x' * 100_000}])\nos._exit(0)",
        "label has 100,000 characters",
    ),
    Hostile(
        "an answer with a large reason",
        "forge(b'a', [0, {'reason': 'x' * 10**6}])\nos._exit(0)",
        "reason has 1,000,000 characters",
    ),
    Hostile(
        "an answer with large metadata",
        "forge(b'a', [0, {'metadata': {'x': 'x' * 10**6}}])\nos._exit(0)",
        "metadata has 1,000,",
    ),
    Hostile("an answer of another kind", "forge(b'a', [0, 'fine'])\nos._exit(0)", "not an object"),
    Hostile(
        "an answer with other fields",
        "forge(b'a', [0, {'value': 1, 'admin': True}])\nos._exit(0)",
        "unknown field 'admin'",
    ),
    Hostile("an answer that is a text", "forge(b'a', [0, {'value': '1'}])\nos._exit(0)", "value is a str"),
    Hostile(
        "an answer that is nested",
        "forge(b'a', b'[0,' + b'[' * 100_000 + b']' * 100_000 + b']')",
        "what is no JSON",
    ),
    Hostile("the end of the batch", "forge(b'e', [0, 0])", "said that it was done, and was not"),
    Hostile("a message of another kind", "forge(b'?', [0])", "said what was not asked"),
    Hostile("the beginning once more", "forge(b'b', b'')", "said what was not asked"),
    Hostile("loaded once more", "forge(b'l', '')", "said what was not asked"),
    Hostile(
        "noise",
        "for n in pipes():\n    try: os.write(n, b'\\xff' * 64)\n    except OSError: pass",
        r"a message of 18,446,744",
    ),
    Hostile(
        "an empty message",
        "for n in pipes():\n    try: os.write(n, bytes(8))\n    except OSError: pass",
        "a message of 0 bytes",
    ),
    Hostile(
        "half a message",
        """
        for n in pipes():
            try: os.write(n, (100).to_bytes(8, "big") + b"a")
            except OSError: pass
        os._exit(0)
        """,
        "ended",
    ),
    Hostile(
        "prints that are none",
        "forge(b'p', 7)\nforge(b'p', [])\nforge(b'p', {'a': 1})\nreturn 'fine'",
        '"fine"',
    ),
    Hostile("prints that are large", "print('x' * (50 << 20))\nreturn 'fine'", '"fine"'),
    Hostile(
        "a thread that answers for it",
        "threading.Thread(target=forge, args=(b'a', [0, {'value': 1}])).start()\ntime.sleep(0.2)\nreturn 1",
        "answered twice",
    ),
    Hostile(
        "a pickle for the guard",
        """
        import pickle
        class P:
            def __reduce__(self): return os.abort, ()
        forge(b"a", pickle.dumps(P()))
        """,
        "what is no JSON",
    ),
    # ------------------------------------------------------------------ its own process turned round
    Hostile(
        "json that lies",
        "import orjson\norjson.dumps = lambda *a, **k: b'[0,{\"value\":NaN}]'\nreturn 1",
        "no JSON|ended",
    ),
    Hostile(
        "a protocol that lies",
        "from promptlab.engine import process_child\nprocess_child.Sink.send = lambda *a: None\nreturn 1",
        LATE,
    ),
    Hostile(
        "scores that lie",
        "from promptlab.engine import process_child\nprocess_child.to_score = lambda v: 'mine'\nreturn 1",
        "not an object",
    ),
    Hostile("a write that lies", "os.write = lambda *a: 0\nreturn 1", LATE + "|ended"),
    Hostile("no modules", "sys.modules.clear()\nreturn 0.5", "0.5|Error|ended"),
    Hostile(
        "no built-ins",
        "import builtins\nfor n in list(vars(builtins)): delattr(builtins, n)\nreturn 0.5",
        "0.5|Error|ended",
    ),
    Hostile("no standard output", "sys.stdout = sys.stderr = None\nreturn 0.5", "0.5"),
    Hostile(
        "standard output that raises",
        "class O:\n    def flush(self): raise SystemExit\nsys.stdout = O()\nreturn 0.5",
        "0.5|ended|SystemExit",
    ),
    Hostile(
        "a trace of everything",
        "sys.settrace(lambda *a: (_ for _ in ()).throw(SystemExit))\nreturn 0.5",
        "0.5|SystemExit|ended",
    ),
    Hostile(
        "a collector that raises", "gc.callbacks.append(lambda *a: os._exit(9))\ngc.collect()", "exit code 9"
    ),
    Hostile("NaN", "return float('nan')", "finite"),
    Hostile("infinity", "return Score(value=float('-inf'))", "finite"),
    Hostile("a large label", "return 'x' * 10**7", "cut: 10,000,000 characters"),
    Hostile("a large number", "return 10**400", "too large|Overflow"),
    Hostile(
        "a class that is none",
        "class A:\n    @property\n    def __class__(self): raise SystemExit\nreturn A()",
        "SystemExit|TypeError",
    ),
    Hostile(
        "metadata in a circle",
        "m = {}\nm['m'] = m\nreturn Score(value=1, metadata=m)",
        "Recursion|circular|Error",
    ),
    Hostile("half a surrogate", "return Score(label='\\ud800')", "label"),
)
"""All of them."""
