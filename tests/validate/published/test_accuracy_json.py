"""The text of accuracy's JSON: read back it is the same, and a change of one row is one line."""

import json
import math

from validate.published.accuracy_json import json_text

CONTENT = {
    "overall": {"n": 2, "bias": 0.123456789},
    "by_source": {"a": {"n": 1}, "b": {"n": 1}},
    "peers": [],
    "rows": [
        {"id": "1", "measured": 5.04658657e10, "interval": [1.0, 2.0], "error": None},
        {"id": "2", "measured": -0.0001234567, "interval": None, "error": math.nan},
    ],
}


def test_numbers_are_rounded_and_all_else_is_as_it_was():
    read = json.loads(json_text(CONTENT))
    assert read["overall"] == {"n": 2, "bias": 0.12346}
    assert read["rows"][0] == CONTENT["rows"][0] | {"measured": 5.0466e10}
    assert read["rows"][1] == CONTENT["rows"][1] | {"measured": -0.00012346, "error": None}
    assert (read["by_source"], read["peers"]) == (CONTENT["by_source"], [])


def test_a_row_is_a_line():
    lines = json_text(CONTENT).splitlines()
    assert sum('"id"' in line for line in lines) == 2
    other = {**CONTENT, "rows": [*CONTENT["rows"][:1], {"id": "3"}]}
    assert len(set(lines) ^ set(json_text(other).splitlines())) == 2
