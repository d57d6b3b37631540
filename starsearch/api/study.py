"""`Study`: what a study that has been run came to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.study_folder import StudyPlace, highest_view, open_view, place_of, views_of
from starsearch.errors import StarsearchError, StudyError
from starsearch.records.lock import working_driver
from starsearch.records.storage import open_storage, shown
from starsearch.records.table import count_ended
from starsearch.records.trials import show_constraints

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from starsearch.api.exporting import Exported
    from starsearch.report.view import StudyView
    from starsearch.search.events import StudyEnded


class Study:
    """A study that has been run, at the highest of its fidelities that has a result.

    Attributes:
        source: its folder, or NAME@STORAGE-URL.
        view: everything that its trials say, each computed once.
        ended: why the run stopped; None for a study that was opened.
        files: what the run wrote.
    """

    def __init__(
        self, source: str, view: StudyView, *, ended: StudyEnded | None = None, files: tuple[Path, ...] = ()
    ) -> None:
        self.source, self.view, self.ended, self.files = source, view, ended, files

    @property
    def trials(self) -> pd.DataFrame:
        """All trials, one row each; the columns are described at `starsearch.records.table.load_trials`."""
        return self.view.trials

    def front(self) -> pd.DataFrame:
        """Return the front with the published networks, one row each; see `starsearch.report.front.front_table`."""
        return self.view.front

    def best(self) -> pd.Series[Any]:
        """Return the row of the front's knee, with one objective that of the best trial.

        Raises:
            StudyError: no trial is complete and feasible.
        """
        if self.view.knee is None:
            raise StudyError("The study has no front yet: no trial is complete and feasible.")
        return self.view.front[self.view.front["number"] == self.view.knee].iloc[0]

    def summary(self) -> dict[str, Any]:
        """Return counts, best values and hypervolumes as plain values (`StudyView.summary`)."""
        return self.view.summary

    def plot(self) -> go.Figure:
        """Return the front as an interactive figure.

        Raises:
            StudyError: no trial is complete and feasible.
        """
        from starsearch.report.figures import front_figure

        self.best()
        return front_figure(self.view)

    def export(self, out: str | Path, *, trial: int | None = None, formats: tuple[str, ...] = ("timm",)) -> Exported:
        """Write a trained network, by default the knee, as files; each is read back and checked.

        Args:
            out: the folder that is made.
            trial: a trial's number.
            formats: timm, onnx, onnx-int8, coreml, coreml-fp32.

        Raises:
            StudyError: the weights were not kept, or the study is named by its storage alone.
            ExportError: a file does not read back as the network.
        """
        from starsearch.api.exporting import export_networks

        return export_networks(self.source, out=Path(out), trial=trial, formats=formats)[0]


def load_study(study: str | Path) -> Study:
    """Open a study to read it.

    Args:
        study: a folder that `run` has made (studies/starnet), studies/NAME.FIDELITY, or NAME@STORAGE-URL.

    Raises:
        StudyError: there is no such study, or its storage cannot be read.
    """
    return Study(str(study), open_view(place_of(str(study))))


def study_status(study: str) -> dict[str, Any]:
    """Return counts, failures, best values, time, and who works on the study, as plain values."""
    views = views_of(place_of(study))
    view = highest_view(views)
    found = _status(view)
    if others := [_status(one) for one in views if one.name != view.name]:  # also one that has no result yet
        found |= {"fidelities": others, "agreement": view.agreement_lines}
        found["driver"] = next((one["driver"] for one in (found, *others) if one["driver"]), None)
    return found


def _status(view: StudyView) -> dict[str, Any]:
    failed = view.trials[view.trials["state"] == "FAIL"].rename(
        columns={"number": "trial", "architecture_text": "architecture", "architecture": "key"}
    )
    return {
        "study": view.name,
        "fidelity": view.fidelity,
        "storage": shown(view.url),
        **view.summary,
        "halving": view.halving,
        "running": view.trials["number"][view.trials["state"] == "RUNNING"].tolist(),
        "failures": failed[["trial", "architecture", "reason"]].to_dict("records"),
        "driver": working_driver(view.url, view.name, view.attributes),
    }


def write_study_report(study: str | StudyPlace) -> list[Path]:
    """Write trials.csv, front.csv, front.png and report.html into the study's folder, and return their paths."""
    from starsearch.report.files import write_report

    place = place_of(study) if isinstance(study, str) else study
    if place.folder is None:
        raise StudyError("A report is written into the study's folder: name the folder, not the storage.")
    return write_report(open_view(place), place.folder)


def serve_report(study: str, *, port: int = 8080, say: Callable[[str], object] = print) -> None:
    """Serve the report on the loopback interface until Ctrl-C; what is open in a browser follows the run."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from starsearch.report.files import report_page

    place = place_of(study)
    pages: dict[str, bytes] = {}

    class Report(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                version = f'"{count_ended(place.url, place.name)}"'  # the page asks for it by HEAD
                page = pages.get(version, b"")
                if self.command == "GET" and not page:
                    page = report_page(open_view(place)).encode()
                    pages.clear()
                    pages[version] = page
            except StarsearchError as error:
                self.send_error(503, "The study cannot be read", str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("ETag", version)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing of requests."""

    _refuse_to_serve(place, port)
    say(f"The report on http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    # A browser may hold a connection on which it asks nothing.
    ThreadingHTTPServer(("127.0.0.1", port), Report).serve_forever()


def serve_dashboard(study: str, *, port: int = 8080, say: Callable[[str], object] = print) -> None:
    """Serve optuna-dashboard on the loopback interface until Ctrl-C."""
    from optuna_dashboard import run_server

    place = place_of(study)
    _refuse_to_serve(place, port)
    say(f"optuna-dashboard on http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    run_server(show_constraints(open_storage(place.url)), host="127.0.0.1", port=port)


def _refuse_to_serve(place: StudyPlace, port: int) -> None:
    """Complain about a missing or damaged study, or a taken port, before a server is up."""
    import socket

    views_of(place)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StudyError(f"Port {port} is taken on this machine. Give another with --port.")
