"""Results at rest: an Optuna storage, the only record. No other package touches a storage.

storage    a URL becomes an Optuna storage, to write or only to read; its errors become `StudyError`s
journal    Optuna's journal file, torn lines moved aside before anything is appended
trials     a `Trial` as Optuna keeps it; broken constraints for optuna-dashboard
record     `StudyRecord`: one study as its driver writes it
lock       one live driver for each study
measured   what was measured after a trial had ended
table      studies to be read: specs, and trials as a pandas DataFrame
"""
