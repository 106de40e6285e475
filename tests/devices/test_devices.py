"""Every system and form on a device that is not the CPU: the same numbers, wherever the loss was made."""

import copy
import re
from pathlib import Path

import pytest

from tests.devices.own_process import ON_THE_DEVICE, passed_on_the_device

if not ON_THE_DEVICE:

    def test_on_the_pretend_device_in_a_process_of_its_own():
        passed_on_the_device(__file__)

else:
    import torch
    from torch import nn

    import metricgrad as mg
    from metricgrad.systems.by_name import REGISTRY, make_loss
    from tests.contract.registry import LOSSES
    from tests.devices import every, pretend_device
    from tests.devices.counting import watch
    from tests.devices.steps import LISTS, OF_SETS, SYSTEMS, attached, built_in, steady
    from tests.fence.cells import cells
    from tests.fixtures import trainings

    pretend_device.enable()
    pytestmark = pytest.mark.filterwarnings("ignore")

    def host(values):
        return [v.detach().cpu() for v in values]

    def same_on_both(run):
        """``run(device)`` returns tensors; on the device they stay there and are those of the CPU."""
        found = {device: run(device) for device in ("cpu", "sim")}
        assert {value.device.type for value in found["sim"]} == {"sim"}
        for here, there in zip(host(found["cpu"]), host(found["sim"]), strict=True):
            torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5, equal_nan=True)

    def stepped(loss, scores, targets, steps=2, **context):
        for _ in range(steps):
            leaf = scores.clone().requires_grad_()
            value = loss(leaf, targets, **context)
            value.backward()
        return [value, leaf.grad]

    def test_the_device_refuses_to_mix():
        x = torch.randn(3, 4)
        s = x.to("sim")
        for mix in (
            lambda: s + x,
            lambda: s @ x.T,
            lambda: torch.stack([s.sum(), x.sum()]),
            lambda: s.gather(1, torch.zeros(3, 1).long()),
            lambda: torch.zeros(3).index_put_((torch.zeros(1, device="sim").long(),), torch.ones(1)),
            lambda: torch.rand(3, generator=torch.Generator(), device="sim"),
            lambda: s.clamp(min=torch.tensor(0.0)),
        ):
            with pytest.raises(RuntimeError):
                mix()
        with pytest.raises(TypeError, match="numpy"):
            s.numpy()
        assert torch.equal((s * torch.tensor(2.0)).cpu(), 2 * x)

    @pytest.mark.parametrize("name", LOSSES)
    def test_every_form_follows_the_scores(name):
        make, data = LOSSES[name]
        scores, targets = data(16, torch.float32)
        losses = {"cpu": make(), "sim": make()}
        same_on_both(lambda device: stepped(losses[device], scores.to(device), targets.to(device), steps=1))
        assert {p.device.type for p in (*losses["sim"].parameters(), *losses["sim"].buffers())} == {"sim"}

    @pytest.mark.parametrize("name", ["uniloss f1", "adalfl", "mix", "set network looking ahead"])
    def test_mixed_devices_and_no_device_are_one_sentence(name):
        make, data = LOSSES[name]
        scores, targets = data(24, torch.float32)
        with pytest.raises(mg.MetricgradError, match="scores are on sim:0 and targets on cpu; move one"):
            make()(scores.to("sim"), targets)
        with pytest.raises(mg.MetricgradError, match="meta device, which holds no values"):
            make()(scores.to("meta"), targets.to("meta"))

    @pytest.mark.parametrize(
        "name", ["uniloss macro_f1", "adalfl", "set network looking ahead", "uniloss average_precision"]
    )
    def test_saved_on_one_device_it_goes_on_on_another(name, tmp_path):
        make, data = LOSSES[name]
        scores, targets = data(24, torch.float32)
        there = make()
        stepped(there, scores.to("sim"), targets.to("sim"))
        there.save(tmp_path / "loss.safetensors")
        copied = copy.deepcopy(there)
        expected = host(stepped(there, scores.to("sim"), targets.to("sim"), steps=1))
        for loss, device in ((mg.load_loss(tmp_path / "loss.safetensors"), "cpu"), (copied, "sim")):
            found = host(stepped(loss, scores.to(device), targets.to(device), steps=1))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("metric", "kind", "options"),
        [
            *(("accuracy", "multiclass", more) for more in ({}, {"objective": "value"}, {"paper": True})),
            ("average_precision", "binary", {}),
            ("macro_f1", "multilabel", {}),
            ("spearman", "regression", {}),
            ("pck", "heat_maps", {}),
            ("bleu", "sentences", {}),
            ("span_f1", "spans", {}),
            ("map_at_r", "embeddings", {}),
            ("ndcg", "gains", {"groups": True}),
        ],
    )
    def test_reloss_is_fitted_where_the_scores_are(metric, kind, options, monkeypatch):
        from metricgrad.aligners.fitting import block_fitting, report
        from tests.contract import registry

        for module, name, few in (
            (block_fitting, "_POOL", 16),
            (block_fitting, "_CHECKS", 12),
            (report, "_BLOCKS", 12),
        ):
            monkeypatch.setattr(module, name, few)
        scores, targets = getattr(registry, kind)(320, torch.float32)
        if kind == "embeddings":
            scores = scores + 1.5 * torch.randn(80, 8, generator=torch.Generator().manual_seed(1))[targets]
        elif kind == "heat_maps":
            scores = scores + 2 * nn.functional.one_hot(targets[:, 1] * 6 + targets[:, 0], 30).reshape(-1, 5, 6)
        elif scores.shape == targets.shape:
            scores = scores + 1.5 * targets
        else:
            scores = scores + 1.5 * nn.functional.one_hot(targets, scores.shape[-1])
        groups = torch.arange(320) // 8 if options.get("groups") else None
        more = {k: v for k, v in options.items() if k != "groups"}

        def run(device):
            context = {} if groups is None else {"groups": groups.to(device)}
            there = scores.to(device), targets.to(device)
            loss = mg.ReLoss.fit(metric, *there, steps=3, restarts=5, values=8, block=32, **context, **more)
            some = {name: value[:48] for name, value in context.items()}
            return [*loss.parameters(), *stepped(loss, there[0][:48], there[1][:48], steps=1, **some)]

        same_on_both(run)

    def network(outputs, device):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, outputs)).to(device)

    @pytest.mark.parametrize(("optimizer", "moved"), [("SGD", True), ("AdamW", False)])
    @pytest.mark.parametrize(
        "make",
        [
            lambda: mg.AdaLFL(num_outputs=3),
            lambda: mg.AdaLFL(num_outputs=3, objective=mg.UniLoss("macro_f1")),
            lambda: mg.AdaLFL(num_outputs=3, steps=2),
            lambda: mg.ALA("accuracy", num_outputs=3, every=1, warm_up=0),
            lambda: mg.ALA("accuracy", num_outputs=3, every=1, paper=True),
        ],
        ids=["adalfl", "toward", "steps=2", "ala", "ala paper"],
    )
    def test_attached_losses_move_as_on_the_cpu(make, optimizer, moved):
        g = torch.Generator().manual_seed(0)
        x, y = torch.randn(60, 6, generator=g), torch.randint(3, (60,), generator=g)

        def run(device):
            model = network(3, device)
            steps = getattr(torch.optim, optimizer)(model.parameters(), lr=0.05)
            loss = make().to(device) if moved else make()
            handle = loss.attach(model, steps, valid=[(x[40:], y[40:])])  # validation data may lie on the CPU
            for _ in range(3):
                steps.zero_grad()
                loss(model(x[:40].to(device)), y[:40].to(device)).backward()
                steps.step()
            handle.detach()
            return [*model.parameters(), *loss.form.parameters()]

        same_on_both(run)

    def test_hand_made_losses_metrics_and_tools():
        g = torch.Generator().manual_seed(0)
        x, y = torch.randn(80, 3, generator=g), torch.randint(3, (80,), generator=g)
        names = [name for name, entry in REGISTRY.items() if "multiclass" in entry.kinds]
        for name in names:
            same_on_both(lambda device, name=name: stepped(make_loss(name, "macro_f1"), x.to(device), y.to(device)))
        for spec in ("macro_f1", "auroc", "log_loss", "ece", "brier", "quadratic_kappa", "top_k_accuracy:k=2"):
            same_on_both(lambda device, spec=spec: [mg.as_metric(spec)(x.to(device), y.to(device))])
        found = [mg.mismatch(nn.CrossEntropyLoss(), "macro_f1", x.to(d), y.to(d), blocks=20) for d in ("cpu", "sim")]
        assert found[0].value == pytest.approx(found[1].value, abs=1e-5)

        def plain(labels, targets):
            return (labels == targets).double().mean()

        metric = mg.as_metric(plain, higher_is_better=True, reads="labels")
        assert mg.infer_refactoring(metric, x.to("sim"), y.to("sim")).name == "argmax"
        model = network(3, "sim")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        inputs = torch.randn(80, 6, generator=g).to("sim")
        with mg.record_scores(model, optimizer, [(inputs, y.to("sim"))]) as recorded:
            nn.functional.cross_entropy(model(inputs), y.to("sim")).backward()
            optimizer.step()
        assert recorded.scores.device.type == "cpu"

    PAGE = Path(__file__).parents[2].joinpath("docs/devices.md").read_text("utf-8")
    #: Kernels of a step, as docs/devices.md says.
    MOST = {
        name: int(kernels)
        for name, _, kernels in re.findall(r"^\| (.+?) \| (\d+) \| .*? \| (\d+) \|", PAGE, re.MULTILINE)
        if name in SYSTEMS | LISTS and name.startswith("UniLoss")
    }
    #: Synchronisations of built-in metrics there.
    BUILT_IN = {
        (row[0], of): int(waits)
        for row in re.findall(r"^\| (\w+) \| (.*\(\d+\)) \|", PAGE, re.MULTILINE)
        for of, waits in re.findall(r"([a-z ]+) \d+ \((\d+)\)", row[1].replace(", ", ","))
    }

    def test_the_page_has_each_step_and_few_kernels_at_the_defaults():
        assert set(MOST) == {name for name in SYSTEMS | LISTS if name.startswith("UniLoss")}
        assert max(kernels for name, kernels in MOST.items() if "weighted" not in name) <= 80

    @pytest.mark.parametrize("name", MOST)
    def test_a_step_starts_few_kernels_and_the_host_waits_three_times_at_most(name):
        steps = {"steps": 3} if name in LISTS else {}
        few, many = (steady((SYSTEMS | LISTS)[name], rows, "sim", **steps) for rows in (48, 96))
        assert few.waits.total() <= 3, few
        assert not any(line.startswith("on_host") for line in few.waits)  # who asks, not what reads for all
        assert many.waits == few.waits, many
        assert few.kernels <= MOST[name], few
        assert many.kernels <= 1.2 * few.kernels

    def test_the_host_waits_no_more_often_for_built_in_metrics_than_the_page_says():
        found = built_in()
        assert set(found) == set(BUILT_IN)
        assert {name for (name, _), waits in BUILT_IN.items() if waits > 3} == {
            "bleu", "exact_match", "pck", "span_f1",
        }  # fmt: skip
        for key, system in found.items():
            seen = steady(system, 64, "sim", steps=3)
            assert seen.waits.total() <= BUILT_IN[key], key

    @pytest.mark.parametrize(("name", "waits"), zip(OF_SETS, (22,), strict=True))
    def test_steps_over_score_sets_wait_no_more_than_the_page_says(name, waits):
        seen = steady(OF_SETS[name], 64, "sim")
        assert seen.waits.total() <= waits, seen

    @pytest.mark.parametrize(
        ("rank", "waits", "kernels"),
        [
            (mg.functional.soft_rank, 1, 130),
            (lambda x: mg.functional.soft_rank(x, regularisation="entropic"), 1, 150),
            (mg.functional.soft_rank_network, 0, None),
            (mg.functional.relaxed_permutation, 0, None),
        ],
    )
    def test_soft_ranks_stay_on_the_device(rank, waits, kernels):
        def run(device):
            x = torch.randn(3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
            with watch() as seen:
                ranks = rank(x.requires_grad_())
                ranks.square().sum().backward()
            if device == "sim":
                assert seen.waits.total() == waits, seen
                assert kernels is None or seen.kernels <= kernels
            return [ranks, x.grad]

        same_on_both(run)

    def test_a_fault_of_a_cell_is_found():
        def mixes():
            scores, _ = trainings.batch("binary")
            return {"sum": scores + torch.ones(len(scores))}

        def differs():
            scores, _ = trainings.batch("binary")
            return {"value": scores * (1 if scores.device.type == "cpu" else 1.01)}

        first, second = every.faults([("one", mixes), ("two", differs)])
        assert first.startswith("one: RuntimeError at")
        assert second.startswith("two: value is 1.0e-02 away")

    def test_cells_of_the_fence_have_the_numbers_of_the_cpu():
        """Of metrics, losses by name and forms under an aligner some, as they come; `make fuzz` runs all."""
        named = dict(cells())
        sparse = [
            *[name for name in named if name.startswith(("metric ", "functional "))][::5],
            *[name for name in named if name.startswith("loss ") and name.endswith("float32")][::5],
            *[name for name in named if name.startswith("cell ") and "fresh, float32" in name][::9],
            *[name for name in named if name.startswith("uniloss ")][::301],
            *[name for name in named if name.startswith("decision ")][::13],
        ]
        assert any("proxy_anchor" in name for name in sparse)
        assert len(sparse) > 70
        assert not every.faults((name, named[name]) for name in sparse)

    @pytest.mark.parametrize("options", [{}, {"anchored": False}, {"residual": True}], ids=str)
    def test_the_host_waits_six_times_a_step_for_adalfl_however_deep_the_model(options):
        few, many = (attached(lambda: mg.AdaLFL(num_outputs=10, **options), "sim", depth=depth) for depth in (1, 3))
        assert few.waits.total() <= 6, few
        assert many.waits == few.waits, (few, many)
