"""user-service: `POST /register`, `POST /login`, and `GET /users/me` for who holds a token."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field

from shop.database import Database, data_folder
from shop.secrets import hash_password, password_matches, sign, signing_key, verify

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL);
"""
TOKEN_LIFE_S = 3600
NOBODY = hash_password("")
"""Checked when the name is unknown, so that an answer's time does not tell which names exist."""


class Credentials(BaseModel):
    name: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=8, max_length=256)


class User(BaseModel):
    id: int
    name: str


class Token(BaseModel):
    token: str
    expires_in_s: int = TOKEN_LIFE_S


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.database = Database(data_folder() / "users.db", SCHEMA)
    app.state.key = signing_key(data_folder() / "token.key")
    yield
    app.state.database.close()


app = FastAPI(title="user-service", lifespan=lifespan)


def database(request: Request) -> Database:
    found: Database = request.app.state.database
    return found


@app.get("/healthz")
def healthz(request: Request) -> dict[str, str]:
    with database(request).read() as connection:
        connection.execute("SELECT 1")
    return {"status": "ok"}


@app.post("/register", status_code=201)
def register(credentials: Credentials, request: Request) -> User:
    hashed = hash_password(credentials.password)
    try:
        with database(request).write() as connection:
            row = connection.execute(
                "INSERT INTO users (name, password) VALUES (?, ?) RETURNING id", (credentials.name, hashed)
            ).fetchone()
    except sqlite3.IntegrityError:
        raise HTTPException(409, f"the name {credentials.name!r} is taken") from None
    return User(id=row["id"], name=credentials.name)


@app.post("/login")
def login(credentials: Credentials, request: Request) -> Token:
    with database(request).read() as connection:
        row = connection.execute("SELECT password FROM users WHERE name = ?", (credentials.name,)).fetchone()
    stored = row["password"] if row else NOBODY
    if not password_matches(credentials.password, stored) or row is None:
        raise HTTPException(401, "wrong name or password")
    return Token(token=sign(credentials.name, request.app.state.key, expires_at=time.time() + TOKEN_LIFE_S))


@app.get("/users/me")
def me(request: Request, authorization: Annotated[str, Header()] = "") -> User:
    name = verify(authorization.removeprefix("Bearer "), request.app.state.key, now=time.time())
    if name is not None:
        with database(request).read() as connection:
            row = connection.execute("SELECT id, name FROM users WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return User(id=row["id"], name=row["name"])
    raise HTTPException(401, "log in first", headers={"WWW-Authenticate": "Bearer"})
