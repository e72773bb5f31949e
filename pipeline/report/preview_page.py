"""preview.html: the clips of a preview, what was chosen and why, and what the whole manifest will cost.

Like all static pages it has no script; its videos are files next to it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.common.redaction import redacted
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.manifest.clip import Clip
from pipeline.manifest.emotion_spans import in_words, text_in_words
from pipeline.manifest.reader import Rejected
from pipeline.report.html import cell, document, escaped, facts, paragraph, relative, table
from pipeline.storage.objects import write_bytes
from pipeline.storage.uris import join

PAGE = "preview.html"

MOST_REJECTED = 1_000
"""Number of rejected rows that are listed one by one."""

SIGNS = {"pass": "✓ pass", "review": "? review", "fail": "✕ fail"}
"""A verdict, not by its colour alone."""


@dataclass(frozen=True)
class Previewed:
    """A clip of the preview."""

    row: ClipRow
    """What became of it."""
    clip: Clip
    """What the whole run would render."""
    reason: str
    """Why it was chosen."""


@dataclass(frozen=True)
class Preview:
    """Everything that the page shows."""

    output: str
    """Folder of the preview."""
    clips: Sequence[Previewed]
    preset: str
    """Delivery preset of the whole run, for rows that name none."""
    told: str
    """A sentence about the choice."""
    estimate: Sequence[tuple[str, str]]
    """What the whole manifest needs, by names."""
    remarks: Sequence[str]
    """Sentences about what the estimate is from, and what it leaves out."""
    command: str
    """The command for the whole run."""
    rejected: Sequence[Rejected] = ()
    """The first rows of the manifest that cannot be rendered."""
    rejected_rows: int = 0
    """How many there are."""
    about: Sequence[tuple[str, object]] = ()


def write_preview(preview: Preview) -> str:
    """Write the page and return its URI."""
    uri = join(preview.output, PAGE)
    write_bytes(page(preview).encode(), uri)
    return uri


def page(preview: Preview) -> str:
    """The HTML of the page."""
    estimate = [
        "<h2>The whole manifest</h2>",
        facts(preview.estimate),
        *(paragraph(remark, "soft") for remark in preview.remarks),
        "<h3>Command</h3>",
        f"<p><code>{escaped(redacted(preview.command))}</code></p>",
    ]
    clips = "".join(_card(preview, one) for one in preview.clips)
    parts = [
        '<div class="beside">',
        f'<section>\n<h2>Clips</h2>\n{paragraph(preview.told, "soft")}\n<ul class="cards">{clips}</ul>\n</section>',
        f"<aside>{''.join(estimate)}</aside>",
        "</div>",
        *_rejected(preview),
    ]
    return document("Preview", parts, preview.about)


def _card(preview: Preview, one: Previewed) -> str:
    row, clip = values_of(one.row), one.clip
    name = escaped(clip.clip_id)
    if row["status"] == "done":
        source = relative(row["uri"], preview.output)
        seen = (
            f'<video controls autoplay loop muted playsinline preload="metadata" src="{source}" '
            f'aria-label="Preview of {name}"></video>'
        )
    else:
        seen = f'<p class="fail">{escaped(row["status"])}: {escaped(row["error_code"])}</p>'
    messages = [row["error_message"]] if row["status"] != "done" else row.get("qc_messages") or []
    kind = "fail" if row["status"] != "done" else row.get("qc_status") or ""
    verdict = paragraph(SIGNS[kind], kind) if row["status"] == "done" and kind in SIGNS else ""
    said = "".join(f"<li>{escaped(text)}</li>" for text in (*messages, *(row.get("input_messages") or ())))
    return (
        f"<li>{seen}\n<h3><bdi>{name}</bdi></h3>\n{paragraph(f'Shows {one.reason}', 'soft')}{verdict}"
        f"{f'<ul>{said}</ul>' if said else ''}\n{facts(_settings(preview, one))}</li>\n"
    )


def _settings(preview: Preview, one: Previewed) -> Iterable[tuple[str, object]]:
    row, clip = values_of(one.row), one.clip
    length = row.get("duration")
    whole = clip.slot.seconds if clip.slot is not None else row.get("audio_duration")
    seconds = "" if length is None or whole is None else f"{float(length):.2f} of {float(whole):.2f} s"
    emotion = _emotion(row.get("emotion"))
    source = f" (from {row['emotion_source']})" if row.get("emotion_source") in ("speech", "image") else ""
    scales = f"audio {clip.a_cfg_scale:g}, emotion {clip.e_cfg_scale:g}, reference {clip.r_cfg_scale:g}"
    return [
        ("row", clip.row),
        ("language", clip.language),
        ("speaker", clip.speaker),
        ("emotion", f"{emotion}{source}" if emotion else ""),
        ("seed", clip.seed),
        ("guidance", scales),
        ("steps (nfe)", f"{row['nfe']} here, {clip.nfe} in the whole run"),
        ("shown", seconds),
        ("delivered as", f"{clip.preset or preview.preset}, {'full frame' if clip.frame == 'full' else 'the square'}"),
        ("time code", clip.timecode),
        ("face", "" if clip.crop == "none" or clip.face == "largest" else clip.face),
        ("faces", "; ".join(face.face for face in clip.faces)),
        ("image", clip.image.rpartition("/")[2]),
        ("audio", ", ".join(audio.rpartition("/")[2] for audio in clip.sounds) or "none: the person listens"),
    ]


def _emotion(text: str | None) -> str:
    """The column `emotion` of a row, in words."""
    told = text_in_words(text) or ""
    return in_words(json.loads(told)) if told.startswith("{") else told


def _rejected(preview: Preview) -> Iterable[str]:
    if not preview.rejected_rows:
        return ["<h2>Rejected rows</h2>", paragraph("None: every row of the manifest can be read.", "soft")]
    rows = [
        [cell(one.row, "number"), cell(one.clip_id), cell(one.error.code), cell(one.error.message)]
        for one in preview.rejected
    ]
    more = preview.rejected_rows - len(rows)
    return [
        "<h2>Rejected rows</h2>",
        paragraph(f"{preview.rejected_rows} rows of the manifest cannot be rendered.", "fail"),
        table("Rejected rows", ("row", "clip", "code", "what to change"), rows),
        *([paragraph(f"... and {more} more: --check lists all of them", "soft")] if more else []),
    ]
