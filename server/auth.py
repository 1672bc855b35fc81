"""Who is calling: visitors by a signed, expiring token; staff by one shared token, in the console
by a cookie.

Knows no route. Staff say who they are; nothing proves it, for they share the token. Invariants:
secrets are made once, in files only their owner can read; tokens are compared in constant time; a
new staff token ends every login, because the login cookie's key depends on it.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt

from amends.errors import InvalidInput, SettingsError
from amends.record import new_id
from server.errors import Unauthorized
from server.settings import ServerSettings

STAFF_COOKIE: Final = "amends_staff"
STAFF_NAME: Final = "staff"
_VISITOR: Final = "amends-visitor"
_STAFF: Final = "amends-staff"


@dataclass(frozen=True)
class VisitorSession:
    token: str
    visitor_id: str
    expires_at: float


@dataclass(frozen=True)
class StaffLogin:
    """A login to the console; `csrf` has to come back with every form."""

    name: str
    csrf: str


class Auth:
    """Makes and checks tokens."""

    def __init__(
        self,
        secret: str,
        staff_token: str,
        session_ttl_s: int,
        staff_ttl_s: int,
        metrics_token: str | None = None,
    ) -> None:
        self._secret = secret.encode()
        self._staff_token = staff_token.encode()
        self._staff_key = hmac.digest(self._secret, self._staff_token, hashlib.sha256)
        self._metrics_token = None if metrics_token is None else metrics_token.encode()
        self._session_ttl_s = session_ttl_s
        self.staff_ttl_s = staff_ttl_s

    @classmethod
    def of_home(cls, home: Path, settings: ServerSettings) -> "Auth":
        """With the secrets of this home, made on first use."""
        staff_token = settings.staff_token or secret_file(home / "staff.token")
        secret = secret_file(home / "server.secret")
        return cls(
            secret,
            staff_token,
            settings.session_ttl_s,
            settings.staff_ttl_s,
            settings.metrics_token,
        )

    def open_session(self, visitor_id: str | None = None) -> VisitorSession:
        """A token for a new visitor, or a fresh one for a visitor already known."""
        visitor_id = visitor_id or new_id()
        expires_at = int(time.time()) + self._session_ttl_s
        claims = {"sub": visitor_id, "aud": _VISITOR, "exp": expires_at}
        return VisitorSession(jwt.encode(claims, self._secret, "HS256"), visitor_id, expires_at)

    def visitor(self, token: str) -> str:
        """The visitor_id a token was made for. Raises Unauthorized."""
        if self.is_staff(token):
            raise Unauthorized("expected a visitor's token, from POST /v1/session, got the staff's")
        return str(_claims(token, self._secret, _VISITOR)["sub"])

    def is_staff(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._staff_token)

    def require_staff(self, token: str) -> None:
        """Raises Unauthorized unless it is the staff token."""
        if not self.is_staff(token):
            raise Unauthorized("expected the staff token as 'Authorization: Bearer …'")

    def require_metrics(self, token: str) -> None:
        """Raises Unauthorized unless it is the metrics token, or the staff token."""
        wanted = self._metrics_token
        if self.is_staff(token) or (wanted and hmac.compare_digest(token.encode(), wanted)):
            return
        raise Unauthorized("expected AMENDS_SERVER_METRICS_TOKEN, or the staff token, as Bearer")

    def log_in(self, token: str, name: str) -> str:
        """The cookie's value for whoever knows the staff token. Raises Unauthorized, InvalidInput
        (the name).
        """
        if not self.is_staff(token.strip()):
            raise Unauthorized("this is not the staff token")
        exp = int(time.time()) + self.staff_ttl_s
        claims = {"sub": staff_name(name), "aud": _STAFF, "exp": exp}
        return jwt.encode({**claims, "jti": secrets.token_urlsafe(16)}, self._staff_key, "HS256")

    def login(self, cookie: str) -> StaffLogin:
        """The login behind a cookie. Raises Unauthorized."""
        claims = _claims(cookie, self._staff_key, _STAFF)
        csrf = hmac.new(self._staff_key, str(claims["jti"]).encode(), hashlib.sha256).hexdigest()
        return StaffLogin(str(claims["sub"]), csrf)


def bearer(header: str | None) -> str:
    """The token in an Authorization header, '' when there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def staff_name(given: str) -> str:
    """The name that somebody of the staff goes by, in one spelling. Raises InvalidInput.

    No colon is in it: feedback ids end in a colon and this name.
    """
    name = unicodedata.normalize("NFC", given).strip()
    if not re.fullmatch(r"[\w .@'-]{1,64}", name):
        raise InvalidInput(
            "expected a name of 1 to 64 letters, digits, spaces and . _ @ ' - such as ann, "
            f"got {given[:80]!r}"
        )
    return name


def secret_file(path: Path) -> str:
    """The secret in a file (mode 0600), made when it does not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_urlsafe(32))
        os.link(fresh, path)  # fails when another process was first: then its secret holds
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    secret = path.read_text().strip()
    if len(secret) < 16:
        raise SettingsError(f"{path}: expected at least 16 characters, got {len(secret)}")
    return secret


def _claims(token: str, key: bytes, audience: str) -> dict[str, object]:
    try:
        return jwt.decode(
            token, key, ["HS256"], audience=audience, options={"require": ["exp", "sub", "aud"]}
        )
    except jwt.ExpiredSignatureError:
        raise Unauthorized("the token has expired; ask for a new one") from None
    except jwt.InvalidTokenError:
        where = ", from POST /v1/session" if audience == _VISITOR else ""
        raise Unauthorized(f"expected a token that this server made{where}") from None
