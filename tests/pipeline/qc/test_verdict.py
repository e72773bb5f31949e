"""Thresholds, verdicts, takes and what people say of them."""

import pytest

from pipeline.common.errors import ManifestError
from pipeline.common.options import SettingError
from pipeline.manifest.clip import Clip
from pipeline.measure.metrics import METRICS
from pipeline.qc.retakes import Takes, reviewed, take_clip
from pipeline.qc.review import Review, read_reviews, take_that_counts
from pipeline.qc.verdict import judge, parse_thresholds
from tests.messages import faults

FINE = {"model_trained": True, "qc_version": "1", "status": "done", "clip_id": "a", "row": 1}


def row(take=1, **metrics):
    fingerprint = "0123456789ab" + (f"-{take}" if take > 1 else "")
    return FINE | {"fingerprint": fingerprint, "audio_duration": 2.0} | {f"qc_{k}": v for k, v in metrics.items()}


def test_columns_are_unique_and_every_limit_says_where_it_comes_from():
    assert len({metric.column for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.column.startswith("qc_")
        assert metric.text.endswith(".")
        if metric.rules:
            assert metric.origin, metric.column
            assert metric.advice, metric.column


def test_the_worst_reason_makes_the_verdict_and_comes_first():
    verdict = judge(row(flicker=2.0, black_seconds=0.5, blur=3.0))
    assert verdict.status == "fail"
    assert verdict.reasons == ("black_seconds_high", "flicker_high")
    assert verdict.messages[0].startswith("black_seconds is 0.5 s, above 0: check the portrait")
    assert verdict.seed_may_help
    assert judge(row(flicker=0.5, face_share=1.0)).status == "pass"
    assert judge(row(flicker=None)).status == "pass"


def test_another_seed_mends_no_sound():
    assert not judge(row(black_seconds=0.5, loudness_error_lu=1.0)).seed_may_help
    assert not judge(row(flicker=2.0)).seed_may_help  # for a look alone nothing is rendered again


def test_a_limit_may_be_wider_for_a_short_clip():
    short, long = row(loudness_error_lu=0.3) | {"audio_duration": 2.0}, row(loudness_error_lu=0.3)
    assert judge(short).status == "pass"
    failed = judge(long | {"audio_duration": 20.0})
    assert failed.messages[0].startswith("loudness_error_lu is 0.3 LU, above 0.1038: ")
    # A threshold of the config means what it says.
    assert judge(short, parse_thresholds(["loudness_error_lu > 0.2 fail"])).status == "fail"


def test_a_note_on_an_input_asks_for_a_review_if_its_level_says_so():
    noticed = {"input_notes": ["audio_gaps", "faces_alike"], "input_messages": ["a gap", "two faces"]}
    verdict = judge(row(black_seconds=0.5) | noticed)
    assert verdict.status == "fail"
    assert verdict.reasons == ("black_seconds_high", "faces_alike")
    assert verdict.messages[1] == "two faces"
    assert judge(row() | {"input_notes": ["audio_gaps"], "input_messages": ["a gap"]}).status == "pass"
    assert judge(row() | {"input_notes": ["of_a_later_version"], "input_messages": ["what"]}).status == "review"


def test_an_untrained_model_is_judged_by_its_file_alone():
    verdict = judge(row(black_seconds=0.5, face_share=0.0) | {"model_trained": False})
    assert (verdict.status, verdict.reasons) == ("review", ("model_untrained",))
    assert judge(row(loudness_error_lu=1.0) | {"model_trained": False}).status == "fail"


def test_thresholds_of_the_config_for_all_for_a_language_and_for_a_speaker():
    ours = parse_thresholds(
        [
            "lip_correlation < 0.4 review",
            "lip_correlation < 0.05 review language=ko",
            "lip_correlation < off review speaker=Anna Maria",
            "loudness_lufs < -24 fail",
        ]
    )

    def status(value, **who):
        return judge(row(lip_correlation=value) | who, ours).status

    assert status(0.3) == status(0.3, language="en") == "review"
    assert status(0.3, language="ko") == status(0.3, language="ko-KR") == "pass"
    assert status(0.3, language="kok") == "review"
    assert status(0.01, language="ko", speaker="Anna Maria") == "pass"
    assert judge(row(loudness_lufs=-30.0), ours).reasons == ("loudness_lufs_low",)


@pytest.mark.parametrize("text", ["blur", "blur > x review", "blurr > 1 review", "blur > 1 bad", "blur = 1 review"])
def test_a_threshold_that_cannot_be_read_is_refused_with_the_metrics(text):
    with pytest.raises(SettingError, match="lip_correlation") as caught:
        parse_thresholds([text])
    assert caught.value.key == "thresholds"


def test_a_later_take_has_a_seed_of_its_own_and_its_name_next_to_the_first():
    clip = Clip(1, "a", "p.png", "a.wav", None, 7, 10, 2.0, 1.0, 1.0, "auto", fingerprint="0123456789ab")
    second, third = take_clip(clip, 2), take_clip(clip, 3)
    assert take_clip(clip, 1) == clip
    assert second.fingerprint == "0123456789ab-2"
    assert len({clip.seed, second.seed, third.seed}) == 3
    assert take_clip(clip, 2) == second
    assert 0 <= second.seed < 2**63


def test_a_clip_that_fails_is_wanted_again_and_the_best_take_is_delivered():
    takes = Takes(max_takes=3)
    assert takes.add(row(1, black_seconds=0.5)) is None
    assert takes.next_takes() == [(1, 2, 2.0)]
    assert takes.next_takes() == []
    assert takes.add(row(2, black_seconds=0.5, face_share=0.5)) is None
    assert takes.next_takes() == [(1, 3, 2.0)]
    delivered = takes.add(row(3, black_seconds=0.5, face_share=0.5, seam_z=9.0))
    assert delivered["fingerprint"] == "0123456789ab"  # the one with the fewest reasons
    assert delivered["takes"] == 3
    assert [(r["fingerprint"][12:], r["delivered"]) for r in takes.story] == [("", True), ("-2", False), ("-3", False)]


def test_a_take_that_passes_ends_the_search():
    takes = Takes(max_takes=5)
    takes.add(row(1, black_seconds=0.5))
    takes.next_takes()
    assert takes.add(row(2, black_seconds=0.0))["qc_status"] == "pass"
    assert takes.next_takes() == []


def test_a_take_that_cannot_be_rendered_leaves_the_one_before():
    takes = Takes(max_takes=5)
    takes.add(row(1, black_seconds=0.5))
    takes.next_takes()
    delivered = takes.add(row(2) | {"status": "failed", "error_code": "timed_out"})
    assert (delivered["status"], delivered["qc_status"], delivered["takes"]) == ("done", "fail", 2)


def test_clips_left_open_end_with_their_best_take():
    takes = Takes(max_takes=5)
    takes.add(row(1, black_seconds=0.5))
    assert [r["qc_status"] for r in takes.rest()] == ["fail"]
    assert takes.rest() == []


def test_takes_of_an_earlier_run_are_weighed_when_all_are_there():
    takes = Takes(max_takes=2)
    takes.expect(1, 2)
    assert takes.add(row(2, black_seconds=0.0)) is None
    assert takes.add(row(1, black_seconds=0.5))["fingerprint"] == "0123456789ab-2"
    assert takes.next_takes() == []


def reviews(tmp_path, text):
    (tmp_path / "review.csv").write_text(text, encoding="utf-8")
    return read_reviews(str(tmp_path / "review.csv"))


def test_a_person_approves_what_fails_and_wants_again_what_passes(tmp_path):
    said = reviews(tmp_path, 'clip_id,take,verdict,comment\na,1,approved,"fine, leave it"\nb,1,Retake,looks away\n')
    takes = Takes(max_takes=1, reviews=said)
    approved = takes.add(row(1, black_seconds=0.5))
    assert (approved["qc_status"], approved["review"]) == ("pass", "approved")
    assert approved["review_comment"] == "fine, leave it"
    assert approved["qc_reasons"] == ["black_seconds_high"]
    b = {"clip_id": "b", "row": 2}
    assert takes.add(row(1) | b) is None  # beyond max_takes: a person asked
    assert takes.next_takes() == [(2, 2, 2.0)]
    delivered = takes.add(row(2, flicker=2.0) | b)
    assert delivered["fingerprint"].endswith("-2")  # worse by the metrics, but the first is not wanted
    assert delivered.get("review") is None


def test_a_person_who_rejects_the_second_take_does_not_get_the_first_one_that_failed(tmp_path):
    takes = Takes(max_takes=2, reviews=reviews(tmp_path, "clip_id,take,verdict\na,2,retake\n"))
    takes.expect(1, 2)
    assert takes.add(row(1, black_seconds=0.5)) is None
    assert takes.add(row(2)) is None
    assert takes.next_takes() == [(1, 3, 2.0)]
    delivered = takes.add(row(3, black_seconds=0.5))
    assert (delivered["qc_status"], delivered["takes"]) == ("fail", 3)  # one more was asked for, and not any number
    assert takes.next_takes() == []


def test_a_word_that_was_taken_back_counts_no_more():
    takes = Takes()
    before = row(1, black_seconds=0.5) | {"review": "approved", "review_comment": "fine", "qc_status": "pass"}
    again = takes.add(before)
    assert (again["review"], again["review_comment"], again["qc_status"]) == (None, None, "fail")


def test_the_story_has_what_people_said_and_which_take_is_delivered(tmp_path):
    takes = Takes(reviews=reviews(tmp_path, "clip_id,take,verdict,comment\na,1,retake,dull\na,2,approved,yes\n"))
    takes.add(row(1))
    takes.next_takes()
    assert takes.add(row(2, black_seconds=0.5))["review"] == "approved"
    told = [(r["review"], r["review_comment"], r["delivered"]) for r in takes.story]
    assert told == [("retake", "dull", False), ("approved", "yes", True)]


def test_a_review_counts_for_the_version_that_was_seen():
    seen = Review("c", 2, "approved", "", "0123456789ab-2")
    anyone = Review("c", 2, "retake", "")
    done = {"clip_id": "c", "status": "done"}
    assert reviewed(done | {"fingerprint": "0123456789ab-2"}, [anyone, seen])["review"] == "approved"
    assert reviewed(done | {"fingerprint": "ba9876543210-2"}, [anyone, seen])["review"] == "retake"
    assert "review" not in reviewed(done | {"fingerprint": "0123456789ab"}, [anyone, seen])


@pytest.mark.parametrize(
    ("verdicts", "takes", "expected"),
    [
        ({}, 2, 1),
        ({2: "approved"}, 2, 1),  # quality control has asked for it, and nobody for another one
        ({1: "retake"}, 1, 2),
        ({1: "retake", 2: "retake"}, 2, 3),
        ({1: "retake", 2: "retake", 3: "retake"}, 2, 3),  # there is no third take yet
        ({2: "retake"}, 2, 3),  # quality control has rejected the first one
        ({1: "retake", 3: "approved"}, 3, 3),
        ({1: "retake", 3: "approved"}, 1, 2),
        ({1: "retake"}, 0, 1),  # another version, which is to be rendered first
    ],
)
def test_the_take_from_which_the_rest_of_a_programme_goes_on_follows_from_the_reviews(verdicts, takes, expected):
    done = {"f", *(f"f-{take}" for take in range(2, takes + 1))} if takes else set()
    reviews = [Review("c", take, verdict, "") for take, verdict in verdicts.items()]
    assert take_that_counts(reviews, "f", done.__contains__) == expected


def test_a_line_without_a_take_is_about_the_first(tmp_path):
    said = reviews(tmp_path, "\ufeffverdict,clip_id\nretake,a\n")
    takes = Takes(reviews=said)
    takes.expect(1, 2)
    takes.add(row(1))
    assert takes.add(row(2))["fingerprint"].endswith("-2")
    assert takes.next_takes() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_id,comment\na,x\n", "no column verdict"),
        ("clip_id,verdict\na,good\n", "line 2, column verdict: 'good' is not one of approved, retake"),
        ("clip_id,verdict,take\na,retake,0\n", "line 2, column take: 0 is not an integer from 1"),
    ],
)
def test_a_review_that_cannot_be_read_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        reviews(tmp_path, text)


