"""Version 3: which trials may be on a front, so that it is found among millions at once."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Adds the column, in which every earlier trial may be, and the index to look it up by."""
    op.add_column(
        "trial", sa.Column("contender", sa.Boolean, nullable=False, server_default=sa.true())
    )
    op.create_index("ix_trial_standing", "trial", ["study", "state", "contender"])
