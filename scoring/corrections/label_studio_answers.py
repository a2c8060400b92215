"""The labelling interface of hardlook's tasks in Label Studio, and what its answers mean.

``interface`` is the XML that a project is set up with: one ``Choices`` of all classes, and beside it one of what is no
class (``NO_CLASS``), so that no class of that name can be taken for it. ``meaning`` reads one annotation:

    one class          given, if it is the label that was shown, else other
    several classes    several
    "no class fits"    none
    "not sure"         unsure
    skipped            as asked: unsure (default), none, or no answer

Inputs → outputs: classes → XML; an annotation → a verdict and the classes it names. Cost: none to speak of. Known
limit: an annotation that names a class and says that none fits is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from scoring.audit.errors import HardlookError

CONTROL, NO_CLASS = "label", "no_class"
"""The names of the two ``Choices``."""

NONE_FITS, NOT_SURE = "no class fits", "not sure"
OUTSIDE = {NONE_FITS: "none", NOT_SURE: "unsure"}


@dataclass(frozen=True)
class Meaning:
    """A verdict, and the class or classes that go with it."""

    verdict: str
    new_label: str | None = None
    labels: tuple[str, ...] = ()


def interface(classes: Sequence[str], media: str) -> str:
    """The labelling interface of a project for these classes.

    >>> '<Choice value="a &amp; b"/>' in interface(["a & b"], "image")
    True
    """
    shown = {"image": '<Image name="item" value="$image"/>', "text": '<Text name="item" value="$text"/>'}[media]
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    outside = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in OUTSIDE)
    return (
        f'<View>\n  {shown}\n  <Header value="Given label: $given_label"/>\n'
        f'  <Choices name="{CONTROL}" toName="item" choice="multiple" showInline="true">\n{choices}\n  </Choices>\n'
        f'  <Choices name="{NO_CLASS}" toName="item" choice="single" showInline="true">\n{outside}\n  </Choices>\n'
        "</View>\n"
    )


def meaning(given: str | None, chosen: Sequence[str], outside: Sequence[str] = ()) -> Meaning | None:
    """What an annotator says of an example whose label was shown as ``given``; None where nothing was chosen.

    >>> meaning("cat", ["cat"]), meaning("cat", ["dog"]).new_label, meaning(None, [], ["no class fits"]).verdict
    (Meaning(verdict='given', new_label=None, labels=()), 'dog', 'none')
    """
    names = tuple(dict.fromkeys(chosen))
    unknown = [name for name in outside if name not in OUTSIDE]
    if unknown or len(outside) > 1 or (names and outside):
        said = ", ".join(map(repr, [*names, *outside]))
        raise HardlookError(f"the answers {said} contradict each other; needed classes, or one of {', '.join(OUTSIDE)}")
    if outside:
        return Meaning(OUTSIDE[outside[0]])
    if len(names) > 1:
        return Meaning("several", labels=names)
    if not names:
        return None
    return Meaning("given") if names[0] == given else Meaning("other", names[0])
