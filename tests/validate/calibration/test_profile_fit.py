"""Profiles found back from measurements of devices whose figures are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profile import CollectiveRatio, load_profile
from tests.validate.calibration.synthetic import device_items, figures, measured, on, synthesised
from topologies.catalogue import load_accelerator, load_cluster
from topologies.collective import Collective
from topologies.figure import Figure, Provenance
from validate.calibration import messages, overlap, probe, streams, sustained, targets
from validate.calibration.item import Item
from validate.calibration.profile_fit import KINDS, ProfileFit

#: A second and a third make of core, far from the profile that fits start from.
SLOW = {
    "hbm_fraction": 0.3, "kernel_s": 20e-6,
    "gemm_fraction": 0.35, "gemm_half_waves": 1.0, "gemm_half_depth": 200.0,
    "weight_gradient_ratio": 0.5,
    "attention_fraction": 0.2, "attention_half_waves": 2.0, "attention_half_tokens": 150.0,
    "attention_half_width": 40.0, "attention_backward_ratio": 0.6,
    "attention_backward_half_tokens": 100.0, "attention_backward_half_width": 60.0,
    "attention_mask_keys": 128.0,
}  # fmt: skip
FAST = {
    "hbm_fraction": 1.4, "kernel_s": 3e-6,
    "gemm_fraction": 4.0, "gemm_half_waves": 3.0, "gemm_half_depth": 50.0,
    "weight_gradient_ratio": 1.3,
    "attention_fraction": 2.0, "attention_half_waves": 0.5, "attention_half_tokens": 300.0,
    "attention_half_width": 15.0, "attention_backward_ratio": 1.2,
    "attention_backward_half_tokens": 400.0, "attention_backward_half_width": 25.0,
    "attention_mask_keys": 512.0,
}  # fmt: skip
#: Products that memory hides from where fits start, three times over.
MATRIX_UNITS = FAST | {"gemm_fraction": 20.0, "gemm_half_depth": 20.0, "weight_gradient_ratio": 0.5}
GPU = {
    "gemm_fraction": 0.5, "attention_fraction": 0.45, "attention_mask_keys": 64.0,
    "attention_backward_ratio": 0.7, "hbm_fraction": 0.7, "kernel_s": 3e-6, "host_launch_s": 6e-6,
}  # fmt: skip
RATES = ("hbm_fraction", "gemm_fraction", "attention_fraction", "attention_backward_ratio")


def core():
    return load_accelerator("cpu-core"), load_profile("cpu-core")


def fitted(found, accelerator, base, cluster=None, cores=None):
    return ProfileFit(
        found=found, device=on(accelerator, base), cluster=cluster, cores=cores,
        source="a test", seed=0,
    )  # fmt: skip


def fit_of_a_core(values, world=1, **more):
    accelerator, base = core()
    cluster = load_cluster("cpu-gloo", world) if world > 1 else None
    true = figures(base, **values)
    found = synthesised(
        device_items("cpu", world), on(accelerator, true), cluster, **{"cores": world, **more}
    )
    return fitted(found, accelerator, base, cluster, more.get("cores"))


def factors(done, values):
    return {name: getattr(done.profile, name).value / value for name, value in values.items()}


@pytest.mark.parametrize("values", [SLOW, FAST, MATRIX_UNITS], ids=["slow", "fast", "matrix"])
def test_without_noise_every_figure_is_found_back(values):
    done = fit_of_a_core(values)
    assert factors(done, values) == pytest.approx(dict.fromkeys(values, 1.0), rel=1e-3)
    assert all(abs(each.held_out).max() < 1e-3 for each in done.fits.values())
    assert all(abs(each.error) < 1e-3 for each in done.predictions)


@settings(max_examples=6)
@given(
    seed=st.integers(0, 2**20),
    tile=st.sampled_from([64.0, 128.0, 256.0, 512.0]),
    scale=st.fixed_dictionaries({name: st.floats(0.6, 1.6) for name in SLOW}),
)
def test_with_noise_figures_are_near_and_errors_are_the_noise(seed, tile, scale):
    values = {name: value * scale[name] for name, value in SLOW.items()}
    values["attention_mask_keys"] = tile
    done = fit_of_a_core(values, noise=0.03, seed=seed)
    found = factors(done, values)
    assert found["attention_mask_keys"] == 1.0
    assert [found[name] for name in RATES] == pytest.approx([1.0] * len(RATES), rel=0.1)
    assert found == pytest.approx(dict.fromkeys(values, 1.0), rel=0.35)
    for each in done.fits.values():  # the median of five rounds has half a round's noise
        assert 0.004 < each.summary()["held_out_median"] < 0.025
        assert each.summary()["held_out_p90"] < 0.06
    assert 0.005 < np.sqrt(np.mean([each.error**2 for each in done.predictions])) < 0.05


def test_a_tenth_of_points_three_times_as_slow_moves_figures_little():
    done = fit_of_a_core(SLOW, noise=0.03, slow=0.1, seed=3)
    late = [each for each in done.fits["gemm"].in_sample if each < -0.5]
    assert late
    found = factors(done, SLOW)
    assert [found[name] for name in RATES] == pytest.approx([1.0] * len(RATES), rel=0.1)
    assert found == pytest.approx(dict.fromkeys(SLOW, 1.0), rel=0.4)
    assert all(each.summary()["in_sample_median"] < 0.05 for each in done.fits.values())


@pytest.mark.parametrize("tile", [64.0, 128.0, 256.0, 512.0])
def test_the_tile_along_the_mask_is_found(tile):
    done = fit_of_a_core({**FAST, "attention_mask_keys": tile}, noise=0.02)
    assert done.profile.attention_mask_keys.value == tile
    assert "attention_mask_keys" in done.measured


def test_memory_counts_by_what_it_takes_of_a_layer():
    (kind,) = (kind for kind in KINDS if kind.kind == streams.KIND)
    norm, add = (
        Item.of(streams.KIND, operator=operator, phase="forward", elements=elements)
        for operator, elements in (("rms_norm", 1000), ("residual", 4000))
    )
    weights = kind.weight(measured(norm, 6.0)), kind.weight(measured(add, 4.0))
    assert weights[0] / weights[1] == pytest.approx(6.0)


def test_one_bandwidth_stands_for_what_moves_most_in_a_layer():
    accelerator, base = core()
    true = on(accelerator, figures(base, **SLOW | {"kernel_s": 1e-8}))
    found = [
        replace(one, seconds=tuple(s * (1.1 if _of_a_norm(one) else 1.0) for s in one.seconds))
        for one in synthesised(device_items("cpu", 1), true)
    ]
    done = fitted(found, accelerator, base)
    # Of 18 points of each size two are norms', and they have 132 of some 440 bytes of an element.
    assert done.profile.hbm_fraction.value < 0.98 * SLOW["hbm_fraction"]


def _of_a_norm(one):
    return one.item.kind == streams.KIND and one.item["operator"] == "rms_norm"


def test_ratios_of_collectives_are_found_back_inside_a_node_and_between_nodes():
    accelerator, base = load_accelerator("h100-sxm"), load_profile("h100-sxm")
    cluster = load_cluster("h100-dgx:2", 16)
    truth = {
        (collective, beyond): (1.2 + 0.2 * at + beyond, 1.1 + 0.1 * at + 0.5 * beyond)
        for at, collective in enumerate(Collective)
        for beyond in (False, True)
    }
    true = replace(base, collectives=tuple(_ratio(key, *truth[key]) for key in truth))
    items = [item for item in device_items("cuda", 16) if item.kind != targets.BLOCK]
    found = synthesised(items, on(accelerator, true), cluster, noise=0.03)
    done = fitted(found, accelerator, base, cluster)
    ratios = {(each.collective, each.scale_out): each for each in done.profile.collectives}
    assert set(ratios) == set(truth)
    for key, (start, per_byte) in truth.items():
        assert ratios[key].start.value == pytest.approx(start, rel=0.05), key
        assert ratios[key].per_byte.value == pytest.approx(per_byte, rel=0.05), key
        name = f"{key[0]} {'scale-out' if key[1] else 'scale-up'}"
        assert done.fits[name].summary()["held_out_median"] < 0.025
    inside, sizes = 3, 15  # 2, 4 and 8 neighbours are on one node of eight
    assert done.fits["shift scale-up"].summary()["points"] == inside * sizes


def _ratio(key, start, per_byte):
    one, other, root = (
        Figure(value=value, kind=Provenance.MEASURED, source="a test")
        for value in (start, per_byte, 1.0)
    )
    return CollectiveRatio(
        collective=key[0], scale_out=key[1], start=one, per_byte=other, per_root_byte=root
    )


def test_a_gpu_has_launches_lasting_rates_and_both_steals_besides():
    accelerator, base = load_accelerator("h100-sxm"), load_profile("h100-sxm")
    cluster = load_cluster("h100-dgx:2", 16)
    true = on(accelerator, figures(base, **GPU, gemm_sustained=1.0))
    found = synthesised(device_items("cuda", 16), true, cluster, lasting=0.8, stolen=0.3)
    done = fitted(found, accelerator, base, cluster)
    assert factors(done, GPU) == pytest.approx(dict.fromkeys(GPU, 1.0), rel=1e-3)
    assert done.profile.gemm_sustained.value == pytest.approx(0.8)
    assert done.profile.steal_scale_up.value == pytest.approx(0.3, abs=1e-3)
    assert done.profile.steal_scale_out.value == pytest.approx(0.3, abs=1e-3)
    assert done.fits["memory"].summary()["parameters"] == ["hbm_fraction"]
    assert all(abs(each.error) < 1e-3 for each in done.predictions)  # bursts too


def test_what_was_not_measured_stays_as_it_was():
    done = fit_of_a_core(SLOW)
    _, base = core()
    assert len(done.measured) == len(set(done.measured))
    for name, figure in done.profile.figures():
        if name in done.measured:
            assert figure.source == "a test", name
            assert figure.kind is not Provenance.ASSUMED
        else:
            assert figure == getattr(base, name), name
    assert {"gemm_sustained", "steal_scale_up", "host_launch_s"}.isdisjoint(done.measured)
    assert {"communication_spread", "collectives"}.isdisjoint(done.measured)
    assert done.profile.collectives == ()


def test_figures_of_a_fit_are_fitted_and_those_of_one_kernel_measured():
    done = fit_of_a_core(SLOW, world=2, stolen=0.5)
    assert done.profile.gemm_fraction.kind is Provenance.FITTED
    assert done.profile.attention_mask_keys.kind is Provenance.FITTED
    assert done.profile.steal_scale_up.kind is Provenance.MEASURED
    assert done.profile.steal_scale_up.value == pytest.approx(0.5, abs=1e-3)
    assert done.profile.compute_spread.kind is Provenance.MEASURED
    # Gloo's times are straight lines of the bytes: there is no third figure to find.
    assert done.fits["shift scale-up"].summary()["parameters"] == ["start", "per_byte"]


def test_spreads_are_those_of_what_no_fit_has_seen():
    accelerator, base = core()
    cluster = load_cluster("cpu-gloo", 2)
    items = device_items("cpu", 2)
    found = [
        replace(one, seconds=tuple(s * _late(one.item) for s in one.seconds))
        for one in synthesised(items, on(accelerator, figures(base, **SLOW)), cluster)
    ]
    done = fitted(found, accelerator, base, cluster)
    assert done.profile.compute_spread.value == pytest.approx(np.log(1.3), rel=0.01)
    sent = [np.log1p(each.held_out) for name, each in done.fits.items() if " scale-up" in name]
    assert len(sent) == len(Collective)
    spread = np.sqrt(np.mean(np.concatenate(sent) ** 2))
    assert done.profile.communication_spread.value == pytest.approx(spread)
    assert spread > 0.05


def _late(item):
    """Return by how much held-out things, and every other size of a message, are slower."""
    if item.kind in (targets.LAYER, targets.BLOCK):
        return 1.3
    return 1.2 if item.kind == messages.KIND and item.number("nbytes").bit_length() % 2 else 1.0


def test_a_lasting_rate_is_at_most_that_of_a_burst():
    args = {"m": 8, "n": 8, "k": 8, "way": "forward"}
    burst, lasting = Item.of("gemm", **args), Item.of(sustained.KIND, **args)
    assert sustained.share([measured(burst, 1.0), measured(lasting, 1.25)]) == pytest.approx(0.8)
    assert sustained.share([measured(burst, 1.0), measured(lasting, 0.9)]) == 1.0
    assert sustained.share([measured(burst, 1.0)]) is None
    assert sustained.share([measured(lasting, 1.0)]) is None


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        ((3.0, 1.0, 3.2), 0.2),
        ((1.0, 3.0, 1.5), 0.5),
        ((3.0, 1.0, 2.9), 0.0),
        ((3.0, 1.0, 9.0), 1.0),
    ],
)
def test_a_hop_takes_a_share_of_the_shorter_of_both(seconds, share):
    assert overlap.stolen(*seconds) == pytest.approx(share)


def test_an_axis_that_was_not_measured_whole_says_nothing_of_what_hops_take():
    cluster = load_cluster("cpu-gloo", 2)
    items = [item for item in device_items("cpu", 2) if item.kind == overlap.KIND]
    found = [measured(item, 1.0) for item in items]
    assert overlap.shares(found, cluster) == {"steal_scale_up": [0.0]}
    assert overlap.shares(found[:2], cluster) == {}
    assert overlap.shares(found, None) == {"steal_scale_up": [0.0]}  # a GPU without others


def test_without_the_probe_nothing_is_said_of_what_passes_on_the_wall():
    found = [one for one in synthesised(device_items("cpu", 1), on(*core()))
             if one.item.kind != probe.KIND]  # fmt: skip
    done = fitted(found, *core())
    assert all(each.wall_s == each.seconds for each in done.predictions)
