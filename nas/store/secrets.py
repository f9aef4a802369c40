"""What of an address nobody may see; needs no database, so that a help text stays quick."""

from __future__ import annotations

import re

_BEFORE_HOST = re.compile(r"(?<=//)([^:/?@]*):.*@", re.DOTALL)
_SECRET = re.compile(r"([?&;](?:password|sslpassword|passfile)=)[^&]*", re.IGNORECASE)


def masked(url: str) -> str:
    """An address as it may be written down: without its password, however wrongly it is typed.

    >>> masked("postgresql+psycopg://me:secret@host/nas"), masked("sqlite:///studies/nas.db")
    ('postgresql+psycopg://me:***@host/nas', 'sqlite:///studies/nas.db')
    >>> masked("postgresql//me:se@cr/et@host/nas?password=secret&connect_timeout=3")
    'postgresql//me:***@host/nas?password=***&connect_timeout=3'
    """
    return _SECRET.sub(r"\1***", _BEFORE_HOST.sub(r"\1:***@", url))
