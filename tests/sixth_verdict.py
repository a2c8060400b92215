"""A throw-away sixth verdict: one row more in the table of verdicts."""

from scoring.reviews.verdicts import VerdictKind

NAME = "ambiguous"
SIXTH = VerdictKind(
    key="d",
    act="ambiguous",
    title="Ambiguous",
    help="nobody can tell",
    bulk="All ambiguous",
    badge="≈ nobody can tell",
    words="ambiguous",
    sentence="nobody can tell",
    label_is="open",
    disposition="exclude",
)
