"""What every module needs: the application, its database, and what runs beside it."""

from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass

from shoal.sdk import database

engine = database.engine()  # DATABASE_URL
sessions = async_sessionmaker(engine, expire_on_commit=False)
beside = []


class Base(MappedAsDataclass, DeclarativeBase):
    pass


@asynccontextmanager
async def lifespan(app):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncExitStack() as stack:
        for each in beside:
            await stack.enter_async_context(each)
        yield


app = FastAPI(lifespan=lifespan)
