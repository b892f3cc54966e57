"""Latency predicted from measured networks, by measures whose truth is known."""

import json
import logging
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np
import pytest
from nets import batches, graph

from autoslim.errors import AutoslimError
from autoslim.exporting import NetworkClock
from autoslim.graph import ChannelGraph
from autoslim.rounds import Sample
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency import LatencyModel
from autoslim.slimming.latency_curve import curve_through
from autoslim.slimming.latency_table import LatencyTable, network_hash
from autoslim.slimming.levels import Levels
from autoslim.slimming.own_measure import own_measure
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory


class Stub(NamedTuple):
    """In the place of a materialised network, which takes a tenth of a second each."""

    widths: tuple[int, ...]  # of image, conv1 to conv3, hidden and logits

    def count_params(self):
        return 0


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    if "real" not in request.node.name:
        made = lambda self, widths, **_: Stub(tuple(int(w) for w in widths))  # noqa: E731
        monkeypatch.setattr(ChannelGraph, "materialize", made)


def blocked(model):
    """A network's time on a machine that computes channels in blocks of 16, with a constant and memory."""
    image, one, two, three, hidden, logits = model.widths
    pairs = [(9, image, one), (9, one, two), (9, two, three)]
    times = [
        1e-5 * window * inputs * 16 * -(-outputs // 16) + 1e-4 * outputs for window, inputs, outputs in pairs
    ]
    return 0.05 + sum(times) + 1e-6 * (three * hidden + hidden * logits)


class Measure:
    """Counts what it is asked to measure."""

    def __init__(self, function=blocked):
        self.function, self.calls = function, 0

    def __call__(self, model):
        self.calls += 1
        return self.function(model)


@pytest.fixture(scope="module")
def channels():
    return graph(widths=(48, 40, 48))


@pytest.fixture(scope="module")
def levels(channels):
    return Levels.spaced(channels, 8, 0.25, 1)


@pytest.fixture
def model(channels, levels):
    return LatencyModel(channels, levels, blocked, targets=[0.5])


def test_the_fit_recovers_a_known_truth(channels, levels, model):
    generator = np.random.default_rng(7)
    networks = np.array([levels.random(generator) for _ in range(20)])
    truth = np.array([blocked(channels.materialize(network)) for network in networks])
    predicted = model(networks)
    assert np.median(np.abs(predicted / truth - 1)) < 0.03
    assert [predicted[0], predicted[1]] == pytest.approx([model(networks[0]), model(networks[1])])
    assert 0 < model.summary["error"] < 0.03 and model.summary["rank_correlation"] > 0.97


def test_full_and_smallest_are_predicted_as_measured(channels, levels, model):
    for widths in (channels.full, levels.smallest):
        assert model(widths) == pytest.approx(blocked(channels.materialize(widths)))
    assert model.full == blocked(channels.materialize(channels.full))


def test_it_falls_with_no_width(channels, levels, model):
    generator = np.random.default_rng(3)
    for _ in range(20):
        network = levels.random(generator)
        for group in range(len(network)):
            narrower = levels.narrower(group, int(network[group]))
            if narrower is not None:
                other = network.copy()
                other[group] = narrower
                assert model(other) <= model(network) * (1 + 1e-12)


def test_networks_near_the_target_are_measured(channels, levels):
    near, nowhere = (LatencyModel(channels, levels, blocked, targets=targets) for targets in ([0.5], []))
    more = [m for m in _measured(near) if m not in _measured(nowhere)]
    shares = [
        blocked(channels.materialize(np.array(m))) / blocked(channels.materialize(channels.full))
        for m in more
    ]
    assert len(more) >= 4 and all(abs(share - 0.5) < 0.1 for share in shares)


def _measured(model):
    model(model.graph.full)
    return [m.widths for m in model._used()]


def test_search_and_uniform_meet_the_target_as_measured(channels, levels, model):
    budget = Budget(channels, "latency", latency=model)
    found = search(channels, levels, batches(), target=[0.5], budget=budget)
    full = blocked(channels.materialize(channels.full))
    for widths in (np.array(found.at(0.5).widths), uniform_widths(budget, levels, 0.5)):
        (share,) = model.learn([widths], 0.5)
        assert share == pytest.approx(blocked(channels.materialize(widths)) / full)
        assert 0.4 < share <= 0.55


def test_what_a_search_chose_corrects_the_prediction(channels, levels):
    """A measure with a cliff that no feature knows: the fit errs there, until it is measured there."""

    def cliff(model):
        return blocked(model) * (1.25 if model.widths[2] == 19 else 1.0)

    latency = LatencyModel(channels, levels, cliff, targets=[0.5])
    network = levels.uniform(0.6)
    network[2] = 19
    truth = cliff(channels.materialize(network)) / cliff(channels.materialize(channels.full))
    before = abs(latency(network) / latency(channels.full) / truth - 1)
    (share,) = latency.learn([network], 0.5)
    after = abs(latency(network) / latency(channels.full) / truth - 1)
    assert share == pytest.approx(truth) and after < 1e-6 < before
    networks = np.stack([levels.uniform(share) for share in (0.3, 0.6, 0.9)])
    back = [latency.fitted_at(predicted) for predicted in latency(networks)]
    np.testing.assert_allclose(back, latency.fitted(networks))


def test_a_network_that_was_measured_above_the_target_is_not_chosen_again(channels, levels):
    """Every network is slower or faster than any model knows, by up to a tenth."""

    def uneven(model):
        return blocked(model) * (0.9 + 0.2 * (hash(model.widths) % 1000) / 1000)

    latency = LatencyModel(channels, levels, uneven, targets=[0.5])
    budget = Budget(channels, "latency", latency=latency)
    trajectory, tried = None, []
    for _ in range(8):
        trajectory = search(channels, levels, batches(), target=[0.5], budget=budget, start=trajectory)
        tried.append(trajectory.at(0.5).widths)
        (share,) = latency.learn([np.array(tried[-1])], 0.5)
        if share <= 0.5:
            break
        trajectory = budget.recounted(trajectory)
    assert share <= 0.5 and len(set(tried)) == len(tried)


def test_the_curve_passes_through_what_was_measured_and_rises():
    curve = curve_through(np.array([1.0, 2.0, 5.0]), np.array([2.0, 3.5, 8.0]))
    assert curve(np.array([0.5, 1.0, 1.5, 2.0, 5.0, 6.0])) == pytest.approx([1.25, 2.0, 2.75, 3.5, 8.0, 9.5])
    generator = np.random.default_rng(0)
    for _ in range(50):
        fitted, measured = generator.uniform(1, 2, (2, 6))
        measured[np.argmin(fitted)], measured[np.argmax(fitted)] = 0.9, 2.1
        curve = curve_through(fitted, measured)
        assert (np.diff(curve(np.linspace(0.5, 2.5, 200))) > 0).all()
        assert curve(fitted.max()) == 2.1 and curve(fitted.min()) == pytest.approx(0.9)


def test_arithmetic_of_moves_that_are_taken_back_stays_on_the_bill(channels, levels, model):
    found = search(
        channels,
        levels,
        batches(),
        target=[0.5],
        budget=Budget(channels, "latency", latency=model),
        exchange=1,
    )
    again = Budget(channels, "latency", latency=model).recounted(found)
    assert found.widenings and found.exchanges and not again.widenings and not again.exchanges
    assert again.macs == found.macs > sum(point.macs for point in again.points)
    assert Trajectory.from_dict(again.to_dict()).macs == found.macs


def test_progress_counts_every_network_of_the_first_fit(channels, levels):
    counts = []

    @contextmanager
    def progress(what, count):
        counts.append([count, 0])

        def advance():
            counts[-1][1] += 1

        yield advance

    LatencyModel(channels, levels, blocked, progress=progress)(channels.full)
    assert counts and all(count == advances for count, advances in counts)


class Noisy:
    """A clock whose first sessions are disturbed: each round takes up to twice as long."""

    name, unit = "noisy", "ms"
    identity: dict = {"device": "none"}

    def __init__(self, disturbed):
        self.disturbed, self.calls, self.generator = disturbed, 0, np.random.default_rng(0)

    def __call__(self, models, on_ready=lambda: None, rounds=1):
        self.disturbed -= 1
        models = list(models)
        self.calls += len(models)
        slow = (
            self.generator.uniform(1, 2, (len(models), 5))
            if self.disturbed >= 0
            else np.ones((len(models), 5))
        )
        return [list(blocked(model) * one) for model, one in zip(models, slow, strict=True)]


def test_noisy_measurements_are_made_again_until_they_agree(channels, levels, tmp_path, caplog):
    clock = Noisy(2)
    latency = LatencyModel(channels, levels, clock, folder=tmp_path)
    assert latency.full == blocked(channels.materialize(channels.full))
    assert latency.summary["noisy"] == 0 and latency.summary["spread"] == 0 and not caplog.records
    calls = clock.calls
    again = LatencyModel(channels, levels, clock, folder=tmp_path)
    assert again.full == latency.full and clock.calls == calls


def test_a_noisy_table_is_not_kept(channels, levels, tmp_path, caplog):
    sample = Sample((1.0, 1.3, 1.6), 1.0, False)
    table = LatencyTable(channels, {"device": "none"}, network_hash(channels, levels), tmp_path)
    quiet = [Sample((1.0,), 1.0, True)] * 2
    table.add([channels.full, levels.smallest, levels.uniform(0.5)], [*quiet, sample], None)
    clock = Noisy(0)
    caplog.set_level(logging.INFO)
    latency = LatencyModel(channels, levels, clock, folder=tmp_path)
    latency(channels.full)
    assert "1 of 3 measurements were noisy: they are made again" in caplog.text
    kept = {m.widths: m for m in latency._table.measurements}
    assert kept[tuple(levels.uniform(0.5))].rounds != sample.rounds
    assert kept[tuple(levels.smallest)].rounds == (1.0,) and all(m.settled for m in kept.values())


def test_what_never_agrees_is_said(channels, levels, caplog):
    latency = LatencyModel(channels, levels, Noisy(10**6))
    latency(channels.full)
    assert latency.summary["noisy"] > 0 and "do not agree, however often they were repeated" in caplog.text


def test_rounds_count_by_their_median_and_full_network(channels, levels):
    """Sessions run at different speeds, and single rounds are slow: neither shows in the shares."""

    class Drifting:
        name, unit = "drifting", "ms"
        identity: dict = {"device": "none"}
        sessions = 0

        def __call__(self, models, on_ready=lambda: None, rounds=1):
            self.sessions += 1
            return [[blocked(m) * self.sessions * slow for slow in (1, 1, 9, 1, 1)] for m in models]

    latency = LatencyModel(channels, levels, Drifting())
    widths = channels.uniform(0.5)
    truth = blocked(channels.materialize(widths)) / blocked(channels.materialize(channels.full))
    assert latency(widths) / latency(channels.full) == pytest.approx(truth, rel=0.05)
    full, half = latency.compare([widths])
    assert full.share == 1 and half.share == pytest.approx(truth) and half.spread == 0


# -- the table -------------------------------------------------------------------------------------------


def test_measurements_are_kept_and_used_again(channels, levels, tmp_path):
    first, second = Measure(), Measure()
    one = LatencyModel(channels, levels, first, folder=tmp_path, targets=[0.5])
    predicted = one(channels.uniform(0.5))
    other = LatencyModel(graph(widths=(48, 40, 48), seed=3), levels, second, folder=tmp_path, targets=[0.5])
    assert other(channels.uniform(0.5)) == predicted and first.calls > 40 and second.calls == 0
    (path,) = tmp_path.glob("*.json")
    table = json.loads(path.read_text())
    assert table["identity"] == other.identity and table["groups"][1] == "conv1"
    assert table["measurements"][0]["rounds"] == [blocked(channels.materialize(channels.full))]


def test_another_target_leaves_a_prediction_as_it_was(channels, levels, tmp_path):
    make = lambda target: LatencyModel(channels, levels, blocked, folder=tmp_path, targets=[target])  # noqa: E731
    before = make(0.5)(channels.uniform(0.4))
    make(0.4)(channels.full)
    assert make(0.5)(channels.uniform(0.4)) == before


def test_a_killed_measurement_goes_on(channels, levels, tmp_path):
    def killed(model):
        if measure.calls == 30:
            raise KeyboardInterrupt
        return blocked(model)

    measure = Measure(killed)
    with pytest.raises(KeyboardInterrupt):
        LatencyModel(channels, levels, measure, folder=tmp_path)(channels.full)
    again = Measure(killed)
    measure = Measure(blocked)
    LatencyModel(channels, levels, again, folder=tmp_path)(channels.full)
    assert 10 < again.calls < 35


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "{",
        lambda text: "[]",
        lambda text: text.replace('"rounds": [', '"rounds": [-', 1),
        lambda text: text.replace('"widths": [', '"widths": [9999, ', 1),
        lambda text: text.replace('"measurements": [', '"measurements": [7, ', 1),
        lambda text: text.replace('"full": ', '"full": "x", "no": ', 1),
        lambda text: '{"identity": {}, "network": ""}',
    ],
)
def test_a_table_that_does_not_hold_is_measured_again(channels, levels, tmp_path, caplog, damage):
    expected = LatencyModel(channels, levels, Measure(), folder=tmp_path)(channels.uniform(0.5))
    (path,) = tmp_path.glob("*.json")
    path.write_text(damage(path.read_text()))
    measure = Measure()
    latency = LatencyModel(channels, levels, measure, folder=tmp_path)
    assert latency(channels.uniform(0.5)) == expected and measure.calls > 40
    assert f"{path} is " in caplog.text and "it is measured again" in caplog.text
    assert len(json.loads(path.read_text())["measurements"]) > 40


