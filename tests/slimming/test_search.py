"""The greedy search against brute force, and its trajectory."""

import csv
import io
import json

import keras
import numpy as np
import pytest
from nets import CLASSES, batches, graph, images

import autoslim
from autoslim.datasets import GivenBatches
from autoslim.errors import AutoslimError
from autoslim.slimming.levels import Levels
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.trajectory import Point, Trajectory


def search(*args, **settings):
    """By the plain drops of all groups on all images, unless asked otherwise."""
    return autoslim.search(*args, **{"search": "exact", "lazy": False, "per_cost": False, **settings})


@pytest.fixture(scope="module")
def big():
    """A supernet with some training."""
    made = graph()
    levels = Levels.spaced(made, 4, 0.25, 2)
    autoslim.train_supernet(
        made,
        levels,
        GivenBatches(batches(48, 16)),
        epochs=4,
        distill_ramp=0.0,
        optimizer=keras.optimizers.SGD(0.05, 0.9),
        arms=3,
    )
    return made


@pytest.fixture(scope="module")
def levels(big):
    return Levels.spaced(big, 4, 0.25, 2)


def holdout():
    return batches(30, 15, seed=5)


# -- an independent reference ---------------------------------------------------------------------------


def slow_scores(big, widths):
    """Per-image loss and correctness of the plain Keras model at `widths`, each batch's own statistics."""
    model = big.materialize(np.array(widths, np.int32))
    losses, right = [], []
    for x, y in holdout():
        # training=True: own statistics. The network has no dropout, and a copy's moving ones don't matter.
        logits = np.asarray(model(x, training=True), np.float64)
        losses += list(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(y)), y.numpy()])
        right += list(logits.argmax(-1) == y.numpy())
    return np.array(losses), np.array(right, float)


def slow_cost(widths, resource):
    """FLOPs, trainable parameters and peak bytes of the network in `nets`, written out."""
    _, a, b, c, hidden, classes = widths
    convolutions = 9 * (2 * a + a * b + b * c)
    dense = c * hidden + hidden * classes
    if resource == "flops":
        return 36 * convolutions + dense
    if resource == "params":
        return convolutions + 2 * (a + b + c) + dense + hidden + classes
    return max(slow_moments(widths))


def slow_moments(widths):
    """Bytes that live before, while and after each convolution runs."""
    _, a, b, c, _, _ = widths
    return [
        4 * 36 * channels for channels in (2, 2 + a, 2 * a, 2 * a, a + b, 2 * b, 2 * b, b + c, 2 * c, 2 * c)
    ]


def slow_search(big, levels, target, resource="flops", score="loss"):
    """Greedy by explicit loops: every group one level down, the least loss stays."""
    now = [widths[-1] for widths in levels.widths]
    full = slow_cost(now, resource)
    path = [tuple(now)]
    while slow_cost(now, resource) > target * full:
        best = None
        for group, widths in enumerate(levels.widths):
            place = widths.index(now[group])
            if place == 0:
                continue
            candidate = [*now[:group], widths[place - 1], *now[group + 1 :]]
            if resource == "memory":  # a maximum: only what lowers a moment above the budget is a step
                moments = zip(slow_moments(now), slow_moments(candidate), strict=True)
                if not any(before > max(after, target * full) for before, after in moments):
                    continue
            losses, right = slow_scores(big, candidate)
            bad = round(losses.mean(), 6) if score == "loss" else -right.mean()
            key = (bad, slow_cost(candidate, resource), group)
            if best is None or key < best[0]:
                best = (key, candidate)
        now = best[1]
        path.append(tuple(now))
    return path


