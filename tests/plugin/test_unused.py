"""The plugin is free for everyone who does not use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _pytest.pytester import Pytester

PLAIN = """
    import sys

    def test_plain():
        heavy = ("tensorflow", "numpy", "psutil", "cloudpickle", "xxhash", "pytest_pipeline_ckpt.engine.checker")
        assert [name for name in heavy if name in sys.modules] == []
    """


def test_run_that_does_not_preempt_pays_nothing(pytester: Pytester) -> None:
    """Without a test that preempts, the plugin imports nothing heavy and prints nothing."""
    pytester.makepyfile(PLAIN)
    without = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q")
    result = pytester.runpytest_subprocess(*without)
    result.assert_outcomes(passed=1)
    assert "preempt" not in result.stdout.str().replace("preempt-", "")
    assert result.outlines[0].startswith(".")


def test_xdist_controller_pays_little(pytester: Pytester) -> None:
    """Nor does a controller of pytest-xdist, which does not know yet what its workers find."""
    pytester.makepyfile("def test_plain():\n    pass")
    pytester.makeconftest(
        """
        import sys

        def pytest_sessionfinish(session):
            if not hasattr(session.config, "workerinput"):
                heavy = ("tensorflow", "numpy", "cloudpickle", "xxhash", "jinja2", "pytest_pipeline_ckpt.engine.every")
                print("imported:", [name for name in heavy if name in sys.modules])
        """
    )
    result = pytester.runpytest_subprocess(
        "-n1", "-s", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:html", "-p", "no:metadata"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*imported: []*"])
