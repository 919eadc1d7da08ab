"""Making a board's host key known, once a person has compared it."""

from collections.abc import Callable

import paramiko

from core.devices.connection import CONNECT_S, Connection, fingerprint, unreachable
from core.devices.hosts import Host
from core.errors import LoginError, UnreachableError


def trust(host: Host, confirm: Callable[[str], bool]) -> str:
    """Ask about the key that the board shows and append it to its file of known hosts; the
    fingerprint. Raises LoginError where it is not confirmed, UnreachableError."""
    key = shown_key(host)
    mark = fingerprint(key)
    if not confirm(mark):
        raise LoginError(f"{host.name}: its host key was not confirmed, and nothing was written")
    name = host.host if host.port == 22 else f"[{host.host}]:{host.port}"
    host.known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with host.known_hosts.open("a", encoding="ascii") as file:
        file.write(f"{name} {key.get_name()} {key.get_base64()}\n")
    return mark


def shown_key(host: Host) -> paramiko.PKey:
    """The key that the board shows; nobody logs in. Raises UnreachableError."""
    hop = Connection(host.jump) if host.jump else None
    try:
        address = (host.host, host.port)
        transport = paramiko.Transport(hop.channel(address) if hop else address)
        try:
            transport.start_client(timeout=CONNECT_S)
            return transport.get_remote_server_key()
        finally:
            transport.close()
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise UnreachableError(unreachable(host, error)) from None
    finally:
        if hop is not None:
            hop.close()
