"""Say whether a port of this machine is free, before `make demo` needs it:
`python infra/free_port.py 8000`."""

import socket
import sys


def main(text: str) -> None:
    """Exit with a message where nothing can listen on the port.

    Raises:
        SystemExit: the port is none, or is taken.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SystemExit(
            f"PORT={text} is not a port: give a number from 1 to 65535, as in make demo PORT=8001"
        )
    port = int(text)
    with socket.socket() as probe:
        # As servers do: a port whose last connections are only just closed is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            other = port + 1 if port < 65535 else 8000
            raise SystemExit(
                f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}): "
                f"choose another one, as in make demo PORT={other}"
            ) from None


if __name__ == "__main__":
    main(sys.argv[1])
