"""Pages without a browser: streamlit's simulated app, built as streamlit builds it in a run."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner_utils.script_run_context import (
    SCRIPT_RUN_CONTEXT_ATTR_NAME,
    ScriptRunContext,
    add_script_run_ctx,
)
from streamlit.runtime.state import SafeSessionState, SessionState
from streamlit.testing.v1 import AppTest


def of_function(function, **kwargs):
    """Return the simulated app of a function."""
    with _within_a_run():
        return AppTest.from_function(function, kwargs=kwargs, default_timeout=60)


def of_file(path):
    """Return the simulated app of a file."""
    with _within_a_run():
        return AppTest.from_file(path, default_timeout=60)


@contextmanager
def _within_a_run():
    """Be in a run of a script: an app's first value, that of its own, is set as if by one."""
    thread = threading.current_thread()
    add_script_run_ctx(thread, _context())
    try:
        yield
    finally:
        delattr(thread, SCRIPT_RUN_CONTEXT_ATTR_NAME)


def _context():
    return ScriptRunContext(
        session_id="test",
        _enqueue=lambda _: None,
        query_string="",
        session_state=SafeSessionState(SessionState(), lambda: None),
        uploaded_file_mgr=MemoryUploadedFileManager("/files"),
        main_script_path="",
        user_info={},
        fragment_storage=MemoryFragmentStorage(),
        pages_manager=PagesManager(""),
    )
