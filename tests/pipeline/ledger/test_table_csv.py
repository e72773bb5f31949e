"""clips.csv: what a spreadsheet opens, and never in the place of somebody else's file."""

import csv
import io

from pipeline.ledger import table_csv
from pipeline.ledger.table import RowSpool, write_table
from pipeline.ledger.table_csv import write_csv
from pipeline.storage import objects


def rows(count):
    text = {"qc_reasons": ["a", "b"], "notes": {"x": 1}, "market": "=cmd", "language": "ü"}
    return RowSpool(
        [{"clip_id": f"-{n}", "row": n, "status": "done", "duration": 1.5} | text for n in range(1, count + 1)]
    )


def test_a_short_table_is_also_a_csv_file(output):
    uri = write_csv(write_table(rows(2), output))
    assert uri == f"{output}/clips.csv"
    data = objects.read_bytes(uri)
    assert data.decode().startswith(table_csv.BEGINNING)
    first, second = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
    assert (first["clip_id"], first["row"], first["duration"], first["language"]) == ("'-1", "1", "1.5", "ü")
    assert (first["qc_reasons"], first["notes"], first["market"]) == ("a; b", '{"x": 1}', "'=cmd")
    assert second["clip_id"] == "'-2"
    assert first["error_code"] == ""
    assert write_csv(write_table(rows(1), output)) == uri  # replaces its own
    assert len(objects.read_bytes(uri).splitlines()) == 2


def test_a_long_table_has_none_and_the_old_one_goes(output, monkeypatch):
    table = write_table(rows(3), output)
    write_csv(table)
    monkeypatch.setattr(table_csv, "MOST_ROWS", 2)
    assert write_csv(table) == ""
    assert "clips.csv" not in set(objects.list_folder(output))


def test_a_file_of_somebody_else_stays(output):
    objects.write_bytes(b"clip_id,image,audio\n", f"{output}/clips.csv")
    assert write_csv(write_table(rows(1), output)) == ""
    assert objects.read_bytes(f"{output}/clips.csv") == b"clip_id,image,audio\n"


def test_a_folder_in_its_place_is_left_alone(tmp_path):
    (tmp_path / "clips.csv").mkdir()
    assert write_csv(write_table(rows(1), str(tmp_path))) == ""
