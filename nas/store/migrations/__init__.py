"""What changed in the tables, one numbered file for each change; Alembic runs them in order."""
