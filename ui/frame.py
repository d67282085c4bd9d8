"""What all pages have in common: navigation, the question in a line, problems, downloads, runs."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import streamlit as st

from topologies.errors import MeshwrightError, SpecError
from ui import session
from ui.background import office
from ui.export import csv_text, html_text
from ui.permalink import left_out
from ui.question import further
from ui.words import GLOSSARY, of_page, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import plotly.graph_objects as go
    from streamlit.delta_generator import DeltaGenerator

    from ui.background import Run, Status
    from ui.question import Question

#: Pages by module, and the one that opens; each is imported when it is first shown.
PAGES = {
    "plan": "Plan",
    "layout": "Layout",
    "timeline": "Timeline",
    "topology": "Topology",
    "scaling": "Scaling",
    "accuracy": "Calibrate & accuracy",
}
FIRST = "plan"
#: Seconds between two looks at a run.
LOOK_S = 0.4


def run() -> None:
    """Show the page of the address."""
    st.set_page_config(page_title="Meshwright", page_icon="🕸️", layout="wide")
    titles = {name: title for name, title in PAGES.items() if name != FIRST}
    pages = [st.Page(partial(_page, FIRST), title=PAGES[FIRST], url_path=FIRST, default=True)]
    pages += [st.Page(partial(_page, n), title=t, url_path=n) for n, t in titles.items()]
    chosen = st.navigation(pages, position="top")
    st.html(_STYLE)
    with guarded():
        chosen.run()
    office().prepare()


def _page(name: str) -> None:
    import_module(f"ui.{name}").show()


#: Figures of equal width; room for tables where the screen is wide; what the keyboard is at.
_STYLE = """<style>
[data-testid="stMetricValue"], [data-testid="stTable"], .stMarkdown
  {font-variant-numeric: tabular-nums}
