"""The corpus: each training, and the truth about it as its proof shows it without the plugin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
KILLS = ("step 10", "step 13", "step 25", "step 17, step 5")
"""Right behind a save, between saves, late, and a resumed life again."""
ASYNC = (*KILLS, "step 29")
"""Later, too: the first save is complete only some steps after it has begun."""
BETWEEN = (*KILLS, "between 1", "between 2")
TORN = frozenset({"misaligned", "lost", "duplicated", "restarted", "diverged"})
"""Model and data, or two halves of a model, are of different moments: where the kill lands decides which word fits."""
RESTARTED = frozenset({"restarted"})
AGAIN = frozenset({"restarted", "misaligned", "duplicated", "overrun"})
"""Elements are trained twice."""


@dataclass(frozen=True, slots=True)
class Training:
    """One way of one program."""

    program: str
    how: str
    kind: str
    unsafe: frozenset[str] = frozenset()
    """Outcomes that would be right for a training that is not safe; empty: it is safe."""
    resumes: bool = True
    """Whether a killed training goes on anywhere else than at the beginning, once a save is complete."""
    noted: str = ""
    """What a note must say for an `exact` to be right although the model differs: the elements do not."""
    needs: Literal["tensorflow", "jax"] = "tensorflow"
    fresh: bool = False
    """It sets variables before its imports, so its lives are interpreters of their own."""
    kills: tuple[str, ...] = KILLS
    in_place: bool = False
    """Its checkpoint is written where the last one is: a kill within leaves a half, with which no life can begin."""

    @property
    def name(self) -> str:
        """As the tables show it."""
        return f"{self.program}:{self.how}"

    @property
    def safe(self) -> bool:
        """Whether what comes out is what an uninterrupted run makes, wherever it was killed, without beginning anew."""
        return not self.unsafe

    @property
    def path(self) -> Path:
        """The script."""
        return HERE / f"{self.program}.py"


def _never(program: str, how: str, kind: str, needs: Literal["tensorflow", "jax"] = "tensorflow") -> Training:
    return Training(program, how, kind, frozenset({"never-resumed"}), resumes=False, needs=needs)


_LOOPS = (
    Training("eager_loop", "saved", "iterator in the checkpoint"),
    Training("eager_loop", "forgotten", "iterator in the checkpoint", RESTARTED),
    Training("eager_loop", "skip", "skip(step)"),
    Training("eager_loop", "skip_elements", "skip(step)", TORN),
    _never("eager_loop", "never_restores", "saves, never restores"),
    Training("eager_loop", "unseeded", "unseeded shuffle"),
    Training("eager_loop", "unseeded_repeat", "unseeded shuffle"),
    Training("eager_loop", "unseeded_skip", "unseeded shuffle", TORN | {"flaky", "changed", "reordered"}),
    Training("eager_loop", "overrun", "number of steps", frozenset({"overrun"})),
    Training("two_managers", "paired", "two managers", kills=BETWEEN),
    Training("two_managers", "same_steps", "two managers", TORN, kills=BETWEEN),
    Training("two_managers", "other_steps", "two managers", TORN, kills=BETWEEN),
    Training("epochs_loop", "skip", "epoch and step_in_epoch"),
    Training("epochs_loop", "anew", "epoch and step_in_epoch", AGAIN | TORN),
    Training("epochs_loop", "skip_all", "epoch and step_in_epoch", TORN),
    Training("nonfinite", "saved", "steps left out"),
    Training("nonfinite", "skip", "steps left out", TORN),
    Training("nonfinite", "skip_taken", "steps left out"),
    Training("accumulate_by_hand", "saved", "accumulation by hand"),
    Training("accumulate_by_hand", "lost", "accumulation by hand", TORN),
    Training("accumulate_by_hand", "whole_groups", "accumulation by hand"),
    Training("packed_texts", "saved", "packing"),
    Training("packed_texts", "lost", "packing", TORN),
    Training("curriculum_loop", "saved", "curriculum"),
    Training("curriculum_loop", "skip", "curriculum"),
    Training("curriculum_loop", "hard_anew", "curriculum", AGAIN | TORN),
    Training("replay", "saved", "replay stream"),
    Training("replay", "forgotten", "replay stream", AGAIN | TORN),
    Training("replay", "from_15", "replay stream"),
    Training("replay", "from_15_forgotten", "replay stream", AGAIN | TORN),
    Training("two_streams", "both", "two streams"),
    Training("two_streams", "zipped", "two streams"),
    Training("two_streams", "one", "two streams", AGAIN | TORN),
    Training("two_streams", "neither", "two streams", RESTARTED),
    Training("averaged", "saved", "moving average"),
    # Each element is trained once; only a comparison of the weights shows what is wrong.
    Training("averaged", "average_anew", "moving average", TORN, noted="final weights differ"),
    Training("averaged", "data_forgotten", "moving average", RESTARTED),
    Training("thread_prefetch", "skip", "prefetch by a thread"),
    Training("thread_prefetch", "in_flight", "prefetch by a thread", TORN),
    Training("thread_prefetch", "no_thread", "prefetch by a thread"),
    Training("warm_start", "first", "warm start"),
    Training("warm_start", "last", "warm start", TORN),
    Training("warm_start", "data_forgotten", "warm start", RESTARTED),
    Training("orbit_like", "saved", "orbit", kills=("step 2", "step 3", "step 7", "step 5, step 3")),
    Training("orbit_like", "forgotten", "orbit", RESTARTED, kills=("step 2", "step 3", "step 7", "step 5, step 3")),
    Training("notice_handler", "saved", "PreemptionCheckpointHandler"),
    Training("notice_handler", "forgotten", "PreemptionCheckpointHandler", RESTARTED),
    Training("hand_shuffle", "saved", "shuffle buffer in Python"),
    Training("hand_shuffle", "lost", "shuffle buffer in Python", TORN),
    Training("mixture", "saved", "mixture"),
    Training("mixture", "forgotten", "mixture", RESTARTED),
    Training("validated", "saved", "validation in the loop"),
    Training("validated", "forgotten", "validation in the loop", RESTARTED),
    Training("validated", "one_at_a_time", "validation in the loop"),
    Training("production_loop", "whole", "production package, loop"),
    Training("production_loop", "beside", "production package, loop"),
    Training("production_loop", "inside", "production package, loop"),
    Training("production_loop", "taken_ahead", "production package, loop", TORN),
)

_FILES_AND_SESSIONS = (
    Training("numpy_state", "npz", "weights in npz"),
    Training("numpy_state", "npz_anew", "weights in npz", RESTARTED),
    Training("numpy_state", "pickle", "weights in a pickle"),
    Training("numpy_state", "pickle_anew", "weights in a pickle", RESTARTED),
    Training("numpy_state", "h5", "weights in h5"),
    Training("numpy_state", "h5_anew", "weights in h5", RESTARTED),
    Training("numpy_state", "npz_unused", "read and never used", TORN),
    Training("variables_npz", "saved", "variables in npz"),
    Training("variables_npz", "unused", "read and never used", TORN),
    Training("variables_npz", "half", "read and never used", TORN),
    Training("large_tables", "saved", "large arrays"),
    Training("large_tables", "best", "large arrays", TORN),
    Training("numpy_state", "json", "step in JSON"),
    Training("numpy_state", "json_first", "step in JSON", TORN, kills=BETWEEN),
    Training("numpy_state", "json_anew", "step in JSON", RESTARTED),
    _never("numpy_state", "never_reads", "weights in npz"),
    Training("named_files", "skip", "step in a file's name"),
    Training("named_files", "anew", "step in a file's name", RESTARTED),
    Training("named_files", "ahead", "step in a file's name"),
    Training("named_files", "in_flight", "step in a file's name", TORN),
    Training("json_step", "last", "JSON names the weights"),
    Training("json_step", "best_only", "JSON names the weights", TORN),
    Training("json_step", "anew", "JSON names the weights", RESTARTED),
    Training("monitored", "hook", "MonitoredTrainingSession"),
    Training("monitored", "none", "MonitoredTrainingSession", RESTARTED),
    Training("graph_parts", "whole", "warm start"),
    Training("graph_parts", "backbone_again", "warm start", TORN),
    Training("graph_parts", "sums_saved", "accumulation by hand"),
    Training("graph_parts", "sums_local", "accumulation by hand", TORN),
    Training("saver", "skip", "v1 Saver"),
    Training("saver", "anew", "v1 Saver", RESTARTED),
    _never("saver", "never_restores", "v1 Saver"),
)

_KERAS = (
    Training("keras_fit", "ours", "production package, fit"),
    # Nothing is saved, so nothing can be said of a resume, and that is what is to be said.
    Training("keras_fit", "none", "fit without a checkpoint", frozenset({"unknown"}), resumes=False),
    _never("keras_fit", "checkpoint", "ModelCheckpoint that nobody loads"),
    Training("keras_fit", "backup", "BackupAndRestore", RESTARTED, in_place=True),
    Training("keras_fit", "backup_epochs", "BackupAndRestore", in_place=True),
    Training("keras_fit", "weights", "load_weights and compile", AGAIN, in_place=True),
    Training("keras_fit", "weights_skip", "load_weights and compile", in_place=True),
    Training("keras_fit", "weights_epochs", "load_weights and compile", in_place=True),
    Training("keras_fit", "model_epochs", "load_model and initial_epoch", in_place=True),
    Training("keras_fit", "model_forgets_epoch", "load_model and initial_epoch", AGAIN, in_place=True),
    Training("keras_accumulate", "ours", "accumulation in Keras"),
    Training("keras_accumulate", "loop", "accumulation in Keras"),
    Training("keras_accumulate", "optimizer_lost", "accumulation in Keras", TORN),
    Training("keras_accumulate", "skip_iterations", "accumulation in Keras", TORN),
    Training("keras_mixed", "ours", "mixed precision"),
    Training("keras_mixed", "loop", "mixed precision"),
    Training("keras_mixed", "first_steps", "mixed precision"),
    Training("keras_mixed", "skip_iterations", "mixed precision", TORN),
    Training("keras_gan", "loop", "GAN"),
    Training("keras_gan", "generator_lost", "GAN", TORN),
    Training("keras_gan", "discriminator_lost", "GAN", TORN),
    Training("keras_gan", "data_forgotten", "GAN", RESTARTED),
    Training("keras_gan", "backup", "GAN", RESTARTED, in_place=True),
    Training("distillation", "saved", "distillation"),
    Training("distillation", "forgotten", "distillation", RESTARTED),
    Training("distillation", "student_lost", "distillation", TORN),
    Training("transfer", "ours", "transfer learning in two fits"),
    Training("transfer", "weights", "transfer learning in two fits", AGAIN, in_place=True),
    Training("transfer", "backup", "transfer learning in two fits", AGAIN | TORN, in_place=True),
    Training("keras_on_jax", "weights_skip", "Keras on JAX", needs="jax", fresh=True, in_place=True),
    Training("keras_on_jax", "weights", "Keras on JAX", AGAIN, needs="jax", fresh=True, in_place=True),
    Training("keras_on_jax", "backup", "Keras on JAX", RESTARTED, needs="jax", fresh=True, in_place=True),
)

_JAX = (
    Training("orbax_loop", "skip", "Orbax", needs="jax", kills=ASYNC),
    Training("orbax_loop", "beside", "Orbax", needs="jax", kills=ASYNC),
    Training("orbax_loop", "package", "Orbax", needs="jax", kills=ASYNC),
    Training("orbax_loop", "anew", "Orbax", RESTARTED, needs="jax", kills=ASYNC),
    Training("orbax_loop", "label_off", "Orbax", TORN, needs="jax", kills=ASYNC),
    Training("orbax_loop", "params_lost", "read and never used", TORN, needs="jax", kills=ASYNC),
    _never("orbax_loop", "never_restores", "Orbax", "jax"),
    Training("flax_bytes", "skip", "Flax msgpack", needs="jax"),
    Training("flax_bytes", "anew", "Flax msgpack", RESTARTED, needs="jax"),
    Training("flax_bytes", "unused", "read and never used", TORN, needs="jax"),
    _never("flax_bytes", "never_reads", "Flax msgpack", "jax"),
    Training("clu_loop", "saved", "CLU", needs="jax"),
    Training("clu_loop", "forgotten", "CLU", TORN | {"flaky", "changed", "reordered"}, needs="jax"),
    Training("optax_pickle", "skip", "optax", needs="jax"),
    Training("optax_pickle", "anew", "optax", RESTARTED, needs="jax"),
    Training("optax_sums", "saved", "optax", needs="jax"),
    Training("optax_sums", "lost", "optax", TORN, needs="jax"),
    Training("optax_sums", "whole_groups", "optax", needs="jax"),
    Training("nnx_loop", "skip", "nnx", needs="jax", kills=ASYNC),
    Training("nnx_loop", "anew", "nnx", RESTARTED, needs="jax", kills=ASYNC),
    Training("device_prefetch", "skip", "prefetch_to_device", needs="jax"),
    Training("device_prefetch", "in_flight", "prefetch_to_device", TORN, needs="jax"),
)

CORPUS = (*_LOOPS, *_FILES_AND_SESSIONS, *_KERAS, *_JAX)
