"""Six other model servers under the same load: one file each, run in an environment of its own.

Such a file is started as ``python -m bench.peers.<name>`` and told what to do by the environment:
BENCH_HOST, BENCH_PORT, BENCH_WORKERS (processes that hold the model), and what ``model`` reads.
"""
