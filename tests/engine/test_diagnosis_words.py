"""The words of a diagnosis, and what a look at a pipeline shows."""

from __future__ import annotations

from typing import Any

from pytest_pipeline_ckpt.engine.causes import Cause
from pytest_pipeline_ckpt.engine.diagnosis import Diagnosis, explained, looks_of
from pytest_pipeline_ckpt.engine.stage_results import PipelineResult, StageResult


def stage(name: str, line: int, **more: Any) -> StageResult:
    """A stage in which nothing is remarkable."""
    known: dict[str, Any] = {"source": False, "ops": {}, "unordered": False, "keeps": None, "buffer": None, "row": None}
    return StageResult(name, f"input.py:{line}, in make", **{**known, **more})


STAGES = (
    stage("Dataset.range", 1, source=True),
    stage("Dataset.map", 2, ops={"random": ["RandomUniform"], "variable": ["ReadVariableOp"]}),
    stage("Dataset.shuffle", 3, buffer=100_000, row=2048),
    stage("Dataset.prefetch", 4, buffer=2, row=2048),
    stage("Dataset.cache", 5, keeps="/data/cache"),
    stage("Dataset.cache", 6, keeps="memory", buffer=10_000, row=4_000),
    stage("Dataset.interleave", 7, unordered=True),
    stage("Dataset.flat_map", 8, ops={"generator": ["GeneratorDataset"], "python": ["PyFunc"]}),
    stage("Dataset.map", 9, ops={"stateless python": ["PyFuncStateless"]}),
)


def test_lines_of_a_diagnosis() -> None:
    """A failure says where, why and what helps, and what a look shows; what is not known has no line."""
    advice = Cause.GENERATOR.advice
    whole = Diagnosis("stage 1 of 2: ...", Cause.GENERATOR, advice.reason, advice.remedy, "x", ("stage 2 of 2: ...",))
    assert whole.lines() == [
        "  where:     stage 1 of 2: ...",
        f"  why:       {advice.reason}",
        f"  remedy:    {advice.remedy}",
        "  pipeline:  stage 2 of 2: ...",
    ]
    assert Diagnosis("not found: ...").lines() == ["  where:     not found: ..."]


def test_look_at_a_pipeline() -> None:
    """Only what may harm a resume, or makes checkpoints large, has a line."""
    assert looks_of(PipelineResult(STAGES)) == [
        "stage 2 of 9: Dataset.map (input.py:2, in make): TensorFlow refuses to save an iterator over RandomUniform, "
        "ReadVariableOp",
        "stage 3 of 9: Dataset.shuffle (input.py:3, in make): a buffer of 100,000 elements: up to 205 MB in each "
        "checkpoint",
        "stage 5 of 9: Dataset.cache (input.py:5, in make): caches in /data/cache, where a kill leaves incomplete "
        "files",
        "stage 6 of 9: Dataset.cache (input.py:6, in make): a cache of 10,000 elements: up to 40 MB in each checkpoint",
        "stage 7 of 9: Dataset.interleave (input.py:7, in make): need not keep its order (deterministic=False)",
        "stage 8 of 9: Dataset.flat_map (input.py:8, in make): TensorFlow cannot save a generator's position",
        "stage 9 of 9: Dataset.map (input.py:9, in make): a Python function that is declared to have no state "
        "(stateful=False)",
    ]


def test_policies_are_named() -> None:
    """What lets TensorFlow save a stateful op without its state is said."""
    ignored = looks_of(PipelineResult(STAGES[:2], policy="IGNORE"))
    symbolic = looks_of(PipelineResult(STAGES[:2], symbolic=True))
    begins, ops = "stage 2 of 2: Dataset.map (input.py:2, in make): ", "RandomUniform, ReadVariableOp"
    assert ignored == [f"{begins}the state of {ops} is not saved (external_state_policy=IGNORE)"]
    assert symbolic == [f"{begins}the state of {ops} is not saved, and experimental_symbolic_checkpoint hides that"]


def test_explained_has_each_stage() -> None:
    """On request each stage has a line."""
    assert explained(PipelineResult(STAGES[:3])) == [
        "   1  Dataset.range (input.py:1, in make)",
        "   2  Dataset.map (input.py:2, in make): TensorFlow refuses to save an iterator over RandomUniform, "
        "ReadVariableOp",
        "   3  Dataset.shuffle (input.py:3, in make): a buffer of 100,000 elements: up to 205 MB in each checkpoint",
    ]
