"""Pictures of any axes go to planes and back unchanged."""

import numpy as np
import pytest

from denoise_cli.errors import UsageError
from denoise_cli.image import default_axes, to_planes, upright

SIZES = {"Y": 4, "X": 5, "C": 2, "Z": 3, "T": 2, "Q": 2}


def picture(axes, colors=3, dtype=np.uint16):
    shape = [colors if letter == "S" else SIZES[letter] for letter in axes]
    return np.random.default_rng(1).integers(0, 60000, shape).astype(dtype)


@pytest.mark.parametrize(
    ("axes", "colors", "planes_shape"),
    [
        ("YX", 0, (1, 1, 4, 5)),
        ("XY", 0, (1, 1, 4, 5)),
        ("YXS", 1, (1, 1, 4, 5)),
        ("YXS", 2, (1, 1, 4, 5)),
        ("YXS", 3, (1, 3, 4, 5)),
        ("YXS", 4, (1, 3, 4, 5)),
        ("SYX", 4, (1, 3, 4, 5)),
        ("CYX", 0, (2, 1, 4, 5)),
        ("YXC", 0, (2, 1, 4, 5)),
        ("TZCYX", 0, (12, 1, 4, 5)),
        ("ZYXS", 4, (3, 3, 4, 5)),
        ("QQYX", 0, (4, 1, 4, 5)),
    ],
)
def test_planes_round_trip(axes, colors, planes_shape):
    samples = picture(axes, colors)
    before = samples.copy()
    planes, from_planes = to_planes(samples, axes)
    assert planes.shape == planes_shape
    assert planes.dtype == samples.dtype
    np.testing.assert_array_equal(from_planes(planes), samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("colors", [2, 4])
def test_alpha_is_put_back_untouched(colors):
    samples = picture("YXS", colors)
    planes, from_planes = to_planes(samples, "YXS")
    back = from_planes(np.zeros_like(planes))
    np.testing.assert_array_equal(back[..., -1], samples[..., -1])
    assert not back[..., :-1].any()


def test_planes_may_come_back_in_another_dtype():
    planes, from_planes = to_planes(picture("TCYX"), "TCYX")
    back = from_planes(planes / np.float32(2))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back * 2, picture("TCYX"))


def test_each_plane_keeps_its_place():
    samples = picture("TZYX")
    planes, _ = to_planes(samples, "TZYX")
    np.testing.assert_array_equal(planes[4, 0], samples[1, 1])


def test_planes_of_another_shape_are_refused():
    planes, from_planes = to_planes(picture("YX"), "YX")
    with pytest.raises(ValueError, match="do not fit"):
        from_planes(planes[..., :-1])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 5), "YXS"), ((4, 5), "ZX"), ((4, 5, 5), "YXS"), ((0, 5), "YX"), ((2, 2, 4, 5), "SSYX")],
)
def test_axes_that_do_not_fit_are_refused(shape, axes):
    with pytest.raises(UsageError):
        to_planes(np.zeros(shape), axes)


def test_default_axes():
    assert default_axes(np.zeros((4, 5))) == "YX"
    for colors in (1, 2, 3, 4):
        assert default_axes(np.zeros((4, 5, colors))) == "YXS"
    for shape in ((5,), (3, 40, 50), (4, 5, 0), (2, 4, 5, 3)):
        with pytest.raises(UsageError, match="axes="):
            default_axes(np.zeros(shape))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colors", [0, 3])
def test_upright_agrees_with_pillow(orientation, colors):
    from PIL import Image, ImageOps

    samples = picture("YXS" if colors else "YX", colors, np.uint8)
    stored = Image.fromarray(samples)
    stored.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(upright(samples, orientation), expected)


def test_upright_refuses_what_is_no_orientation():
    with pytest.raises(UsageError, match=r"1\.\.8"):
        upright(np.zeros((2, 2)), 9)
