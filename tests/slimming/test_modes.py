"""The search's modes on networks: the same path from less work, and what each spends."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import batches, graph

from autoslim import archs
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph, Segments
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.slimming.trial import Criterion, Trial
from autoslim.tasks import objective_of

L = keras.layers


def branched():
    """Branches that are concatenated, one with a sum in it, then a stretch without any."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", name="stem")(image)))
    left = L.Conv2D(6, 1, padding="same", name="left", activation="relu")(x)
    right = L.BatchNormalization()(L.Conv2D(8, 3, padding="same", name="right")(x))
    x = L.Concatenate()([left, L.Add()([x, right])])
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(10, 3, name="after")(x)))
    return keras.Model(image, L.Dense(4, name="logits")(L.GlobalAveragePooling2D()(x)))


def held_out(images=24, batch=12, shape=(8, 8, 3), classes=4):
    generator = np.random.default_rng(7)
    x = generator.normal(size=(images, *shape)).astype(np.float32)
    y = generator.integers(0, classes, images).astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


def slow_losses(made, widths, given):
    """Per-image cross-entropy [images] by plain passes of the whole graph."""
    return np.concatenate(
        [
            objective_of("classification", made).scores(y, made.run(x, widths, batch_statistics=True))[0]
            for x, y in given
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "target", "share"),
    [
        (lambda: archs.resnet((8, 8, 3), 4, 8, 4), 0.7, 0.8),
        pytest.param(lambda: archs.mobilenet_v2((8, 8, 3), 4, 0.1), 0.95, 0.7, marks=pytest.mark.long),
        (branched, 0.4, 1.0),
    ],
    ids=["resnet8", "mobilenet_v2", "branched"],
)
def test_exact_is_naive(build, target, share):
    """Equal bits, step by step, and both are what whole passes of the graph give."""
    keras.utils.set_random_seed(0)
    made = ChannelGraph(build())
    levels = Levels.spaced(made, 4, 0.25, 1)
    naive = search(made, levels, held_out(), target=[target], search="naive", lazy=False, per_cost=False)
    exact = search(made, levels, held_out(), target=[target], search="exact", lazy=False, per_cost=False)
    assert len(naive.points) > 3
    for one, other in zip(naive.points, exact.points, strict=True):
        for name in ("widths", "group", "loss", "loss_error", "metric", "share", "naive_macs", "images"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.macs == one.naive_macs
        losses = slow_losses(made, np.array(one.widths, np.int32), held_out())
        assert one.loss == pytest.approx(losses.mean(dtype=np.float64), rel=1e-5)
    assert exact.share_of_naive < share and naive.share_of_naive == 1.0


def test_exact_counts_what_it_ran():
    """By hand: the current network up to the hidden layer, each candidate from the first layer it touches."""
    made = graph()
    levels = Levels.spaced(made, 4, 0.25, 2)
    found = search(
        made, levels, batches(30, 15, seed=5), target=[0.6], search="exact", lazy=False, per_cost=False
    )
    assert found.points[0].macs == 30 * made.cost().flops
    for before, point in zip(found.points, found.points[1:], strict=False):
        spent = 0
        for group, widths in enumerate(levels.widths):
            place = widths.index(before.widths[group])
            if not place:
                continue
            now = [*before.widths]
            now[group] = widths[place - 1]
            _, a, b, c, hidden, classes = now
            layers = [36 * 9 * 2 * a, 36 * 9 * a * b, 36 * 9 * b * c, c * hidden, hidden * classes]
            spent += sum(layers[group - 1 :])
        _, a, b, c, *_ = before.widths
        prefix = [0, 2 * a, 2 * a + a * b, 2 * a + a * b + b * c]
        narrowed = [g for g, widths in enumerate(levels.widths) if widths.index(before.widths[g])]
        assert point.macs == 30 * (spent + 36 * 9 * prefix[max(narrowed) - 1])
        assert point.scored == 30 * len(narrowed)


def test_one_trace_for_each_segment():
    made = graph()
    scorer, generator = Scorer(made, batches(22, 15)), np.random.default_rng(0)
    levels = Levels.spaced(made, 4, 0.25, 2)
    for _ in range(5):
        base = levels.random(generator)
        candidates = np.stack([levels.random(generator) for _ in range(4)])
        for batches_of in ([0], [1], [1, 0]):
            from_cuts, whole = (
                scorer.score(batches_of, candidates, base),
                scorer.score(batches_of, candidates),
            )
            np.testing.assert_array_equal(from_cuts, whole)
    assert scorer.segments.traces == [1] * len(scorer.segments) and len(scorer.segments) == 4


def test_a_candidate_that_is_the_base_costs_one_pass():
    made = graph()
    scorer = Scorer(made, batches(24, 12))
    base = made.full
    losses, _ = scorer.score([1], np.stack([base, base]), base)
    assert scorer.macs == 12 * made.cost().flops
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(losses, scorer.score([1], np.stack([base, base]))[0])


@pytest.fixture(scope="module")
def made():
    """A network whose groups matter in very different degrees."""
    wide = graph(widths=(16, 12, 16))
    logits = wide.model.get_layer("logits")
    logits.kernel.assign(8 * np.array(logits.kernel))
    return wide


@pytest.fixture(scope="module")
def levels(made):
    return Levels.spaced(made, 6, 0.25, 2)


def found(made, levels, target=0.5, **settings):
    settings = {"search": "exact", "lazy": False, "per_cost": False, **settings}
    return search(made, levels, batches(48, 6, seed=5), target=[target], **settings)


def path(trajectory):
    return [(p.widths, p.group, p.loss, p.metric, p.loss_error) for p in trajectory.points]


@pytest.mark.slow
@pytest.mark.parametrize(("score", "per_cost"), [("loss", True), ("metric", False)])
def test_what_leaves_nothing_out_is_exact(made, levels, score, per_cost):
    same = {"score": score, "per_cost": per_cost}
    exact = found(made, levels, 0.7, **same)
    for settings in (
        {"search": "naive"},
        {"lazy": True, "refresh": 1},
        {"lazy": True, "refresh": 1, "search": "naive"},
        {"search": "halving", "first": 1.0},
    ):
        assert path(found(made, levels, 0.7, **same, **settings)) == path(exact)


def test_where_nothing_saves_the_plain_drop_decides(made, levels):
    scorer, now = Scorer(made, batches()), levels.largest
    groups, candidates = levels.one_narrower(now)
    nothing, criterion = np.zeros(len(groups)), Criterion("loss", per_cost=True)
    trial = Trial(scorer, now, candidates, nothing, criterion)
    every = np.arange(len(groups))
    plain = Trial(scorer, now, candidates, nothing, Criterion("loss"), drops=True)
    np.testing.assert_array_equal(trial.badness(every, [0]), plain.differences(every, [0]))


def test_drops_per_cost(made, levels):
    """Against explicit loops: the least (loss - current loss) / share saved."""
    given = list(batches(48, 6, seed=5))
    trajectory, overruled = found(made, levels, 0.5, per_cost=True), 0
    for before, point in zip(trajectory.points, trajectory.points[1:], strict=False):
        now = np.array(before.widths, np.int32)
        loss, cost = slow_losses(made, now, given).mean(dtype=np.float64), made.cost(now).flops
        drops, ratios = {}, {}
        for group, widths in enumerate(levels.widths):
            if place := widths.index(now[group]):
                candidate = now.copy()
                candidate[group] = widths[place - 1]
                drops[group] = slow_losses(made, candidate, given).mean(dtype=np.float64) - loss
                ratios[group] = drops[group] / ((cost - made.cost(candidate).flops) / made.cost().flops)
        best = min(ratios.values())
        assert ratios[point.group] == pytest.approx(best, rel=1e-3, abs=1e-5)
        overruled += drops[point.group] > min(drops.values())
    assert overruled


SPARING = [
    {"search": "halving", "first": 0.125},
    {"lazy": True, "refresh": 4},
    {"search": "halving", "first": 0.125, "lazy": True, "refresh": 3, "per_cost": True},
    {"search": "halving", "first": 0.25, "lazy": True, "refresh": 3, "score": "metric"},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SPARING, ids=[" ".join(map(str, s.values())) for s in SPARING])
def test_going_on_is_as_if_never_stopped(made, levels, settings):
    """Modes are functions of the arguments and the step; a lazy queue travels with the path."""
    seen = []
    whole = found(made, levels, 0.45, on_point=seen.append, **settings)
    for start in seen[:-1:3]:
        kept = Trajectory.from_dict(json.loads(json.dumps(start.to_dict())))
        assert found(made, levels, 0.45, start=kept, **settings) == whole
    assert all(point.images <= 48 for point in whole.points)
    assert whole.reaches(0.45)


@pytest.mark.parametrize(
    ("settings", "stops"),
    [({}, (15, 60, 50)), (SPARING[2], (12, 45, 20))],
    ids=["exact", "halving lazy per_cost"],
)
def test_stopped_within_a_step(made, levels, monkeypatch, settings, stops):
    """What a broken step had scored is scored again, and nothing else is different."""
    whole, run, left = found(made, levels, 0.5, **settings), Segments.run, [0]

    def counting(self, *args):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(Segments, "run", counting)
    kept = [None]
    for stop in stops:
        left[0] = stop
        with pytest.raises(KeyboardInterrupt):
            found(made, levels, 0.5, start=kept[-1], on_point=kept.append, **settings)
    assert 2 <= len(kept) < len(whole.points)
    assert found(made, levels, 0.5, start=kept[-1], **settings) == whole


def test_sparing_modes_spend_less(made, levels):
    exact = found(made, levels)
    for settings in (SPARING[0], SPARING[2]):
        sparing = found(made, levels, **settings)
        assert sum(p.scored for p in sparing.points) < sum(p.scored for p in exact.points)
        assert sparing.share_of_naive < exact.share_of_naive


def test_batches_take_turns(made, levels, monkeypatch):
    """A step begins where the step before had its first share; the number of the step decides alone."""
    asked = []
    score = Scorer.score

    def spy(self, batches_of, *args):
        asked.extend(batches_of)
        return score(self, batches_of, *args)

    monkeypatch.setattr(Scorer, "score", spy)
    begins = [8]  # of each step, among what was asked for
    trajectory = found(
        made, levels, search="halving", first=0.25, on_point=lambda _: begins.append(len(asked))
    )
    steps = len(trajectory.points) - 1
    assert asked[:8] == list(range(8)) and steps > 4
    firsts = [asked[begin : begin + 2] for begin in begins[:steps]]
    assert firsts == [[(2 * step + i) % 8 for i in (0, 1)] for step in range(steps)]


def test_a_queue_knows_every_group_that_was_scored(made, levels):
    trajectory = found(made, levels, 0.9, lazy=True)
    known = [drop is not None for drop in trajectory.queue]
    assert known == [len(widths) > 1 for widths in levels.widths]
    assert found(made, levels, 0.9).queue == ()


def test_a_search_that_ends_early(made, levels, monkeypatch, caplog):
    """Costs that rise under way: what was reached is kept and told."""
    least = made.cost(levels.smallest).flops / made.cost().flops
    monkeypatch.setattr(Budget, "refuse_unreachable", lambda *_: None)
    seen = []
    with pytest.raises(AutoslimError) as error:
        search(made, levels, batches(48, 6), target=[least / 2], on_point=seen.append)
    told = (
        f"The search ended at {least:.3f} of the full network's flops, with every group at its smallest "
        f"level: {least / 2:g} is not reached. Lower slim.min_width or slim.divisor, or allow "
        "more."
    )
    assert str(error.value) == told and seen[-1].points[-1].widths == tuple(levels.smallest)
    trajectory = search(made, levels, batches(48, 6), target=[0.5, least / 2], start=seen[-1])
    assert trajectory.points == seen[-1].points and trajectory.at(0.5).share <= 0.5
    assert [record.getMessage() for record in caplog.records] == [told]
