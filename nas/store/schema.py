"""The tables of the study database, as SQLAlchemy 2 typed models.

Columns hold text, numbers, UTC times and JSON: no pickles, class names or Python hashes, so that
any program can read a study. A change of these models is a new file in `migrations/`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

REVISION = 3  # the newest migration; a test holds the two together
VERSION_TABLE = "nas_schema"


class Utc(TypeDecorator[datetime]):
    """A moment in UTC; SQLite, which knows no time zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """The stored moment, which says that it is UTC."""
        if value is None:
            return None
        aware: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware


class Base(DeclarativeBase):
    """What all tables share: how Python types are stored."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        dict[str, Any]: JSON,
        list[Any]: JSON,
        datetime: Utc,
        float: Double,
    }


class Study(Base):
    """A study, whether anybody writes it, and how far its history has come.

    `spec` is the whole experiment; space, device and the target of trials are beside it for
    queries. `epoch` rises with every change of writer: a transaction of an older one is refused.
    """

    __tablename__ = "study"

    name: Mapped[str] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]]
    space: Mapped[str]
    device: Mapped[str]
    trials: Mapped[int]
    created: Mapped[datetime]
    updated: Mapped[datetime]
    sequence: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    writer_host: Mapped[str | None]
    writer_process: Mapped[int | None]
    writer_started: Mapped[str | None]


class Event(Base):
    """One thing that happened in a study; `sequence` is the order in which it was taken in."""

    __tablename__ = "event"

    study: Mapped[str] = mapped_column(ForeignKey("study.name"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    trial: Mapped[int]
    payload: Mapped[dict[str, Any]]
    created: Mapped[datetime]


class Architecture(Base):
    """A point of a space; every study that proposes it refers to the same row."""

    __tablename__ = "architecture"

    key: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str]
    choices: Mapped[dict[str, Any]]


class Trial(Base):
    """All that a study knows of one proposal: `nas.core.trial.Trial`, field by field.

    `contender` is False once so many trials beat this one that it cannot be on the front
    (`nas.core.contenders`).
    """

    __tablename__ = "trial"
    __table_args__ = (Index("ix_trial_standing", "study", "state", "contender"),)

    study: Mapped[str] = mapped_column(ForeignKey("study.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    architecture: Mapped[str] = mapped_column(ForeignKey("architecture.key"), index=True)
    origin: Mapped[str]
    notes: Mapped[dict[str, Any]]
    state: Mapped[str]
    build: Mapped[str | None]
    file: Mapped[str | None]
    costs: Mapped[dict[str, Any]]
    proxies: Mapped[dict[str, Any]]
    uncounted: Mapped[list[Any]]
    measurements: Mapped[dict[str, Any]]
    rungs: Mapped[list[Any]]
    trained: Mapped[list[Any]]
    values: Mapped[dict[str, Any]]
    violations: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    error: Mapped[str | None]
    reused: Mapped[str | None]
    contender: Mapped[bool] = mapped_column(default=True, server_default=true())
    created: Mapped[datetime]
    updated: Mapped[datetime]


class Evaluation(Base):
    """What a training brought, shared by all studies of the database."""

    __tablename__ = "evaluation"

    key: Mapped[str] = mapped_column(primary_key=True)
    build: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(primary_key=True)
    rung: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    values: Mapped[dict[str, Any]]
    created: Mapped[datetime]


class Measurement(Base):
    """What timing a graph on a host brought, shared by all studies of the database.

    `host` is the fingerprint of the machine, of which `device` is only the name.
    """

    __tablename__ = "measurement"

    build: Mapped[str] = mapped_column(primary_key=True)
    form: Mapped[str] = mapped_column(primary_key=True)
    workload: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    runtime: Mapped[str] = mapped_column(primary_key=True)
    protocol: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    objective: Mapped[str]
    value: Mapped[float]
    unit: Mapped[str]
    low: Mapped[float]
    high: Mapped[float]
    se: Mapped[float]
    n: Mapped[int]
    source: Mapped[str]
    basis: Mapped[str]
    record: Mapped[dict[str, Any]]
    created: Mapped[datetime]


class Front(Base):
    """The front of a study on a device, as it was last worked out."""

    __tablename__ = "front"

    study: Mapped[str] = mapped_column(ForeignKey("study.name"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str]
    objectives: Mapped[list[Any]]
    trials: Mapped[dict[str, Any]]
    hypervolume: Mapped[float]
    reference: Mapped[list[Any]]
    created: Mapped[datetime]


class FrontMember(Base):
    """A point of a front, with its intervals and the probability that it belongs."""

    __tablename__ = "front_member"
    __table_args__ = (
        ForeignKeyConstraint(["study", "device"], ["front.study", "front.device"]),
        ForeignKeyConstraint(["study", "trial"], ["trial.study", "trial.number"]),
    )

    study: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    trial: Mapped[int]
    membership: Mapped[float]
    measurements: Mapped[dict[str, Any]]
