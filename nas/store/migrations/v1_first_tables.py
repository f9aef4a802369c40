"""Version 1: the first tables."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Creates every table."""
    _create_study()
    _create_trial()
    _create_shared()
    _create_front()


def _create_study() -> None:
    op.create_table(
        "study",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("writer_host", sa.String),
        sa.Column("writer_process", sa.Integer),
        sa.Column("writer_started", sa.String),
    )
    op.create_table(
        "event",
        sa.Column("study", sa.String, sa.ForeignKey("study.name"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )


def _create_trial() -> None:
    op.create_table(
        "architecture",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("choices", sa.JSON, nullable=False),
    )
    op.create_table(
        "trial",
        sa.Column("study", sa.String, sa.ForeignKey("study.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("architecture", sa.String, sa.ForeignKey("architecture.key"), nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("notes", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("build", sa.String),
        sa.Column("file", sa.String),
        sa.Column("costs", sa.JSON, nullable=False),
        sa.Column("uncounted", sa.JSON, nullable=False),
        sa.Column("measurements", sa.JSON, nullable=False),
        sa.Column("rungs", sa.JSON, nullable=False),
        sa.Column("trained", sa.JSON, nullable=False),
        sa.Column("values", sa.JSON, nullable=False),
        sa.Column("violations", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("reused", sa.String),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_trial_architecture", "trial", ["architecture"])


def _create_shared() -> None:
    op.create_table(
        "evaluation",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("build", sa.String, primary_key=True),
        sa.Column("recipe", sa.String, primary_key=True),
        sa.Column("data", sa.String, primary_key=True),
        sa.Column("rung", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seed", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("values", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "measurement",
        sa.Column("build", sa.String, primary_key=True),
        sa.Column("form", sa.String, primary_key=True),
        sa.Column("workload", sa.String, primary_key=True),
        sa.Column("host", sa.String, primary_key=True),
        sa.Column("runtime", sa.String, primary_key=True),
        sa.Column("protocol", sa.String, primary_key=True),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("objective", sa.String, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.String, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("se", sa.Double, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("basis", sa.String, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )


def _create_front() -> None:
    op.create_table(
        "front",
        sa.Column("study", sa.String, sa.ForeignKey("study.name"), primary_key=True),
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("objectives", sa.JSON, nullable=False),
        sa.Column("trials", sa.JSON, nullable=False),
        sa.Column("hypervolume", sa.Double, nullable=False),
        sa.Column("reference", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "front_member",
        sa.Column("study", sa.String, primary_key=True),
        sa.Column("device", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("membership", sa.Double, nullable=False),
        sa.Column("measurements", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(["study", "device"], ["front.study", "front.device"]),
        sa.ForeignKeyConstraint(["study", "trial"], ["trial.study", "trial.number"]),
    )
