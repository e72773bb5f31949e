"""Static pages: every text is escaped, and nothing runs or is loaded."""

import base64
import hashlib
import re

from pipeline.report.charts import dot_chart, line_chart
from pipeline.report.html import cell, document, embedded_image, paragraph, policy, text_table

HOSTILE = "</td><script>alert('\"owned\"')</script>"


def test_no_text_becomes_html():
    page = document(
        HOSTILE,
        [
            paragraph(HOSTILE, "note"),
            cell(HOSTILE),
            text_table(HOSTILE, [HOSTILE], [[HOSTILE]]),
            embedded_image(HOSTILE, b"\xff\xd8"),
            line_chart(HOSTILE, [0, 1], {HOSTILE: [1, 2]}, HOSTILE),
            dot_chart(HOSTILE, [(HOSTILE, 1.0, None, None)]),
        ],
        [(HOSTILE, HOSTILE)],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 14


def test_the_policy_allows_the_pages_own_style_and_no_script():
    page = document("A page", [])
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert "script-src" not in page
    assert "script-src 'sha256-" in policy("", "let a = 1")


def test_columns_of_numbers_are_marked():
    table = text_table("counts", ("name", "count"), [("a", 1), ("b", 2)], (1,))
    assert table.count('<td class="number">') == 2
    assert table.count("<tr>") == 3


def test_curves_leave_out_what_is_not_finite():
    drawn = line_chart("x", [1, 2, 3], {"": [1.0, float("nan"), 2.0]}, "step")
    assert len(re.search('points="(.*?)"', drawn)[1].split()) == 2
    assert "not finite" in line_chart("x", [1], {"": [float("inf")]}, "step")
