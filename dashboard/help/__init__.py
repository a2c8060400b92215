"""The manual: one Markdown file per topic, read, linked and searched. Streamlit is not needed.

A topic is a file of this folder; its name is the path without ``.md``, such as ``scores`` or ``recipes/timm``. The
files read well in the repository, where a link from one to another is relative (``scores.md#vog``). ``in_app`` turns
such a link into an address of the dashboard (``/help?topic=scores#vog``); of a link to a file outside the package it
leaves the words alone. ``index.md`` links to every topic and gives their order.

Inputs → outputs: Markdown files → topics, sections, search hits. Cost: about 30 small files, read once per process.
Limits: headings of two levels; a search finds whole strings of letters, not word forms.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from scoring.audit.errors import HardlookError

FOLDER = Path(__file__).parent
INDEX = "index"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
"""A Markdown link or, after ``!``, an image: words, target."""
HEADING = re.compile(r"^(#{1,2}) (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"(^```.*?^```$|^!\[[^\n]*\)$)", re.MULTILINE | re.DOTALL)
"""What stands apart from the text: code, an image on a line of its own."""
LONGEST_EXCERPT = 240


@dataclass(frozen=True)
class Section:
    """What stands under one heading, up to the next one. ``level``: 1 for the title of the topic."""

    level: int
    title: str
    anchor: str
    text: str


@dataclass(frozen=True)
class Topic:
    """One page of the manual."""

    name: str
    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Part:
    """A part of a section. ``kind``: "text" (Markdown), "code" (``note``: its language) or "image" (``content``: its
    path, ``note``: its description)."""

    kind: str
    content: str
    note: str = ""


@dataclass(frozen=True)
class Hit:
    """A section in which a search was successful, and the sentence that shows why."""

    topic: str
    topic_title: str
    title: str
    anchor: str
    excerpt: str


def slug(title: str) -> str:
    """The anchor of a heading, as code hosts form it.

    >>> slug("What is `data_map`?"), slug("EMA, and pickles")
    ('what-is-data_map', 'ema-and-pickles')
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def split_sections(markdown: str) -> tuple[Section, ...]:
    """The sections of a Markdown text, in order; a ``#`` inside a code block begins none.

    >>> [(one.level, one.anchor, one.text) for one in split_sections("# A b\\nOne.\\n\\n## C\\nTwo.")]
    [(1, 'a-b', 'One.'), (2, 'c', 'Two.')]
    """
    fenced = [found.span() for found in FENCE.finditer(markdown)]
    heads = [one for one in HEADING.finditer(markdown) if not any(start < one.start() < end for start, end in fenced)]
    ends = [one.start() for one in heads[1:]] + [len(markdown)]
    return tuple(
        Section(len(one[1]), one[2].strip(), slug(one[2]), markdown[one.end() : end].strip())
        for one, end in zip(heads, ends, strict=True)
    )


@cache
def topic_names() -> tuple[str, ...]:
    """The names of all topics, in the order in which the index links to them."""
    linked = [target for bang, _, target in LINK.findall(_source(INDEX)) if not bang]
    named = [resolve(INDEX, target)[0] for target in linked]
    there = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.md")}
    return tuple(dict.fromkeys([INDEX, *(name for name in named if name in there), *sorted(there)]))


