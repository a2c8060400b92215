"""Roles of reviewers (viewer to lead), as set under ``[roles]`` in audit.toml.

    [roles]
    lead = ["lea@example.org"]
    auditor = ["ana@example.org", "ben@example.org"]
    viewer = ["*"]                      # everybody whom the server knows

A *viewer* sees pages and images, an *auditor* decides as well, a *lead* also settles disputes, assigns work and
starts jobs. The highest role that names a person counts; who is named nowhere has none. Without ``[roles]`` everybody
who is known is an auditor, and nobody a lead.

Inputs → outputs: the table and a name → a role or None. Cost: a look through short lists. Limit: names are compared
exactly, as the identity provider or proxy gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scoring.audit.errors import HardlookError

ROLES = ("viewer", "auditor", "lead")  # from the weakest to the strongest
EVERYBODY = "*"


def check_roles(table: Any) -> dict[str, tuple[str, ...]]:
    """``[roles]`` as role → names, or what is wrong with it.

    >>> check_roles({"lead": ["lea"]})
    {'lead': ('lea',)}
    """
    if not isinstance(table, Mapping):
        raise HardlookError(f"audit.toml: roles = {table!r}; needed a table [roles] with lists of names")
    for role, names in table.items():
        if role not in ROLES:
            raise HardlookError(f"audit.toml: [roles] has an unknown role {role!r}; roles are {', '.join(ROLES)}")
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise HardlookError(f'audit.toml: [roles] {role} = {names!r}; needed a list of names, ["*"] for everybody')
    return {role: tuple(names) for role, names in table.items()}


def role_of(name: str | None, roles: Mapping[str, tuple[str, ...]], otherwise: str | None = None) -> str | None:
    """The highest role of a person; ``otherwise`` for one who is named nowhere. Nobody has no role.

    >>> roles = {"lead": ("lea",), "viewer": ("*",)}
    >>> role_of("lea", roles), role_of("ana", roles), role_of(None, roles), role_of("ana", {}, "auditor")
    ('lead', 'viewer', None, 'auditor')
    """
    if name is None:
        return None
    held = [role for role in ROLES if name in roles.get(role, ()) or EVERYBODY in roles.get(role, ())]
    return held[-1] if held else otherwise


def role_includes(role: str | None, needed: str) -> bool:
    """Returns whether a role includes another.

    >>> role_includes("lead", "auditor"), role_includes("viewer", "auditor"), role_includes(None, "viewer")
    (True, False, False)
    """
    return role is not None and ROLES.index(role) >= ROLES.index(needed)