@pytest.mark.parametrize(
    ("resource", "score", "target"),
    [("flops", "loss", 0.35), ("flops", "metric", 0.5), ("params", "loss", 0.6), ("memory", "loss", 0.8)],
)
def test_brute_force(big, levels, resource, score, target):
    found = search(big, levels, holdout(), target=[target], resource=resource, score=score)
    expected = slow_search(big, levels, target, resource, score)
    assert [point.widths for point in found.points] == expected
    full = slow_cost(levels.largest, resource)
    for before, point in zip([None, *found.points], found.points, strict=False):
        losses, right = slow_scores(big, point.widths)
        assert point.cost.of(resource) == slow_cost(point.widths, resource)
        assert point.share == slow_cost(point.widths, resource) / full
        assert point.loss == pytest.approx(losses.mean(), rel=1e-4)
        assert point.loss_error == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)), rel=1e-3)
        assert point.metric == right.mean()
        if before is not None:
            changed = [g for g in range(6) if point.widths[g] != before.widths[g]]
            assert changed == [point.group]


def test_the_bill(big, levels):
    """What a step spends is all its candidates' FLOPs on all images; the first point is one pass."""
    found = search(big, levels, holdout(), target=[0.7], convention="with_norm", search="naive", lazy=False)
    assert found.points[0].macs == 30 * slow_cost(levels.largest, "flops")
    total = found.points[0].macs
    for before, point in zip(found.points, found.points[1:], strict=False):
        spent = 0
        for group, widths in enumerate(levels.widths):
            place = widths.index(before.widths[group])
            if place:
                candidate = [*before.widths]
                candidate[group] = widths[place - 1]
                spent += 30 * slow_cost(candidate, "flops")
        assert point.macs == spent
        total += spent
    assert found.passes == pytest.approx(total / found.points[0].macs)


def test_ties_go_to_the_group_that_saves_most():
    """A network whose logits are always zero: every candidate scores the same."""
    flat = graph()
    for weight in flat.model.get_layer("logits").weights:
        weight.assign(np.zeros(weight.shape))
    levels = Levels.spaced(flat, 4, 0.25, 2)
    found = search(flat, levels, holdout(), target=[0.5])
    for before, point in zip(found.points, found.points[1:], strict=False):
        saved = []
        for group, widths in enumerate(levels.widths):
            place = widths.index(before.widths[group])
            candidate = [*before.widths]
            candidate[group] = widths[max(place - 1, 0)]
            saved.append(slow_cost(before.widths, "flops") - slow_cost(candidate, "flops"))
        assert point.group == int(np.argmax(saved))


def test_one_pass_serves_several_targets(big, levels):
    one = search(big, levels, holdout(), target=[0.7, 0.35, 0.5])
    for target in (0.7, 0.5, 0.35):
        alone = search(big, levels, holdout(), target=[target])
        assert alone.points == one.points[: len(alone.points)]
        assert one.at(target) == alone.points[-1]
        assert one.at(target).share <= target < one.points[len(alone.points) - 2].share
    assert one.at(1.0) == one.points[0]
    assert one.reaches(0.35) and not one.reaches(0.01)


def test_going_on_from_a_prefix(big, levels):
    seen = []
    whole = search(big, levels, holdout(), target=[0.4], on_point=seen.append)
    last = len(whole.points)
    given_back = [len(t.points) for t in seen[last - 1 :]]  # after the path is complete
    assert [len(t.points) for t in seen] == [*range(2, last + 1), *given_back] and seen[-1] == whole
    assert set(given_back) == {last}
    for start in seen[::3]:
        again = Trajectory.from_dict(json.loads(json.dumps(start.to_dict())))
        assert search(big, levels, holdout(), target=[0.4], start=again) == whole
    assert search(big, levels, holdout(), target=[0.9], start=whole).points == whole.points


def test_start_of_another_search(big, levels):
    start = search(big, levels, holdout(), target=[0.9])
    for change in ({"resource": "params"}, {"convention": "with_norm"}):
        with pytest.raises(AutoslimError, match="start= is of another search"):
            search(big, levels, holdout(), target=[0.8], start=start, **change)
    with pytest.raises(
        AutoslimError, match=r"on 30 images; this one .* on 24 images\. Search without start="
    ):
        search(big, levels, batches(), target=[0.8], start=start)


