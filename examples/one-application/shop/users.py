"""Who somebody is."""

import secrets
from typing import Annotated

from base import Base, app, sessions
from fastapi import Body, Cookie, HTTPException, Response
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column


class User(Base):
    __tablename__ = "users"
    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str]


@app.post("/login", status_code=204)
async def login(name: Annotated[str, Body(embed=True)], response: Response):
    async with sessions.begin() as session:
        user = await session.merge(User(name=name, token=secrets.token_urlsafe()))
    response.set_cookie("token", user.token, httponly=True)


async def signed_in(token: Annotated[str, Cookie()] = ""):
    async with sessions.begin() as session:
        name = await session.scalar(select(User.name).where(User.token == token))
    if name is None:
        raise HTTPException(401, "log in first")
    return name