@pytest.mark.parametrize(
    "data",
    [
        b"Clip_ID;Take;Verdict;Comment\r\n7;1;Retake; dull\r\n;;;\r\n",
        "clip_id\ttake\tverdict\tcomment\r\n7\t1\tretake\tdull\r\n".encode("utf-16"),
        b"\xef\xbb\xbfclip_id,take,verdict,comment\r\n7,1.0,RETAKE,dull\r\n,,,\r\n",
    ],
)
def test_reviews_are_read_as_spreadsheets_save_them(tmp_path, data):
    (tmp_path / "review.csv").write_bytes(data)
    (review,) = read_reviews(str(tmp_path / "review.csv"))["7"]
    assert (review.take, review.verdict, review.comment) == (1, "retake", "dull")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_id,verdict,verdict\na,retake,approved\n", "column 'verdict' appears 2 times"),
        ("clip_id,verdict,comment\na,retake,dull, slow\n", "line 2: it has 4 values for 3 columns"),
        ("clip_id,verdict,comment\n,retake,dull\n", "line 2, column clip_id: a value is required"),
        ("clip_id,verdict,tak\na,retake,2\n", "column 'tak' looks like take"),
    ],
)
def test_a_review_whose_values_may_be_elsewhere_is_refused(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        reviews(tmp_path, text)


def test_names_that_the_report_wrote_with_an_apostrophe_are_read_without(tmp_path):
    said = reviews(tmp_path, "clip_id,verdict,comment\n'=1+1,retake,'-- dull\n''x,approved,'t is fine\n=2,approved,\n")
    assert {name: review.comment for name, (review,) in said.items()} == {
        "=1+1": "-- dull",
        "'x": "'t is fine",
        "=2": "",
    }


@pytest.mark.parametrize("data", [b"\xff\xfe\x00\x01", b"\xff\xfe\x00", b"\x00\x01", b"<html>", b"\xff\xd8\xff\xe0"])
def test_a_file_that_holds_no_reviews_is_refused_and_not_taken_for_an_empty_one(data, tmp_path):
    (tmp_path / "review.csv").write_bytes(data)
    with pytest.raises(ManifestError) as refused:
        read_reviews(str(tmp_path / "review.csv"))
    assert list(faults(str(refused.value))) == []


@pytest.mark.parametrize("data", [b"", b"\n\n", b"clip_id,take,verdict,comment\r\n", b"Clip_ID;Verdict\n;\n"])
def test_a_file_of_reviews_may_have_no_line_yet(data, tmp_path):
    (tmp_path / "review.csv").write_bytes(data)
    assert read_reviews(str(tmp_path / "review.csv")) == {}


def test_no_review_is_no_error(tmp_path):
    assert read_reviews(str(tmp_path / "review.csv")) == {}
