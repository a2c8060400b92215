"""Review logs as earlier versions of hardlook wrote them, statement by statement, for both databases."""

from __future__ import annotations

import sqlalchemy as sa

EVENTS = (
    "CREATE TABLE hardlook_events (position {big} NOT NULL, audit TEXT NOT NULL, client TEXT NOT NULL, seq BIGINT NOT "
    "NULL, example_id TEXT NOT NULL, reviewer TEXT NOT NULL, action TEXT NOT NULL, fingerprint TEXT, label TEXT, "
    "verdict TEXT, new_label TEXT, labels TEXT NOT NULL, issues TEXT NOT NULL, note TEXT, batch TEXT, undoes_client "
    "TEXT, undoes_seq BIGINT, undoes_position BIGINT, evidence TEXT, seconds DOUBLE PRECISION, round BIGINT, "
    "created_at BIGINT NOT NULL, PRIMARY KEY (position), UNIQUE (audit, client, seq))"
)
LOG = (
    "CREATE TABLE hardlook_log (id INTEGER NOT NULL, version INTEGER NOT NULL, position BIGINT NOT NULL, "
    "PRIMARY KEY (id))"
)
REFUSAL = "events of a review log are never changed or deleted"
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER hardlook_events_no_{act} BEFORE {act} ON hardlook_events "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        for act in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION hardlook_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$",
        "CREATE TRIGGER hardlook_events_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON hardlook_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION hardlook_refuse()",
    ],
}
ROWS = (
    "(1, 'digits', 'tab', 1, 'a.png', 'ana', 'decide', 'f00', '3', 'other', '5', '[]', '[\"bad image\"]', 'née <b>', "
    "NULL, NULL, NULL, NULL, '{\"rank\":1}', 1.5, NULL, 1700000000000000)",
    "(2, 'digits', 'tab', 2, 'b.png', 'ana', 'decide', 'f01', '3', 'given', NULL, '[]', '[]', NULL, NULL, "
    "NULL, NULL, NULL, NULL, NULL, NULL, 1700000001000000)",
    "(3, 'digits', 'tab', 3, 'b.png', 'ana', 'undo', NULL, NULL, NULL, NULL, '[]', '[]', NULL, NULL, "
    "'tab', 2, 2, NULL, NULL, NULL, 1700000002000000)",
)


def write_version_1(url: str) -> None:
    """A log of schema 1 with three events by ana: a.png is a 5, b.png was right and is undone."""
    engine = sa.create_engine(url)
    kind = engine.dialect.name
    statements = [
        EVENTS.format(big="INTEGER" if kind == "sqlite" else "BIGINT"),
        LOG,
        "CREATE INDEX hardlook_events_audit ON hardlook_events (audit, position)",
        f"CREATE INDEX hardlook_events_example ON hardlook_events "
        f"{'USING hash ' if kind != 'sqlite' else ''}(example_id)",
        *TRIGGERS[kind],
        *(f"INSERT INTO hardlook_events VALUES {row}" for row in ROWS),
        "INSERT INTO hardlook_log VALUES (1, 1, 3)",
    ]
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement.replace(":", r"\:")))
    engine.dispose()
