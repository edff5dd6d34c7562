"""The one path from array to array."""

from __future__ import annotations

import numpy as np
import pytest
from test_methods import noisy_scene

from denoise_cli import Denoiser, denoise
from denoise_cli.errors import CheckpointError, DenoiseError, DeviceError, UsageError
from denoise_cli.methods import METHODS
from denoise_cli.metrics import psnr, unit


def picture(dtype: str, samples: int | None, shape: tuple[int, int] = (48, 56)) -> np.ndarray:
    _, noisy = noisy_scene("gaussian:20", max(shape))
    noisy = noisy[: shape[0], : shape[1]]
    kind = np.dtype(dtype)
    if samples is None:
        noisy = noisy[..., 1]
    elif samples in (2, 4):
        noisy = np.concatenate([noisy[..., : samples - 1], noisy[..., :1] * 0 + 0.25], axis=-1)
    else:
        noisy = noisy[..., :samples]
    if kind.kind == "f":
        return noisy.astype(kind)
    top = np.iinfo(kind).max
    return np.clip(np.rint(noisy * top), 0, top).astype(kind)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int16"])
@pytest.mark.parametrize("samples", [None, 1, 2, 3, 4])
def test_same_shape_and_dtype_out_and_alpha_untouched(dtype: str, samples: int | None) -> None:
    noisy = picture(dtype, samples)
    result = Denoiser("none")(noisy)
    assert result.shape == noisy.shape
    assert result.dtype == noisy.dtype
    assert not np.array_equal(result, noisy)
    if samples in (2, 4):
        np.testing.assert_array_equal(result[..., -1], noisy[..., -1])
        assert not np.array_equal(result[..., 0], noisy[..., 0])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (33, 65), (64, 64)])
@pytest.mark.parametrize("method", ["none", "ttt-mim"])
def test_any_size(method: str, size: tuple[int, int]) -> None:
    result = Denoiser(method, steps=None if method == "none" else 1).run(picture("uint8", 3, size))
    assert result.samples.shape == (*size, 3)
    assert bool(result.warning) == (method == "ttt-mim" and min(size) < 64)


def test_sixteen_bit_equals_eight_bit_within_rounding() -> None:
    eight = picture("uint8", 3)
    sixteen = eight.astype(np.uint16) * 257
    plain = Denoiser("none")
    difference = plain(eight).astype(float) - plain(sixteen) / 257
    assert abs(difference).max() < 1.2


def test_twelve_bits_in_sixteen_are_denoised_as_well() -> None:
    clean, noisy = noisy_scene("gaussian:20")
    raw = np.clip(np.rint(noisy[..., 0] * 4095), 0, 4095).astype(np.uint16)
    result = Denoiser("none")(raw)
    assert psnr(clean[..., 0], result / 4095) > psnr(clean[..., 0], raw / 4095) + 4


