import pytest

from starsearch.errors import SpecError
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.prediction.imported import read_measurements, save_samples

WIDE = "starnet:embed_dim=24,depths=2-2-8-3,ops=sum"


@pytest.fixture
def write(tmp_path):
    def _write(text, encoding="utf-8"):
        path = tmp_path / "phone.csv"
        path.write_text(text, encoding=encoding)
        return path

    return _write


def test_names_and_lines_are_read_as_canonical_text_with_what_is_known(write):
    (first, second), _ = read_measurements(
        write(f'architecture,ms,app,pairs,spread_ms\nstarnet_s1,0.7,x,40,0.01\n"{WIDE}",1.25,x,,\n')
    )
    assert (first.ms, first.pairs, first.spread_ms) == (0.7, 40, 0.01)
    assert parse_architecture(first.architecture) == parse_architecture("starnet_s1")
    assert (second.ms, second.pairs, second.spread_ms) == (1.25, 0, None)
    assert second.architecture == format_architecture(parse_architecture(WIDE))
    path = write("")
    save_samples([first, second], path)
    assert read_measurements(path) == ((first, second), None)
    # A spreadsheet's mark and line ends do no harm.
    (sample,), _ = read_measurements(write("architecture,ms\r\nstarnet_s2, 1.5\r\n", encoding="utf-8-sig"))
    assert sample.ms == 1.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("architecture,ms\nstarnet_s1,1\nstarnet_s9,2\n", ["line 3", "'starnet_s9'", "Did you mean 'starnet_s"]),
        ('architecture,ms\n"starnet:depht=2",1\n', ["line 2", "Unknown field 'depht'", "Did you mean 'depths'"]),
        (f"architecture,ms\n{WIDE},1\n", ["line 2", "in quotes"]),
        ("architecture,latency\nstarnet_s1,1\n", ["column 'ms'", "architecture, latency"]),
        ("architecture;ms\nstarnet_s1;1\n", ["column 'architecture'", "architecture;ms", "commas"]),
        ("", ["column 'architecture'", "none"]),
        ("architecture,ms\n", ["no latencies"]),
        ("architecture,ms\nstarnet_s1\n", ["line 2", "ms must be a number above 0; got None"]),
        ("architecture,ms\nstarnet_s1,fast\n", ["line 2", "ms must be a number above 0; got 'fast'"]),
        ("architecture,ms\nstarnet_s1,0\n", ["number above 0; got '0'"]),
        ("architecture,ms\nstarnet_s1,nan\n", ["number above 0; got 'nan'"]),
        ("architecture,ms\nstarnet_s1,\n", ["no latencies"]),
        ("architecture,ms,resolution\nstarnet_s1,1,224\nstarnet_s2,1,64\n", ["[64, 224] px", "one resolution"]),
        ("architecture,ms,pairs\nstarnet_s1,1,2.5\n", ["pairs must be a whole number"]),
        ("architecture,ms,spread_ms\nstarnet_s1,1,-1\n", ["spread_ms must be a number from 0 on"]),
        (b"\xff\xfe\x00\x81", ["no CSV file"]),
    ],
)
def test_a_file_that_breaks_a_rule_names_line_and_rule(write, text, words):
    path = write("" if isinstance(text, bytes) else text)
    if isinstance(text, bytes):
        path.write_bytes(text)
    with pytest.raises(SpecError) as caught:
        read_measurements(path)
    for word in ["phone.csv", *words]:
        assert word in str(caught.value)