@cache
def read_topic(name: str) -> Topic:
    """The topic of that name. Raises ``HardlookError`` with the close names where there is none."""
    if name not in topic_names():
        close = difflib.get_close_matches(name, topic_names(), n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else "the index lists all topics: /help"
        raise HardlookError(f"the manual has no topic {name!r}; {hint}")
    sections = split_sections(_source(name))
    return Topic(name, sections[0].title, sections)


def _source(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf8")


# -- links ----------------------------------------------------------------------------------------------------


def address(topic: str, anchor: str = "") -> str:
    """The address of a topic, or of one of its headings, in the dashboard.

    >>> address("scores", "vog"), address("index")
    ('/help?topic=scores#vog', '/help')
    """
    page = "/help" if topic == INDEX else f"/help?topic={quote(topic)}"
    return f"{page}#{anchor}" if anchor else page


def resolve(topic: str, target: str) -> tuple[str, str]:
    """The topic and the anchor that a relative link in a topic means; the topic is a path that begins with ``..`` or
    keeps its ending where the link leaves the manual.

    >>> resolve("recipes/timm", "../scores.md#vog"), resolve("vog", "#forms")
    (('scores', 'vog'), ('vog', 'forms'))
    """
    path, _, anchor = target.partition("#")
    if not path:
        return topic, anchor
    return posixpath.normpath(posixpath.join(posixpath.dirname(topic), path)).removesuffix(".md"), anchor


def in_app(markdown: str, topic: str) -> str:
    """A topic's Markdown with its links as the dashboard needs them: to topics as addresses, to other sites as they
    are, to headings of the same topic by their anchor. Of a link to a file outside the manual the words stay, of an
    image nothing.

    >>> in_app("See [VoG](../vog.md), [the table](../../../tests/README.md).", "recipes/timm")
    'See [VoG](/help?topic=vog), the table.'
    """
    return LINK.sub(lambda found: _link(found[1], found[2], found[3], topic), markdown)


def _link(bang: str, words: str, target: str, topic: str) -> str:
    if bang:
        return ""
    if re.match(r"[a-z]+:", target):
        return f"[{words}]({target})"
    other, anchor = resolve(topic, target)
    if other == topic:
        return f"[{words}](#{anchor})"
    return f"[{words}]({address(other, anchor)})" if other in topic_names() else words


def parts(section: Section, topic: str) -> list[Part]:
    """A section as the dashboard draws it: text, blocks of code, and the images that are there on this machine: in a
    checkout, not in a wheel."""
    return [one for block in BLOCK.split(section.text) if block.strip() for one in _parts(block.strip(), topic)]


def _parts(block: str, topic: str) -> list[Part]:
    if block.startswith("```"):
        first, *lines = block.splitlines()
        return [Part("code", "\n".join(lines[:-1]), first.removeprefix("```"))]
    here = FOLDER / posixpath.dirname(topic)
    pictures = [
        Part("image", str(here / path), words)
        for bang, words, path in LINK.findall(block)
        if bang and (here / path).is_file()
    ]
    text = in_app(block, topic).strip()
    return [*([Part("text", text)] if text else []), *pictures]


# -- search ---------------------------------------------------------------------------------------------------


def search(query: str) -> list[Hit]:
    """The sections that hold every word of the query, in any case: those with all words in a title first, then in the
    order of the topics. An empty query finds nothing."""
    words = query.casefold().split()
    if not words:
        return []
    found = [_rank(words, topic, one) for topic in map(read_topic, topic_names()) for one in topic.sections]
    ranked = sorted((one for one in found if one is not None), key=lambda one: one[0])
    return [hit for _, hit in ranked]


def _rank(words: list[str], topic: Topic, section: Section) -> tuple[int, Hit] | None:
    """0 for a hit in the title of the topic, 1 in that of the section, 2 in the text; None without a hit."""
    title, sentences = plain_text(section.title), split_sentences(section.text)
    everything = "\n".join([title, *sentences]).casefold()
    if not all(word in everything for word in words):
        return None
    in_title = all(word in title.casefold() for word in words)
    best = max(sentences, key=lambda one: sum(word in one.casefold() for word in words), default="")
    hit = Hit(topic.name, plain_text(topic.title), title, section.anchor if section.level > 1 else "", cut(best, words))
    return (0 if section.level == 1 else 1) if in_title else 2, hit


def plain_text(markdown: str) -> str:
    """Markdown without its marks: of links and images the words.

    >>> plain_text("**VoG** of [`one`](a.md) *long* row, a-*")
    'VoG of one long row, a-*'
    """
    bare = re.sub(r"\*\*|`", "", LINK.sub(lambda found: found[2], markdown))
    return re.sub(r"\*(\w[^*\n]*\w)\*", r"\1", bare)


def split_sentences(markdown: str) -> list[str]:
    """The sentences, list items, table rows and lines of code of a Markdown text, without its marks.

    >>> split_sentences("One is\\nlong. Two.\\n\\n- three")
    ['One is long.', 'Two.', 'three']
    """
    found: list[str] = []
    prose = FENCE.sub(lambda code: "\n\n" + "\n\n".join(code[0].splitlines()[1:-1]) + "\n\n", markdown)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-|]|\d+\.) ?)", prose):
        flat = re.sub(r"^(?:[-]|\d+\.) ", "", " ".join(plain_text(block).split()))
        cells = [cell.strip() for cell in flat.strip("|").split("|")] if flat.startswith("|") else [flat]
        row = " · ".join(cell for cell in cells if cell.strip("-: "))
        found.extend(one for one in re.split(r"(?<=[.!?]) (?=[A-Z/])", row) if one)
    return found


def cut(sentence: str, words: list[str]) -> str:
    """A sentence, or of a very long one the part around the first of the words.

    >>> cut("a" * 300 + " b " + "c" * 300, ["b"])[118:124]
    'aa b c'
    """
    if len(sentence) <= LONGEST_EXCERPT:
        return sentence
    low = sentence.casefold()
    at = min((low.find(word) for word in words if word in low), default=0)
    start = max(0, min(at - LONGEST_EXCERPT // 2, len(sentence) - LONGEST_EXCERPT))
    part = sentence[start : start + LONGEST_EXCERPT]
    return f"{'…' if start else ''}{part}{'…' if start + LONGEST_EXCERPT < len(sentence) else ''}"
