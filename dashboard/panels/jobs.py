"""A command on a page: the button that starts it, its progress, its end and its output.

The page may be closed and opened again meanwhile, because everything shown is read from the job's files.
"""

from __future__ import annotations

import streamlit as st

from dashboard import jobs
from dashboard.jobs import Job
from dashboard.style.formatting import command_line, quoted
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError

LOOK_SECONDS = 1.0  # seconds between two checks of a job


def show_job(audit: Audit, run: Run, label: str, command: str, *options: str, hidden: tuple[str, ...] = ()) -> None:
    """Shows the button ``label`` that starts a command for the run, or the running command, and the end of the last
    one.

    If the visitor may not start commands, it shows the command to type.
    """
    why_not = jobs.refusal()
    typed = command_line(command, audit, "--run", run.name, *options)
    if why_not:
        st.caption(why_not)
        st.code(typed, language="bash")
        return
    busy = jobs.running(audit, run.name)
    if busy is not None:
        _follow(busy)
        return
    last = jobs.latest(audit, run.name, command)
    if last is not None and last.state != "done":
        _show_end(last)
    if st.button(
        label,
        icon=":material/play_arrow:",
        key=f"start_{command}",
        help=f"Runs `{typed}` in a separate process.",
    ):
        try:
            jobs.start(audit, run.name, command, *options, hidden=hidden)
        except HardlookError as error:
            st.error(quoted(str(error), longest=1000), icon=":material/error:")
        else:
            st.rerun()


@st.fragment(run_every=LOOK_SECONDS)
def _follow(job: Job) -> None:
    """Shows the progress of a command, once a second; the page runs once when it has ended."""
    job = jobs.read(job.folder / f"{job.id}.json")
    if not job.is_live:
        st.rerun(scope="app")
    line = job.last_line() or "starting …"
    with st.container(border=True):
        st.text(f"{job.text} · {job.seconds:,.0f} s")
        share = job.progress()
        if share is not None:
            st.progress(share)
        st.caption(quoted(line, longest=300))
        if st.button(
            "Cancel",
            icon=":material/stop:",
            key=f"cancel_{job.id}",
            help="Interrupts the command. Finished parts are kept.",
        ):
            jobs.cancel(job)


def _show_end(job: Job) -> None:
    """Shows the end of a command that did not succeed."""
    words = {
        "cancelled": f"`{job.name}` was cancelled after {job.seconds:,.0f} s. Start it again to continue.",
        "lost": f"`{job.name}` ended without a message. It may have run out of memory, or the machine was turned off.",
    }
    message = words.get(job.state) or quoted(job.last_line() or f"ended with status {job.returncode}", longest=1000)
    (st.info if job.state == "cancelled" else st.error)(message, icon=":material/error:")
    tail = job.tail().strip()
    if job.state != "cancelled" and tail:
        with st.expander("Last output"):
            st.code(tail, language=None)
