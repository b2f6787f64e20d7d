"""What is said over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from users.keys import TOKEN_LIFE_S

_NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps any text but that."""

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=_NO_NUL)]
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[A-Za-z0-9._%+'-]+@[A-Za-z0-9.-]+$")]
"""Whether somebody reads mail there only a mail can tell."""
NewPassword = Annotated[str, Field(min_length=8, max_length=256)]
Password = Annotated[str, Field(max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewUser(_Body):
    name: Name
    email: Email
    password: NewPassword


class Credentials(_Body):
    email: Email
    password: Password


class Consent(_Body):
    """The password again, from whoever asks for what cannot be undone."""

    password: Password


class User(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)

    id: int
    name: str
    email: str
    roles: list[str]


class Token(BaseModel):
    token: str
    expires_in_s: int = TOKEN_LIFE_S
    token_type: Literal["Bearer"] = "Bearer"


class Key(BaseModel):
    """RFC 8037."""

    kid: str
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"
    x: str


class KeySet(BaseModel):
    keys: list[Key]