@pytest.mark.parametrize(
    ("method", "steps"), [("none", None), pytest.param("auto", 20, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_a_few_stars_do_not_spoil_what_is_around_them(
    kind: str, method: str, steps: int | None
) -> None:
    clean, noisy = (picture[..., 0] for picture in noisy_scene("gaussian:20", 128))
    rows, columns = np.mgrid[:128, :128]
    stars = np.zeros((128, 128))
    for y, x in ((20, 31), (64, 90), (100, 40)):
        stars += 60 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2)
    unit_of = 1000 if kind == "uint16" else 1
    sky = stars < 1e-3

    def without(sample: np.ndarray) -> np.ndarray:
        return np.where(sky, sample / unit_of, clean)

    def stored(values: np.ndarray) -> np.ndarray:
        values = np.maximum(values, 0) * unit_of
        return np.rint(values).astype(kind) if kind == "uint16" else values.astype(kind)

    denoiser = Denoiser(method, steps=steps)
    alone, among = denoiser(stored(noisy)), denoiser(stored(noisy + stars))
    assert psnr(clean, without(among)) > psnr(clean, without(alone)) - 0.5
    total = float((clean + stars)[~sky].sum())
    assert float(among[~sky].sum()) / unit_of == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_signed_samples_stored_as_unsigned_are_denoised_as_well(kind: str) -> None:
    """As ImageJ stores them: 32768 is 0."""
    clean, noisy = (picture[..., 0] for picture in noisy_scene("gaussian:20", 128))
    plain = Denoiser("none")
    stored = np.rint(1000 * noisy + 32768).astype(kind)
    result = (plain(stored).astype(np.float64) - 32768) / 1000
    assert psnr(clean, result) > psnr(clean, plain(noisy)) - 0.2


def test_channels_are_not_taken_for_color() -> None:
    noisy = picture("uint8", 3)
    planes = np.moveaxis(noisy, -1, 0)
    plain = Denoiser("none")
    apart = plain(planes, "CYX")
    for channel in range(3):
        np.testing.assert_allclose(
            apart[channel].astype(int), plain(noisy[..., channel]).astype(int), atol=1
        )
    assert not np.array_equal(np.moveaxis(apart, 0, -1), plain(noisy))


def test_tiles_agree_with_the_whole_picture() -> None:
    noisy = picture("float32", 3, (200, 180))
    whole = Denoiser("none", tile=0, precision="fp32")(noisy)
    tiled = Denoiser("none", tile=96, overlap=48, precision="fp32")(noisy)
    assert psnr(whole, tiled) > 50
    assert not np.array_equal(whole, tiled)


def test_strength_blends() -> None:
    noisy = picture("float32", 3)
    full = Denoiser("none")(noisy)
    half = Denoiser("none", strength=0.5)(noisy)
    np.testing.assert_allclose(half, (noisy + full) / 2, atol=1e-5)
    np.testing.assert_allclose(Denoiser("none", strength=0)(noisy), noisy, atol=1e-6)


def test_bf16_is_close_to_fp32() -> None:
    clean, noisy = noisy_scene("gaussian:25")
    scores = [psnr(clean, Denoiser("none", precision=p)(noisy)) for p in ("fp32", "bf16")]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_the_function_is_one_line_over_the_class() -> None:
    noisy = picture("uint8", 3, (64, 64))
    np.testing.assert_array_equal(
        denoise(noisy, "ttt-mim", steps=1, seed=3),
        Denoiser("ttt-mim", steps=1, seed=3)(noisy),
    )


def test_a_constant_picture_stays_as_it_is() -> None:
    flat = np.full((80, 80, 3), 100, np.uint8)
    change = abs(denoise(flat).astype(int) - 100)
    assert change.mean() < 0.6
    assert change.max() <= 3  # in the corners, where the network sees the zeros it pads with


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", pytest.param("uint16", marks=pytest.mark.slow)])
def test_a_blank_picture_stays_blank(method: str, dtype: str) -> None:
    blank = np.full((128, 128), np.iinfo(dtype).max // 2 + 1, dtype)  # without rounding errors
    options = {"steps": 2} if method in ("mpi", "gaintuning") else {}
    found = Denoiser(method, options=options)(blank).astype(float)
    assert abs(found - blank).mean() < 0.005 * np.iinfo(dtype).max


def test_the_blank_margin_of_a_page_says_nothing_of_its_noise() -> None:
    page = np.full((1024, 512), 255, np.uint8)
    _, noisy = noisy_scene("gaussian:25", 256)
    page[700:956, 128:384] = np.rint(255 * noisy.mean(axis=-1).clip(0, 1))
    result = Denoiser("ttt-mim", weights="ttt-mim-gaussian").run(page)
    assert "too weak" not in result.reason
    assert result.samples[:600].mean() > 254


def test_unit_range() -> None:
    assert unit(np.array([255], np.uint8)).item() == 1.0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"method": "magic"}, UsageError),
        ({"device": "tpu"}, UsageError),
        ({"device": "cuda:99"}, DeviceError),
        ({"precision": "fp4"}, UsageError),
        ({"tile": 7}, UsageError),
        ({"tile": 64, "overlap": 64}, UsageError),
        ({"strength": 1.5}, UsageError),
        ({"seed": -1}, UsageError),
        ({"weights": "no-such"}, UsageError),
        ({"options": {"nonsense": 1}}, UsageError),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], error: type[DenoiseError]) -> None:
    with pytest.raises(error):
        Denoiser(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"tile": 7}, {"overlap": -1}, {"strength": 2}, {"seed": -1}])
def test_bad_arguments_are_refused_before_weights_are_fetched(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        Denoiser("none", weights="no-such", **arguments)  # type: ignore[arg-type]


def test_weights_must_support_the_method(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from test_checkpoints import small

    path = small(tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="ttt-mim"):
        Denoiser("ttt-mim", weights=str(path))


@pytest.mark.parametrize(
    "samples",
    [
        np.array([[np.nan, 1.0], [0.0, 1.0]]),
        np.array([[np.inf, 1.0], [0.0, 1.0]]),
        np.zeros((8, 8), np.complex64),
        np.zeros((2, 3, 8, 8)),
    ],
    ids=["nan", "inf", "complex", "axes unknown"],
)
def test_bad_arrays_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(UsageError):
        Denoiser("none")(samples)
