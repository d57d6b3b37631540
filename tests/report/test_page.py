from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pandas as pd
import pytest

from starsearch.errors import StudyError
from starsearch.report import render_page, write_report
from tests.report.frames import ACCURACY, BOTH, PARAMS, failed, frame, realistic_trials, trial

FACTS = {"study": "few", "data": "digits: 10 classes", "sampler": "tpe", "seed": "3"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def dumped_dom(path, profile):
    """The page as a headless Chromium has rendered it, and what it logged."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to render the page with")
@pytest.mark.parametrize(
    ("objectives", "figures"),
    [((ACCURACY,), ["front", "dimensions"]), (BOTH, ["front", "dimensions", "learning"])],
    ids=["one", "two"],
)
def test_a_real_browser_draws_the_figures_and_sorts_the_table_without_an_error(tmp_path, objectives, figures):
    write_report(tmp_path / "few", realistic_trials(), objectives, FACTS)
    page = tmp_path / "few" / "report.html"
    click = '<script>document.querySelectorAll("table.sortable th")[3].click()</script></body>'
    page.write_text(page.read_text().replace("</body>", click))

    dom, log = dumped_dom(page, tmp_path / "profile")

    assert "CONSOLE" not in log, log
    for name in figures:
        assert re.search(rf'id="figure-{name}"[^>]*>\s*<div[^>]*plot-container', dom), name
    assert dom.count('class="main-svg"') >= 2 * len(figures)
    assert dom.count('<path class="point"') > 30
    body = re.search(r'<table class="sortable">.*?<tbody>(.*?)</tbody>', dom, re.DOTALL)[1]
    shown = [float(re.findall(r'data-key="([^"]*)"', row)[2]) for row in body.split("</tr>") if "<td" in row]
    assert shown == sorted(shown)
    assert len(shown) > 5


def test_the_page_asks_nothing_of_any_network():
    # plotly.js itself names addresses (maps it could load); the page's own markup must hold none.
    page = re.sub(
        r"<script>.*?</script>", "", render_page(realistic_trials(), BOTH, FACTS, title="few"), flags=re.DOTALL
    )
    assert not re.search(r"https?://|@import|url\(", page)
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=", page)


def test_plotly_is_embedded_once():
    assert render_page(realistic_trials(), BOTH, FACTS, title="few").count("* plotly.js v") == 1


class Elements(HTMLParser):
    """The elements of a page as a browser's parser finds them, with their attributes' names."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *(name for name, _ in attributes)))


def page_with(text):
    """A page in which every text that a user or a device can choose is `text`."""
    rows = [trial(0), trial(1, top1_percent=70.0, latency_ms=9.0), trial(2, feasible=False), failed(3, text)]
    rows[1] |= {"architecture_text": text, "anchor": text, "params_ops.0": text}
    rows = [row | {"latency_ms_device": text, f"params_{text}": float(row["number"])} for row in rows]
    return render_page(frame(rows), BOTH, {text: text}, title=text, commands=[text])


def test_text_of_the_study_cannot_become_markup():
    attack = "</script><script>alert('x')</script><img src=x onerror=alert(1)></td></textarea>"
    assert Elements(page_with(attack)).found == Elements(page_with("harmless")).found


def test_all_files_are_written_and_read_back(tmp_path):
    trials = realistic_trials()
    files = write_report(tmp_path / "few", trials, BOTH, FACTS, commands=["starsearch run few.yaml --name few"])
    assert [path.name for path in files] == ["trials.csv", "front.csv", "front.png", "report.html"]
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == sorted(path.name for path in files)
    pd.testing.assert_series_equal(pd.read_csv(files[0])["top1_percent"], trials["top1_percent"])
    assert {"anchor", "rank", "gain_latency_ms"} <= set(pd.read_csv(files[1]))
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert "starsearch run few.yaml --name few" in files[3].read_text()


@pytest.mark.parametrize(
    "trials",
    [pd.DataFrame(), frame([failed(0), failed(1)]), frame([trial(0)]), frame([trial(0, latency_ms=float("nan"))])],
    ids=["none", "all failed", "one", "unmeasured"],
)
@pytest.mark.parametrize("objectives", [(ACCURACY,), BOTH, (*BOTH, PARAMS)], ids=["one", "two", "three"])
def test_files_are_written_however_little_there_is(tmp_path, trials, objectives):
    files = write_report(tmp_path, trials, objectives, {})
    assert all(path.stat().st_size > 0 for path in files)


def test_without_a_front_the_page_says_so_in_words():
    page = render_page(frame([failed(0)]), BOTH, FACTS, title="few")
    assert "No front" in page
    assert "The loss became NaN in epoch 2." in page


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"Cannot write .*trials\.csv: .*\. The trials are safe"):
        write_report(tmp_path / "file", frame([trial(0)]), BOTH, FACTS)


@pytest.mark.skipif(os.name != "posix", reason="needs /dev/full, a disk that is always full")
def test_a_failed_write_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    write_report(tmp_path, frame([trial(0)]), BOTH, FACTS)
    before = (tmp_path / "trials.csv").read_bytes()
    (tmp_path / f".trials.csv.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(StudyError, match="No space left"):
        write_report(tmp_path, frame([trial(0), trial(1)]), BOTH, FACTS)
    assert (tmp_path / "trials.csv").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