def test_target_out_of_reach(big, levels):
    least = slow_cost(levels.smallest, "flops") / slow_cost(levels.largest, "flops")
    with pytest.raises(AutoslimError) as error:
        search(big, levels, holdout(), target=[0.5, 0.01])
    assert str(error.value) == (
        "Cannot reach flops <= 0.01: with every group at its smallest level the network still costs "
        f"{least:.3f} of the full one's flops. Lower slim.min_width or slim.divisor, or raise slim.target to "
        f"{np.ceil(least * 1000) / 1000:g} or more."
    )
    reachable = np.ceil(least * 1000) / 1000
    assert search(big, levels, holdout(), target=[reachable]).reaches(reachable)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "accuracy"}, "unknown slim.score 'accuracy'. There are: loss, metric."),
        ({"target": []}, r"slim.target=\[\] names no target: it is the share of the full network's flops"),
        ({"target": [0.5, 1.5]}, r"slim.target=1.5 is outside \(0, 1\]: it is the share"),
        ({"targets": [0.5]}, r"search\(\) has no option 'targets'. Did you mean target\? There are: "),
        ({"lazy": "perhaps"}, "slim.lazy='perhaps' is out of range: true or false"),
        ({"refresh": 0}, "slim.refresh=0 is out of range: a number of steps, at least 1."),
        (
            {"limits": {"params": -1}},
            "slim.limits.params=-1 is out of range: an amount above 0, base, or null.",
        ),
        ({"limits": {"power": 1}}, r"limits\(\) has no option 'power'"),
        ({"resource": "latency"}, "Latency is limited but nothing measures it"),
    ],
)
def test_arguments_out_of_range(big, levels, change, message):
    with pytest.raises(AutoslimError, match=message):
        search(big, levels, holdout(), **{"target": [0.5], **change})


def test_held_out_images_that_do_not_serve(big, levels):
    with pytest.raises(AutoslimError, match="The search got no held-out images"):
        search(big, levels, [])
    with pytest.raises(AutoslimError, match="A held-out batch has one image"):
        search(big, levels, batches(16, 5))


def test_a_broken_supernet():
    broken = graph()
    broken.model.get_layer("logits").bias.assign(np.full(CLASSES, np.nan))
    with pytest.raises(AutoslimError, match="loss on the held-out images is NaN or infinite"):
        search(broken, Levels.spaced(broken, 4, 0.25, 2), holdout())


def test_one_trace_for_all_widths_and_batches(big, levels):
    scorer = Scorer(big, [(x[:7], y[:7]) if i else (x, y) for i, (x, y) in enumerate(holdout())])
    generator = np.random.default_rng(0)
    losses, right = scorer(np.stack([levels.random(generator) for _ in range(20)]))
    assert losses.shape == right.shape == (20, 22) and scorer.images == 22
    assert scorer.traces == 1


def test_labels_of_any_integer_type(big, levels):
    x, y = images(12)
    found = [Scorer(big, [(x, y.astype(t))])(levels.largest[None])[0] for t in (np.uint8, np.int64)]
    np.testing.assert_array_equal(found[0], found[1])


def test_trajectory_round_trips(big, levels):
    found = search(big, levels, holdout(), target=[0.6])
    assert Trajectory.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == len(found.points)
    for step, (row, point) in enumerate(zip(rows, found.points, strict=True)):
        assert int(row["step"]) == step
        assert row["group"] == ("" if point.group is None else found.groups[point.group])
        assert tuple(int(row[name]) for name in found.groups) == point.widths
        for name in ("flops", "params", "memory", "share", "loss", "loss_error", "metric", "macs"):
            assert float(row[name]) == point.to_dict()[name]
    assert found.channels(found.points[-1]) == dict(zip(found.groups, found.points[-1].widths, strict=True))
    fields = set(Point.__dataclass_fields__) - {"cost"}
    assert set(found.to_dict()["points"][0]) == fields | {"flops", "params", "memory"}


def test_a_target_that_the_path_does_not_reach(big, levels):
    found = search(big, levels, holdout(), target=[0.8])
    with pytest.raises(AutoslimError, match=r"The search reached 0\.\d+ of the full flops, not 0\.2\."):
        found.at(0.2)
