"""The input of a file, and what is said of one that a link asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from topologies.errors import SpecError
from ui.frame import problems
from ui.session import key
from ui.uploads import LARGEST_BYTES, received
from ui.words import plain

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from ui.question import Document


def upload(
    kind: str, title: str, types: list[str], kept: Document | None, name: str
) -> Document | None:
    """Return the file that is given or was; what is too large or no text is refused."""
    if kept is not None and not kept.missing:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.markdown(f":material/description: {plain(kept.name)}, {len(kept.text):,} letters")
        return None if row.button("Remove", key=key(f"remove-{name}")) else kept
    if kept is not None:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.warning(wanted(kept))
        if row.button("Do without it", key=key(f"remove-{name}")):
            return None
    with st.popover(title, icon=":material/upload:", type="tertiary"):
        given: UploadedFile | None = st.file_uploader(
            f"A file of at most {LARGEST_BYTES[kind] / 1e6:g} MB. It stays in this session.",
            type=types,
            key=key(name),
            max_upload_size=-(-LARGEST_BYTES[kind] // 2**20),
        )
    if given is None:
        return kept
    try:
        document = received(kind, given.name, given.getvalue())
    except SpecError as error:
        problems(map(str, error.problems))
        return kept
    note_another(kept, document)
    return document


def wanted(document: Document) -> str:
    """Return the sentence that asks for a file that a link only names."""
    return (
        f"The link was made with {plain(document.name)} (digest {document.missing}), which is too "
        "long for a link: give that file again."
    )


def note_another(asked: Document | None, given: Document) -> None:
    """Note that a file is not the one that a link asked for, for all pages to say."""
    if asked is not None and asked.missing not in ("", given.digest):
        st.session_state.link_problems = (
            *st.session_state.get("link_problems", ()),
            f"{given.name} (digest {given.digest}) is not the file that the link was made with: "
            f"that was {asked.name} (digest {asked.missing}).",
        )
