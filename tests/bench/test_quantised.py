"""The two forms of a checkpoint, as their costs are measured."""

from pathlib import Path

from bench.quantised import FORMS, beside, graph_costs
from training.networks.header import read


def test_both_forms_of_a_checkpoint_are_measured(portable_store: Path, tmp_path: Path) -> None:
    for path in sorted(portable_store.glob("*.safetensors")):
        forms = beside(path, tmp_path)
        assert [read(forms[form]).description.portable for form in FORMS] == [False, True]
        for operation in read(path).description.operations:
            costs = graph_costs(forms, operation, rounds=1)
            sizes, times = zip(*(costs[form] for form in FORMS), strict=True)
            assert sizes[0] != sizes[1]
            assert min(times) > 0
