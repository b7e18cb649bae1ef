"""The report that outlives a run: a page, its data, and summaries where people already look.

records.py    verdicts -> records (JSON), in the process that judged; everything but `measured` is the same in each run
document.py   records -> the whole report, in an order that does not depend on the number of processes
timeline.py   records -> bars, marks and words; charts.py: maps and strips; page.py fills page.html.j2 with them
markdown.py   the summary for GitHub Actions; properties.py: those of JUnit XML
collector.py  pytest hooks of the process that writes; nothing here is imported before a trial or the option asks
schema.json   what `--preempt-report=report.json` writes
"""