[data-testid="stMainBlockContainer"] {padding-top: 4.2rem; padding-bottom: 3rem}
:is(a, button, summary, canvas, [role="tab"], [role="radio"]):focus-visible
  {outline: 2px solid #3f9bd8 !important; outline-offset: 1px}
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] {padding-left: .8rem; padding-right: .8rem}
}
</style>"""


@contextmanager
def guarded() -> Iterator[None]:
    """Show what a user can mend as sentences, never as a traceback."""
    try:
        yield
    except SpecError as error:
        problems(map(str, error.problems))
    except MeshwrightError as error:
        problems([str(error)])


def problems(sentences: Any) -> None:  # noqa: ANN401 - any iterable of words
    """Show what is wrong, each with its mend."""
    lines = [f"- {plain(of_page(sentence))}" for sentence in sentences]
    if lines:
        st.error("This cannot be answered as it stands:\n" + "\n".join(lines))


def asked(question: Question) -> None:
    """Show what is asked in a line; for pages that do not ask themselves."""
    model = question.own_model.name if question.own_model else question.model
    cluster = question.own_cluster.name if question.own_cluster else question.cluster
    edits = " with changed links" if question.edits and not question.own_cluster else ""
    words = further(question)
    st.caption(
        f"{plain(model)} on {plain(question.gpus)} accelerators of {plain(cluster)}{edits}, "
        f"{plain(question.global_batch)} sequences of {plain(question.seq_len)} tokens a step, "
        f"{plain(question.precision)}{f'; {words}' if words else ''}. Change it on the page *Plan*."
    )
    short_names()


def short_names() -> None:
    """Offer what the short names of axes and figures mean."""
    with st.popover("What the short names mean", type="tertiary", icon=":material/help:"):
        st.markdown("\n".join(f"- **{name}**: {means}" for name, means in GLOSSARY.items()))


def link_notes() -> None:
    """Say what the opened link had that is not known, and which files its own link lacks."""
    for problem in st.session_state.get("link_problems", ()):
        st.warning(plain(problem))
    if long := left_out(st.session_state.state):
        names = ", ".join(f"{plain(each.name)} (digest {each.digest})" for each in long)
        st.info(
            f"Too long for a link: {names}. The address of this page has its name and digest only, "
            "so whoever opens it is asked for the same file."
        )


def downloads(name: str, files: Mapping[str, tuple[str, str | Callable[[], Any]]]) -> None:
    """Offer files.

    Parameters
    ----------
    name
        Tells these from the page's others.
    files
        For each label the file's name and its content, or what makes it once it is wanted.
    """
    row = st.container(horizontal=True)
    for text, (file, content) in files.items():
        download(row, text, file, content, f"{name}-{file}")


def download(
    row: DeltaGenerator, text: str, file: str, content: str | Callable[[], Any], name: str
) -> None:
    """Offer one file in a row of such."""
    row.download_button(
        text,
        content,
        file_name=file,
        key=f"download-{name}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )


def figure(
    made: go.Figure,
    name: str,
    alt: str,
    rows: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    **options: Any,  # noqa: ANN401 - streamlit's own, as what it returns
) -> Any:  # noqa: ANN401
    """Show a figure, and offer it as a page of its own, and what it shows as a table.

    Parameters
    ----------
    made, name
        The figure, and what tells it from the page's others.
    alt
        What it shows, in words.
    rows
        What makes its table; None where one is beside it.
    options
        Streamlit's own.
    """
    config = {
        "displaylogo": False,
        "toImageButtonOptions": {"format": "svg", "filename": f"meshwright-{name}"},
        "modeBarButtonsToRemove": ["lasso2d", "autoScale2d"],
    }
    drawn = st.plotly_chart(
        made, key=session.key(f"figure-{name}"), config=config, alt=alt, **options
    )
    row = st.container(horizontal=True)
    download(
        row,
        "Figure, HTML",
        f"meshwright-{name}.html",
        partial(html_text, made, alt),
        f"{name}-html",
    )
    if rows is not None:
        _as_table(row, name, alt, rows)
    return drawn


def _as_table(
    row: DeltaGenerator, name: str, alt: str, rows: Callable[[], Sequence[Mapping[str, Any]]]
) -> None:
    file = f"meshwright-{name}.csv"
    download(row, "CSV", file, lambda: csv_text(rows()), f"{name}-csv")
    more = row.popover(
        "As a table",
        type="tertiary",
        icon=":material/table:",
        key=session.key(f"table-{name}"),
        on_change="rerun",
    )
    if more.open:
        with more:
            st.dataframe(rows(), hide_index=True, alt=alt)


def watched(run: Run, words: Callable[[Status], str]) -> Status | None:
    """Return how a run ended; while it goes on, show how far it is and offer to stop it.

    Parameters
    ----------
    run
        The run.
    words
        How far it is, in words.
    """
    status = run.status()
    if not status.over:
        _progress(run, words)
        return None
    if status.phase == "refused":
        problems(status.problems)
    elif status.phase == "stopped":
        st.warning(" ".join(map(plain, status.problems)))
    elif status.phase == "failed":
        st.error(" ".join(map(plain, status.problems)))
    return status if status.phase == "done" else None


@st.fragment(run_every=LOOK_S)
def _progress(run: Run, words: Callable[[Status], str]) -> None:
    status = run.status()
    if status.over:
        st.rerun()
    waiting = status.phase == "waiting"
    text = "Waiting for a free core" if waiting else words(status)
    share = _share(status.progress)
    row = st.container(horizontal=True, vertical_alignment="center")
    with row:
        if share is None:
            st.info(f"{text} ({status.seconds:.0f} s)", icon=":material/hourglass_top:")
        else:
            st.progress(share, text=f"{text} ({status.seconds:.0f} s)")
        if st.button("Stop", key=f"stop-{id(run)}", icon=":material/stop_circle:"):
            run.stop()
            st.rerun()


def _share(progress: object) -> float | None:
    if isinstance(progress, tuple) and len(progress) == 2 and progress[1]:
        return min(float(progress[0]) / float(progress[1]), 1.0)
    return None
