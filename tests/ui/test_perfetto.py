"""The bundled viewer: its own files, the trace, and no word to anyone else."""

import urllib.error
import urllib.request

import pytest

from ui import perfetto

pytestmark = pytest.mark.skipif(
    not perfetto.installed(), reason="the viewer is not there: pip install -e '.[trace]'"
)


def read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read(), answer.headers


def test_it_serves_viewer_and_trace_to_this_machine_only():
    url = perfetto.serve(b"\x1f\x8btrace")
    assert url.startswith("http://127.0.0.1:")
    page, headers = read(url)
    assert b"<html" in page.lower()
    policy = headers["Content-Security-Policy"]
    assert "http" not in policy
    assert "default-src 'self'" in policy
    assert read(url + "localtrace")[0] == b"\x1f\x8btrace"
    assert read(url + "file_info")[0] == b"{}"
    with pytest.raises(urllib.error.HTTPError):
        read(url + "../../../etc/passwd")


def test_the_oldest_viewer_closes():
    first = perfetto.serve(b"one")
    for _ in range(perfetto.MOST_OPEN):
        perfetto.serve(b"more")
    with pytest.raises(OSError, match="refused"):
        read(first + "localtrace")
