"""Version 2: what zero-cost proxies said of each trial."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Adds the column; earlier trials have none."""
    column = sa.Column("proxies", sa.JSON, nullable=False, server_default="{}")
    op.add_column("trial", column)
