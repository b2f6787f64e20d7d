"""The HTTP API of user-service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPBearer
from sqlalchemy import text

from shoal.sdk import database, deadline, health, problems, tokens
from shoal.sdk.database import Transactions
from shoal.sdk.outbox import Relay
from users import accounts, identity, keys, passwords, schemas
from users.models import outbox


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = database.engine()
    app.state.engine = engine
    app.state.transactions = Transactions(engine)
    app.state.identity = identity.Identity(fetch=own_keys)
    async with Relay(outbox, engine):
        yield
    await engine.dispose()


async def own_keys() -> Mapping[str, Any]:
    async with app.state.transactions.begin() as session:
        return await keys.public(session)


async def database_answers() -> None:
    async with app.state.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


app = FastAPI(title="user-service", version="1.0.0", lifespan=lifespan)
app.add_middleware(deadline.Middleware)
problems.install(app)
health.install(app, ready=database_answers)


def transactions(request: Request) -> Transactions:
    found: Transactions = request.app.state.transactions
    return found


Database = Annotated[Transactions, Depends(transactions)]


# For the OpenAPI document; the header is read as it came.
bearer = HTTPBearer(auto_error=False)


async def claimed(request: Request, _: Annotated[Any, Depends(bearer)]) -> identity.User:
    """Who the token says that asks. They may be gone."""
    user: identity.User | None = await request.app.state.identity.user(request.headers.get("authorization"))
    if user is None:
        raise tokens.refused("log in first")
    return user


Claimed = Annotated[identity.User, Depends(claimed)]


@app.post("/register", status_code=201, responses=problems.responses(400, 409, 503))
async def register(new: schemas.NewUser, db: Database) -> schemas.User:
    user = await accounts.register(db, name=new.name, email=new.email, password=new.password)
    return schemas.User.model_validate(user)


@app.post("/login", responses=problems.responses(400, 401, 503))
async def log_in(credentials: schemas.Credentials, db: Database) -> schemas.Token:
    user = await accounts.log_in(db, email=credentials.email, password=credentials.password)
    async with db.begin() as session:
        return schemas.Token(token=await keys.sign(session, user))


@app.get("/users/me", responses=problems.responses(401, 503))
async def show_me(claimed: Claimed, db: Database) -> schemas.User:
    user = await accounts.by_id(db, claimed.id)
    if user is None:
        raise tokens.refused("the account of this token is deleted")
    return schemas.User.model_validate(user)


@app.delete("/users/me", status_code=204, responses=problems.responses(400, 401, 403, 503))
async def delete_me(claimed: Claimed, db: Database, consent: schemas.Consent | None = None) -> None:
    """Erases the account, and what other services keep of it. Asked twice, it answers twice alike."""
    user = await accounts.by_id(db, claimed.id)
    if user and consent and not await passwords.matches(consent.password, user.password_hash):
        raise problems.Problem(403, "Wrong password", type="wrong-password")
    await accounts.erase(db, claimed.id)


@app.get("/.well-known/jwks.json", responses=problems.responses(503))
async def show_keys(response: Response) -> schemas.KeySet:
    """The public keys that tokens are to be checked with."""
    response.headers["Cache-Control"] = "public, max-age=5"
    return schemas.KeySet.model_validate(await own_keys())
