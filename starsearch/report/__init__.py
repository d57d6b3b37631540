"""A study's trials (a DataFrame) as tables, a picture and one HTML page.

trials ─ StudyView: front, knee, summary, agreements, each once
       ├ front_rows, to_json      terminal, scripts
       ├ draw_front               front.png
       ├ render_page              report.html
       └ write_report             all files of a study's folder
"""
