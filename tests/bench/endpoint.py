"""The tests' own server as a mock endpoint, where the C one is not there: `python -m tests.bench.endpoint
PORT LATENCY_S`."""

from __future__ import annotations

import signal
import sys

from tests.servers import ModelServer, Reply


def main() -> None:
    """Serve until SIGTERM."""
    port, latency_s = int(sys.argv[1]), float(sys.argv[2])
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with ModelServer(lambda request: Reply(text="ok", delay_s=latency_s), port=port):
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
