"""Languages of tracks."""

import pytest

from pipeline.media.languages import language_codes, same_language, track_language


@pytest.mark.parametrize(
    ("tag", "codes"),
    [
        ("en", ("eng",)),
        ("de-AT", ("deu", "ger")),
        ("PT-br", ("por",)),
        ("zh-Hant", ("zho", "chi")),
        ("cze", ("ces", "cze")),
        ("ces", ("ces", "cze")),
        ("gsw", ("gsw",)),
        ("und", ("und",)),
        ("tlh-x-court", ("tlh",)),
        ("xx", ("und",)),
        ("cmn", ("und",)),  # of ISO 639-3 alone
    ],
)
def test_a_tag_has_the_code_of_the_terminology_list_first(tag, codes):
    assert language_codes(tag) == codes


@pytest.mark.parametrize(
    ("tag", "in_mp4", "in_mov"),
    [("de-AT", "deu", "ger"), ("cs", "ces", "ces"), ("hr", "hrv", None), ("xx", "und", None), (None, "und", None)],
)
def test_a_track_has_the_language_as_its_container_writes_it(tag, in_mp4, in_mov):
    found = [track_language(tag, muxer) for muxer in ("mp4", "mov", "mxf")]
    assert found == [in_mp4, in_mov, None]


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ("de-AT", "ger", True),
        ("deu", "ger", True),
        ("de", "de-CH", True),
        ("de", "eng", False),
        ("nb", "nor", True),
        ("nb", "nno", False),
        ("no", "nor", True),
        ("yue", "yue", True),
        ("yue", "zho", False),
        ("de", "", False),
        ("xx", "und", False),
        ("und", "und", True),
    ],
)
def test_languages_are_compared_in_any_code(wanted, found, same):
    assert same_language(wanted, found) == same
