"""/help: the manual, one topic at a time, and its search. ``?topic=`` and ``?search=`` are in the address."""

from __future__ import annotations

import streamlit as st

from dashboard.help import INDEX, Part, Topic, address, parts, plain_text, read_topic, search, topic_names
from dashboard.style.formatting import count, plain, quoted
from dashboard.widgets import inputs, page_frame

HEADINGS = {1: st.title, 2: st.subheader}


def show() -> None:
    """The page."""
    name = st.query_params.get("topic", INDEX)
    query = st.text_input("Search the manual", key="search", bind="query-params", icon=":material/search:", width=420)
    if query.strip():
        return show_hits(query)
    topic = read_topic(name)
    if name == INDEX:
        page_frame.show_command_for_unread_data()
    body, contents = st.columns([15, 4], gap="large")
    with body, st.container(key="manual"):
        show_topic(topic)
    with contents:
        show_contents(topic)
    return None


def show_topic(topic: Topic) -> None:
    """The text of a topic; each heading has the anchor that links name."""
    for section in topic.sections:
        HEADINGS[section.level](plain_text(section.title), anchor=section.anchor)
        for part in parts(section, topic.name):
            show_part(part)


def show_part(part: Part) -> None:
    """Text, code with a button that copies it, or an image."""
    if part.kind == "code":
        st.code(part.content, language=part.note or None, wrap_lines=True)
    elif part.kind == "image":
        st.image(part.content, caption=part.note, alt=part.note)
    else:
        st.markdown(part.content)


def show_contents(topic: Topic) -> None:
    """The headings of this topic, then all topics."""
    headings = [one for one in topic.sections if one.level == 2]
    if len(headings) > 1:
        st.markdown("**On this page**\n" + "".join(f"\n- [{plain_text(one.title)}](#{one.anchor})" for one in headings))
    names = [plain_text(read_topic(name).title) for name in topic_names()]
    lines = [
        f"\n- **{title}**" if name == topic.name else f"\n- [{title}]({address(name)})"
        for name, title in zip(topic_names(), names, strict=True)
    ]
    st.markdown("**All topics**\n" + "".join(lines))


def show_hits(query: str) -> None:
    """The sections that a search found, each with the sentence around."""
    hits = search(query)
    if not hits:
        return inputs.empty(
            f"The manual has no section with {quoted(query)}. Try one word of it, or open the list of topics: "
            f"clear the search."
        )
    st.caption(f"{count(len(hits), 'section')} with {quoted(query)}, hits in titles first.")
    for hit in hits:
        where = hit.topic_title if not hit.anchor else f"{hit.topic_title} › {hit.title}"
        st.markdown(f"[{plain(where)}]({address(hit.topic, hit.anchor)})  \n{plain(hit.excerpt)}")
    return None


show()
