"""A study's trials (a DataFrame) as tables, a picture and one HTML page.

trials ─ front_table ─ render_front, to_json        terminal, scripts
       ├ draw_front                                 front.png
       ├ render_page                                report.html
       └ write_report                               all files of a study's folder
"""

from starsearch.report.agreement import Agreement, agreement_lines, compare_fidelities
from starsearch.report.fidelities import Rung
from starsearch.report.files import write_report
from starsearch.report.front import anchor_recipe_note, front_table, knee
from starsearch.report.halving import halving_lines
from starsearch.report.html import render_page
from starsearch.report.plot import draw_front
from starsearch.report.predictions import prediction_lines
from starsearch.report.summary import failure_reasons, hypervolume_gain, hypervolume_history, miss_lines, summary
from starsearch.report.table import architecture_lines, legend_lines, render_failures, render_front, to_json

__all__ = [
    "Agreement",
    "Rung",
    "agreement_lines",
    "anchor_recipe_note",
    "architecture_lines",
    "compare_fidelities",
    "draw_front",
    "failure_reasons",
    "front_table",
    "halving_lines",
    "hypervolume_gain",
    "hypervolume_history",
    "knee",
    "legend_lines",
    "miss_lines",
    "prediction_lines",
    "render_failures",
    "render_front",
    "render_page",
    "summary",
    "to_json",
    "write_report",
]
