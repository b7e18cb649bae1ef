"""Acting, recording and judging. Nothing in here imports pytest, and nothing here imports TensorFlow
except `worker`, `tap`, `trainers`, which run in training processes only.
"""
