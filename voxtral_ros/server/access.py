# Copyright 2026 voxtral_ros maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Who may connect: bearer tokens, and which pages a browser may connect from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import hmac
from ipaddress import ip_address
from pathlib import Path
import socket
from urllib.parse import urlsplit

# How a browser, which cannot set headers, gives its token to OpenAI's API and to us.
TOKEN_PROTOCOL = 'openai-insecure-api-key.'


def read_token(path: Path) -> str:
    """
    Return the token in a file: its first line.

    :raises ValueError: the file cannot be read, or the token is empty or not printable ASCII
    """
    try:
        lines = path.read_text(encoding='ascii').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'no token in {path}: {error}') from None
    token = lines[0].strip() if lines else ''
    if not token or not token.isprintable() or ' ' in token:
        raise ValueError(f'no token in {path}: its first line must be printable ASCII without '
                         'spaces; for example: openssl rand -hex 32')
    return token


def has_token(headers: Mapping[str, str], token: str) -> bool:
    """Return whether a request carries the token, as a header or as a browser's subprotocol."""
    given = headers.get('Authorization', '')
    offers = [given[7:].strip()] if given[:7].lower() == 'bearer ' else []
    for protocol in headers.get('Sec-WebSocket-Protocol', '').split(','):
        if protocol.strip().startswith(TOKEN_PROTOCOL):
            offers.append(protocol.strip()[len(TOKEN_PROTOCOL):])
    # compare_digest takes as long for a wrong token as for a nearly right one
    return any(hmac.compare_digest(offer.encode('utf-8', 'surrogateescape'), token.encode())
               for offer in offers)


def origin_allowed(headers: Mapping[str, str], allowed: Sequence[str]) -> bool:
    """
    Return whether a browser may connect from where its page came from; other programs may always.

    A page of this server may, and those named in `allowed`. A page that was loaded by a name which
    somebody else could let point here (DNS rebinding) is not a page of this server: the name must
    be an address, localhost, or the name of this machine.
    """
    origin = headers.get('Origin')
    if origin is None or '*' in allowed:
        return True
    if origin.rstrip('/').lower() in [name.rstrip('/').lower() for name in allowed]:
        return True
    try:
        page = urlsplit(origin)
        host = (page.hostname or '').lower()
        same = bool(host) and page.netloc.lower() == headers.get('Host', '').lower()
    except ValueError:
        return False
    return same and _is_own_name(host)


def _is_own_name(host: str) -> bool:
    name = socket.gethostname().lower()
    if host in ('localhost', name, f'{name.split(".")[0]}.local'):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
