import base64
import gzip
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from starsearch.errors import StudyError
from starsearch.families.family import count_macs, presets
from starsearch.report.files import write_report
from starsearch.report.page import page_figures, render_page
from tests.report.frames import ACCURACY, BOTH, PARAMS, failed, frame, realistic_trials, trial, view
from tests.search.studies import make_spec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def dumped_dom(address, profile):
    """The page as a headless Chromium has rendered it, and what it logged."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), "--window-size=1280,900", f"--user-data-dir={profile}", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to render the page with")
def test_a_real_browser_draws_every_figure_and_compares_two_networks_without_an_error(tmp_path):
    study = view(realistic_trials())
    write_report(study, tmp_path / "few")
    dom, log = dumped_dom((tmp_path / "few" / "report.html").as_uri() + "#proxy%205,proxy%206", tmp_path / "profile")
    assert "CONSOLE" not in log, log
    figures = page_figures(study)
    assert list(figures) == ["front", "volume", "compute", "matters top1_percent", "matters latency_ms"]
    # The comparison's own figure comes on top.
    assert len(re.findall(r'<div[^>]* class="[^"]*js-plotly-plot', dom)) == len(figures) + 1
    assert dom.count('<path class="point ') > 30
    (row,) = re.findall(r">Top-1 \(%\)</th>(.*?)</tr>", dom[dom.index('id="compare"') :])[:1]
    left, right, change = re.findall(r"<td[^>]*>(.*?)</td>", row)
    one, other = study.trials["top1_percent"][[5, 6]].round(2)
    assert (left, right) == (f"{one:.2f}", f"{other:.2f}")
    assert float(change.replace("−", "-")) == pytest.approx(other - one, abs=0.011)


def test_the_page_asks_nothing_of_any_network_and_embeds_plotly_once():
    page = render_page(view(realistic_trials()), title="few")
    assert page.count("* plotly.js v") == 1
    # plotly.js itself names addresses (maps it could load); the page's own markup must hold none.
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"https?://|@import|url\(", markup)
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=", markup)
    assert "<dt>recipe</dt><dd>epochs: 2," in page, "the fidelity's epochs, not the recipe's 5"


def data_of(page):
    """What the page's script reads."""
    (packed,) = re.findall(r'<script id="data" type="text/plain">(.*?)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_script_is_given_each_networks_stages_with_the_networks_own_cost():
    study = view(realistic_trials())
    data = data_of(render_page(study, title="few"))
    assert data["cost"] == "MMACs"
    assert data["trials"]["number"] == list(range(33)), "the last of 34 has failed"
    at = data["trials"]["text"].index("starnet_s1")
    stages = data["networks"][data["trials"]["network"][at]]
    assert [stage[:5] for stage in stages] == [  # "Rewrite the Stars", table 5: S1 is 24 channels, depths 2, 2, 8, 3
        ["stem", 32, 112, 0, ""],
        ["stage 1", 24, 56, 2, "star"],
        ["stage 2", 48, 28, 2, "star"],
        ["stage 3", 96, 14, 8, "star"],
        ["stage 4", 192, 7, 3, "star"],
        ["head", 1000, 1, 0, ""],
    ]
    millions = sum(sum(stage[5].values()) for stage in stages)
    assert millions == pytest.approx(count_macs(presets()["starnet_s1"]) / 1e6, rel=1e-3)


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
    spec = replace(make_spec(), data=text, objectives=BOTH)
    study = view(frame(rows), spec=spec, attributes={"conditions": {"data": text}, "command": text, "sampler": text})
    return render_page(study, title=text)


def test_text_of_the_study_cannot_become_markup():
    attack = "</script><script>alert('x')</script><img src=x onerror=alert(1)></td></textarea>"
    assert Elements(page_with(attack)).found == Elements(page_with("harmless")).found


def test_all_files_are_written_and_read_back(tmp_path):
    trials = realistic_trials()
    files = write_report(view(trials, attributes={"command": "starsearch run few.yaml --name few"}), tmp_path / "few")
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
    files = write_report(view(trials, objectives), tmp_path)
    assert all(path.stat().st_size > 0 for path in files)


def test_what_was_not_promoted_is_listed_apart_from_the_highest_fidelity(tmp_path):
    proxy = frame([trial(n, top1_percent=60.0 + n, latency_ms=5.0 + n) for n in range(5)])
    full = proxy[proxy["number"].isin([0, 1])].assign(fidelity="full")
    study = view(full, lower=(view(proxy),))
    _, front, _, page = write_report(study, tmp_path)
    assert pd.read_csv(front)["fidelity"].tolist() == ["full"] * 2 + ["proxy"] * 3
    assert "At proxy only" in page.read_text()


def test_without_a_front_the_page_says_so_in_words():
    page = render_page(view(frame([failed(0)])), title="few")
    assert "No front" in page
    assert "The loss became NaN in epoch 2." in page


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"Cannot write trials\.csv to .*\. The trials are safe"):
        write_report(view(frame([trial(0)])), tmp_path / "file")