def test_another_device_measures_for_itself(channels, levels, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    clocks = []
    for device in ("one", "two"):
        measure = Measure()
        latency = LatencyModel(channels, levels, measure, folder=tmp_path)
        latency._table.__init__(channels, {"device": device}, latency._table.network, tmp_path)
        latency(channels.full)
        clocks.append(measure.calls)
    assert clocks[0] == clocks[1] > 40 and len(list(tmp_path.glob("*.json"))) == 2
    assert "are of another device, runtime or version than this one (two): it is measured here" in caplog.text


# -- a measurement of the user's own ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_values_that_are_no_measurement(channels, levels, value):
    with pytest.raises(AutoslimError, match=r"returned .*: expected a finite number above 0"):
        LatencyModel(channels, levels, lambda model: value)(channels.full)


def test_a_function_that_fails(channels, levels):
    def broken(model):
        raise RuntimeError("no phone")

    with pytest.raises(AutoslimError, match=r"failed on a network .*\(RuntimeError: no phone\)"):
        LatencyModel(channels, levels, broken)(channels.full)


def test_a_dotted_path():
    assert own_measure("math.sqrt").name == "math.sqrt"
    for path, reason in {
        "nosuch.energy": ": cannot import nosuch (ModuleNotFoundError: No module named 'nosuch')",
        "math.nosuch": ": math has no nosuch. Expected a function that returns a number above 0",
        "math.pi": ": math holds a float, not a function, as pi.",
        "energy": " is not a dotted path: expected module and function, such as my.module.energy.",
    }.items():
        with pytest.raises(AutoslimError) as caught:
            own_measure(path)
        assert str(caught.value).startswith(f"slim.measure={path}{reason}")


# -- messages --------------------------------------------------------------------------------------------


def test_a_target_out_of_reach_says_what_is_reachable(channels, levels):
    latency = LatencyModel(channels, levels, blocked)
    budget = Budget(channels, "latency", latency=latency)
    least = blocked(channels.materialize(levels.smallest)) / blocked(channels.materialize(channels.full))
    with pytest.raises(AutoslimError) as caught:
        budget.refuse_unreachable(levels.smallest, 0.9 * least)
    reachable = np.ceil(least * 1000) / 1000
    assert f"the network was measured at {least:.3f} of the full one's latency" in str(caught.value)
    assert f"or raise slim.target to {reachable:g} or more." in str(caught.value)
    budget.refuse_unreachable(levels.smallest, reachable)


@pytest.mark.parametrize("slower", [0.9999, 1.962])
def test_no_target_is_advised_where_narrower_networks_save_nothing(channels, levels, slower):
    full = channels.full.sum()
    latency = lambda widths: np.where(np.sum(widths, -1) == full, 1.0, slower)  # noqa: E731
    budget = Budget(channels, "latency", latency=latency)
    with pytest.raises(AutoslimError, match="narrower networks save none. Limit another resource") as caught:
        budget.refuse_unreachable(levels.smallest, 0.5)
    assert "slim.target" not in str(caught.value)


def test_nothing_is_advised_that_is_refused(channels):
    levels = Levels(tuple((1, g.size) if not g.frozen else (g.size,) for g in channels.groups))
    with pytest.raises(AutoslimError) as caught:
        Budget(channels).refuse_unreachable(levels.smallest, 1e-9)
    assert "slim.min_width" not in str(caught.value) and "Raise slim.target to" in str(caught.value)


# -- a real runtime --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["litert", pytest.param("keras", marks=pytest.mark.long), "onnx"])
def test_every_runtime_measures_a_network_that_was_never_called(runtime):
    channels = graph(widths=(8, 8, 8))
    ready = []
    (times,) = NetworkClock(runtime)([keras.models.clone_model(channels.model)], lambda: ready.append(1))
    assert len(times) >= 11 and min(times) > 0 and len(ready) == 1


@pytest.mark.slow
def test_a_real_clock():
    channels = graph(widths=(96, 96, 96))
    levels = Levels.spaced(channels, 3, 0.25, 8)
    latency = LatencyModel(channels, levels, NetworkClock("litert"))
    full, small = latency.compare([levels.smallest])
    assert 0 < small.time < full.time and small.share < 0.7 and full.spread < 0.5
    assert {"device", "threads", "runtime", "versions"} == set(latency.identity)
