"""Stacks go through plane by plane and come back with their axes, layout and metadata."""

import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from test_denoiser import picture as noisy_picture
from test_formats import noise, pass_through  # noqa: F401

from denoise_cli import Denoiser, io
from denoise_cli.checkpoints import read_header
from denoise_cli.errors import UnreadableImage, UnwritableOutput, UsageError
from denoise_cli.image import Image, Stack

INTEGERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32")
FLOATS = ("float16", "float32", "float64")

# --- TIFF -------------------------------------------------------------------------------------


def described(path):
    """What tifffile and the programs it speaks for see of a file."""
    with tifffile.TiffFile(path) as tif:
        page, series = tif.pages[0], tif.series[0]
        # NewSubfileType may be left out where it is 0; the rest is where things lie.
        moved = {"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts"}
        moved |= {"NewSubfileType", "SubIFDs"}
        return {
            "pixels": tif.asarray(),
            "axes": series.get_axes(squeeze=False),
            "shape": series.get_shape(squeeze=False),
            "kind": series.kind,
            "order": tif.byteorder,
            "big": tif.is_bigtiff,
            "pages": len(tif.pages),
            "levels": [level.shape for level in series.levels],
            "tags": {t.code: t.value for t in page.tags if t.name not in moved},
        }


def assert_same_file(found, expected):
    found, expected = described(found), described(expected)
    assert found["pixels"].dtype == expected["pixels"].dtype
    for key, value in expected.items():
        if key == "tags":
            assert found[key].keys() == value.keys()
            for code in value:
                np.testing.assert_equal(found[key][code], value[code], err_msg=str(code))
        else:
            np.testing.assert_equal(found[key], value, err_msg=key)


OME = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5, "TimeIncrement": 2.0}
IMAGEJ = {"unit": "um", "spacing": 0.5, "finterval": 2.0, "Labels": ["first"], "min": 3.0}
TIFF = {
    **{f"pages of {d}": ("ZYX", d, {}) for d in (*INTEGERS, *FLOATS)},
    **{f"ImageJ of {d}": ("TZCYX", d, {"imagej": IMAGEJ}) for d in ("uint8", "uint16", "float32")},
    **{f"OME of {d}": ("TZCYX", d, {"ome": OME}) for d in (*INTEGERS, "float32", "float64")},
    "ImageJ, big-endian": ("ZCYX", "uint16", {"imagej": IMAGEJ, "byteorder": ">"}),
    "big-endian": ("TYX", "uint16", {"byteorder": ">", "compression": "zlib"}),
    "BigTIFF": ("ZYX", "uint16", {"bigtiff": True}),
    "BigTIFF, OME, tiles": ("CZYX", "uint16", {"bigtiff": True, "ome": OME, "tile": (16, 16)}),
    "tiles": ("ZYX", "uint16", {"tile": (16, 32)}),
    "tiles, LZW, predictor": (
        "TZYX",
        "uint16",
        {"tile": (16, 16), "compression": "lzw", "predictor": True},
    ),
    "zlib": ("ZYX", "int16", {"compression": "zlib", "rowsperstrip": 8}),
    "Zstandard": ("ZYX", "float32", {"compression": "zstd", "predictor": True}),
    "LZMA": ("ZYX", "uint8", {"compression": "lzma"}),
    "RGB": ("TYXS", "uint8", {"photometric": "rgb"}),
    "RGB, planar, tiles": (
        "ZSYX",
        "uint16",
        {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)},
    ),
    "RGB, OME": ("ZYXS", "uint16", {"photometric": "rgb", "ome": OME}),
}


def write_tiff(path, axes, dtype, options):
    options = dict(options)
    metadata = {"axes": axes}
    for kind in ("imagej", "ome"):
        if kind in options:
            metadata |= options.pop(kind)
            options[kind] = True
            if kind == "imagej":
                metadata.pop("axes")
                missing = [letter for letter in "TZC" if letter not in axes]
                assert not missing or axes == "ZCYX"
                metadata["axes"] = axes
    samples = noise(axes, dtype)
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(
        path, samples, metadata=metadata, resolution=(25000, 25000), resolutionunit=3, **options
    )
    return samples


@pytest.mark.parametrize("name", TIFF)
def test_a_tiff_stack(tmp_path, pass_through, name):  # noqa: F811
    axes, dtype, options = TIFF[name]
    suffix = ".ome.tif" if "ome" in options else ".tif"
    samples = write_tiff(tmp_path / f"a{suffix}", axes, dtype, options)
    with io.open_stack(tmp_path / f"a{suffix}") as stack:
        assert stack.count == samples.size // int(np.prod(stack.frame_shape))
        assert stack.count > 1
        assert set(stack.frame_axes) <= set("YXS")
    target = pass_through(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    assert_same_file(target, tmp_path / f"a{suffix}")


def test_axes_of_length_one_are_kept(tmp_path, pass_through):  # noqa: F811
    for name, options in {"a.tif": {"imagej": True}, "a.ome.tif": {"ome": True}}.items():
        samples = noise("CYX", np.uint16)[None, None]
        tifffile.imwrite(tmp_path / name, samples, metadata={"axes": "TZCYX"}, **options)
        assert_same_file(pass_through(tmp_path / name, tmp_path / f"out_{name}"), tmp_path / name)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}])
def test_tags_of_each_page_are_kept(tmp_path, pass_through, options):  # noqa: F811
    # Micro-Manager and MetaMorph write the place and time of each picture to its page.
    samples = noise("TYX", np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=">") as tif:
        for number, plane in enumerate(samples):
            place = json.dumps({"ElapsedTime-ms": 100.5 * number}).encode()
            extra = [(51123, 2, len(place) + 1, place, True), (65000, 4, 2, (number, 7), True)]
            tif.write(
                plane,
                metadata=None,
                description=f"plane {number}" if number < 2 else None,
                datetime=f"2024:02:29 12:00:0{number}",
                extratags=extra,
                contiguous=False,
                **options,
            )
    target = pass_through(tmp_path / "a.tif", tmp_path / "b.tif")
    assert_same_file(target, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(target) as b:
        for code in (270, 306, 51123, 65000):
            before, after = ([p.tags.valueof(code) for p in tif.pages] for tif in (a, b))
            assert after == before


def test_an_imagej_stack_with_one_directory(tmp_path, pass_through):  # noqa: F811
    # As ImageJ writes beyond 4 GB: the samples of all planes, but one directory only.
    samples = noise("TYX", np.uint16)
    text = "ImageJ=1.54f\nimages=3\nframes=3\nhyperstack=true\nmode=grayscale\n"
    tifffile.imwrite(tmp_path / "a.tif", samples[0], description=text, metadata=None, byteorder=">")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset = tif.pages[0].dataoffsets[0]
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(offset)
        file.write(samples.astype(">u2").tobytes())
    found = io.read(pass_through(tmp_path / "a.tif", tmp_path / "b.tif"))
    assert found.axes == "TYX"
    np.testing.assert_array_equal(found.samples, samples)


def test_an_imagej_composite_is_channels(tmp_path, pass_through):  # noqa: F811
    # ImageJ stores 16-bit channels as if they were RGB, and says so.
    samples = noise("YXS", np.uint16)
    text = "ImageJ=1.53c\nchannels=3\nmode=composite\n"
    tifffile.imwrite(
        tmp_path / "a.tif", samples, photometric="rgb", description=text, metadata=None
    )
    with io.open_stack(tmp_path / "a.tif") as stack:
        assert stack.axes == "YXC"
    assert_same_file(pass_through(tmp_path / "a.tif", tmp_path / "b.tif"), tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "YXS", "SYX"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_pyramid_is_rebuilt(tmp_path, pass_through, axes, dtype, tile):  # noqa: F811
    samples = noise(axes, dtype)
    planar = "separate" if axes == "SYX" else None
    options = {"photometric": "rgb" if "S" in axes else "minisblack", "planarconfig": planar}
    options |= {"tile": tile, "compression": "zlib"}
    rows, columns = ((slice(None),) * (axes.index("Y"))), ()
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        tif.write(samples, subifds=2, metadata={"axes": axes}, **options)
        for step in (2, 4):
            # Deliberately not what it should be: that it is made anew can be seen.
            level = samples[(*rows, slice(None, None, step), slice(None, None, step), *columns)]
            tif.write(level * 0, subfiletype=1, **options)
    target = pass_through(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    found, expected = described(target), described(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(found["pixels"], expected["pixels"])
    assert found["levels"] == expected["levels"]
    assert len(found["levels"]) == 3
    with tifffile.TiffFile(target) as tif:
        small = tif.series[0].levels[1].asarray()
    y, x = axes.index("Y"), axes.index("X")
    even = np.moveaxis(samples, (y, x), (-2, -1))[..., :34, :44].astype(float)
    means = (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2]) / 4
    means += even[..., 1::2, 1::2] / 4
    np.testing.assert_allclose(
        np.moveaxis(small, (y, x), (-2, -1))[..., :17, :11], means[..., :11], rtol=2e-5, atol=0.51
    )


# --- OME-Zarr ---------------------------------------------------------------------------------


def write_zarr(path, samples, axes, *, version=2, levels=1, **options):
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    kinds = {"T": "time", "C": "channel"}
    named = [{"name": a.lower(), "type": kinds.get(a, "space")} for a in axes]
    for axis in named[-2:]:
        axis["unit"] = "micrometer"
    datasets = []
    group = zarr.create_group(store=path, zarr_format=version)
    for level in range(levels):
        step = 2**level
        small = samples[..., ::step, ::step] * (level == 0)
        scale = [1.0] * (len(axes) - 2) + [0.1 * step, 0.1 * step]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
        chunks = (1,) * (samples.ndim - 3) + (2, 16, 16)
        array = group.create_array(
            str(level), shape=small.shape, dtype=small.dtype, chunks=chunks, **options
        )
        array[...] = small
    multiscales = [{"name": "mine", "axes": named, "datasets": datasets}]
    omero = {"channels": [{"label": "DAPI", "color": "0000FF"}]}
    if version == 2:
        multiscales[0]["version"] = "0.4"
        group.attrs.update({"multiscales": multiscales, "omero": omero})
    else:
        ome = {"version": "0.5", "multiscales": multiscales, "omero": omero}
        group.attrs.update({"ome": ome})
    labels = group.create_group("labels")
    labels.create_array("cells", data=np.arange(12, dtype=np.int32).reshape(3, 4))
    return group


def tree(path):
    """The documents of a store and which other files it has."""
    found = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            name = str(file.relative_to(path))
            is_document = file.name in (".zarray", ".zattrs", ".zgroup", "zarr.json")
            found[name] = json.loads(file.read_text()) if is_document else "chunk"
    return found


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int32", "float32"])
def test_ome_zarr(tmp_path, pass_through, version, dtype):  # noqa: F811
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = noise("TCZYX", dtype)
    write_zarr(tmp_path / "a.ome.zarr", samples, "TCZYX", version=version)
    with io.open_stack(tmp_path / "a.ome.zarr") as stack:
        assert (stack.axes, stack.dtype.isnative) == ("TCZYX", True)
    target = pass_through(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr")
    assert tree(target) == tree(tmp_path / "a.ome.zarr")
    found = zarr.open(target, mode="r")
    np.testing.assert_array_equal(found["0"][...], samples)
    np.testing.assert_array_equal(found["labels/cells"][...], np.arange(12).reshape(3, 4))


def test_a_zarr_pyramid_is_rebuilt(tmp_path, pass_through):  # noqa: F811
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = noise("CZYX", np.uint16)
    write_zarr(tmp_path / "a.zarr", samples, "CZYX", levels=3)
    target = zarr.open(pass_through(tmp_path / "a.zarr", tmp_path / "b.zarr"), mode="r")
    np.testing.assert_array_equal(target["0"][...], samples)
    # The size of level 1 is 17 x 23: the last of its columns stands for one column only.
    rows = samples.astype(float).reshape(2, 2, 17, 2, 45).mean(axis=3)
    means = rows[..., :20].reshape(2, 2, 17, 10, 2).mean(axis=-1)
    np.testing.assert_allclose(target["1"][..., :10], means, atol=0.51)
    assert target["2"].shape == (2, 2, 9, 12)
    assert target["2"][...].min() > 0


def test_shards(tmp_path, pass_through):  # noqa: F811
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = noise("TZYX", np.uint16)
    write_zarr(tmp_path / "a.zarr", samples, "TZYX", version=3, shards=(1, 2, 48, 48))
    target = pass_through(tmp_path / "a.zarr", tmp_path / "b.zarr")
    np.testing.assert_array_equal(zarr.open(target, mode="r")["0"][...], samples)
    assert tree(target) == tree(tmp_path / "a.zarr")


def test_tiff_becomes_zarr_and_back(tmp_path, pass_through):  # noqa: F811
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = noise("TZCYX", np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        samples,
        imagej=True,
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 0.5},
        resolution=(4, 4),
    )
    target = pass_through(tmp_path / "a.tif", tmp_path / "b.zarr")
    group = zarr.open(target, mode="r")
    (multiscale,) = group.attrs["multiscales"]
    # OME-NGFF wants channels before space.
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "c", "z", "y", "x"]
    (transform,) = multiscale["datasets"][0]["coordinateTransformations"]
    assert transform["scale"] == [1.0, 1.0, 0.5, 0.25, 0.25]
    assert multiscale["axes"][4]["unit"] == "micrometer"
    np.testing.assert_array_equal(group["0"][...], samples.swapaxes(1, 2))
    back = io.read(pass_through(target, tmp_path / "c.tif"))
    assert back.axes == "TCZYX"
    np.testing.assert_array_equal(back.samples, samples.swapaxes(1, 2))


@pytest.mark.parametrize(("axes", "shape"), [("TYXC", (3, 2, 34, 45)), ("YXS", (34, 45))])
def test_channels_inside_a_pixel_become_channels_of_a_zarr(tmp_path, axes, shape):
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = np.moveaxis(noise("TCYX" if "C" in axes else "CYX", np.uint16), -3, -1)
    samples = samples if "C" in axes else samples[..., :1]
    io.write(tmp_path / "a.zarr", Image(samples, axes))
    found = zarr.open(tmp_path / "a.zarr", mode="r")["0"][...]
    np.testing.assert_array_equal(found, np.moveaxis(samples, -1, -3).reshape(shape))


def test_a_plain_zarr_array(tmp_path, pass_through):  # noqa: F811
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = noise("ZYX", np.float32)
    zarr.create_array(store=tmp_path / "a.zarr", data=samples, dimension_names=("z", "y", "x"))
    zarr.create_array(store=tmp_path / "b.zarr", data=samples, zarr_format=2)
    for name, axes in (("a", "ZYX"), ("b", "QYX")):
        with io.open_stack(tmp_path / f"{name}.zarr") as stack:
            assert stack.axes == axes
        target = pass_through(tmp_path / f"{name}.zarr", tmp_path / f"{name}2.zarr")
        np.testing.assert_array_equal(zarr.open(target, mode="r")[...], samples)


def test_zarr_stores_that_are_no_single_picture(tmp_path):
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    plate = zarr.create_group(store=tmp_path / "plate.zarr", zarr_format=2)
    plate.attrs["plate"] = {"wells": []}
    zarr.create_group(store=tmp_path / "empty.zarr")
    for name, reason in (("plate", "A/1/0"), ("empty", "OME-NGFF")):
        with pytest.raises(UnreadableImage, match=reason):
            io.read(tmp_path / f"{name}.zarr")


PICKLE = {"id": "pickle", "protocol": 5}


@pytest.mark.parametrize(
    "codecs", [{"filters": [PICKLE]}, {"compressor": PICKLE}, {"filters": [{"id": "bz2"}, PICKLE]}]
)
def test_a_pickled_zarr_array_is_not_opened(tmp_path, codecs):
    pytest.importorskip("zarr", reason='the extra "zarr"')
    document = {"zarr_format": 2, "shape": [2, 2], "chunks": [2, 2], "dtype": "|u1", "order": "C"}
    document |= {"compressor": None, "fill_value": 0, "filters": None} | codecs
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(document))
    (tmp_path / "a.zarr" / "0.0").write_bytes(pickle.dumps(Evil(tmp_path / "touched")))
    with pytest.raises(UnreadableImage, match=r"not safe|pickle"):
        io.read(tmp_path / "a.zarr")
    assert not (tmp_path / "touched").exists()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def test_color_is_no_channels_in_zarr(tmp_path):
    pytest.importorskip("zarr", reason='the extra "zarr"')
    with pytest.raises(UnwritableOutput, match=r"channels, not color.*\.tif"):
        io.write(tmp_path / "a.zarr", Image(noise("YXS", np.uint8), "YXS"))
    assert list(tmp_path.iterdir()) == []


def test_a_zarr_store_is_replaced_on_demand_only(tmp_path):
    pytest.importorskip("zarr", reason='the extra "zarr"')
    first, second = (Image(noise("ZYX", np.uint16) + n, "ZYX") for n in (0, 1))
    io.write(tmp_path / "a.zarr", first)
    with pytest.raises(UsageError, match="exists"):
        io.write(tmp_path / "a.zarr", second)
    np.testing.assert_array_equal(io.read(tmp_path / "a.zarr").samples, first.samples)
    io.write(tmp_path / "a.zarr", second, overwrite=True)
    np.testing.assert_array_equal(io.read(tmp_path / "a.zarr").samples, second.samples)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    (tmp_path / "mine.zarr").mkdir()  # a folder that is no store is never replaced
    with pytest.raises(UnwritableOutput, match="not a regular file"):
        io.write(tmp_path / "mine.zarr", second, overwrite=True)


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "axes"), [("ZYXS", "ZYXC"), ("ZYX", "SYX"), ("SYX", "CYX"), ("TZCYX", "TZSYX")]
)
def test_other_letters_for_the_same_samples(given, axes):
    sizes = {"T": 3, "Z": 3 if axes == "SYX" else 2, "C": 3, "S": 3, "Y": 4, "X": 5}
    shape = [sizes[letter] for letter in given]
    samples = np.arange(np.prod(shape)).reshape(shape)
    stack = Stack.of(Image(samples, given))
    other = stack.with_axes(axes)
    np.testing.assert_array_equal(other.read().samples, samples)
    assert other.frame_axes[0] in "SYX"
    np.testing.assert_array_equal(other.with_axes(given).read().samples, samples)


# --- denoising --------------------------------------------------------------------------------


def timelapse(count=4, dtype="uint16"):
    planes = [noisy_picture(dtype, None, (64, 80)) for _ in range(count)]
    return np.stack([np.roll(plane, 7 * n, axis=1) for n, plane in enumerate(planes)])


def test_each_channel_has_its_own_scale():
    samples = timelapse(2)
    dim = samples // 40
    plain = Denoiser("none", precision="fp32")
    both = plain(np.stack([samples, dim], axis=1), "TCYX")
    np.testing.assert_array_equal(both[:, 0], plain(samples, "TYX"))
    np.testing.assert_array_equal(both[:, 1], plain(dim, "TYX"))
    inside = plain(np.stack([samples, dim], axis=-1), "TYXC")
    np.testing.assert_array_equal(inside, np.moveaxis(both, 1, -1))


def stream(denoiser, samples, axes, **options):
    found = []
    outcome = denoiser.stream(
        Stack.of(Image(samples, axes)), lambda s: found.append(s.read()), **options
    )
    return found[0].samples, outcome


def test_slices_are_denoised_as_if_they_were_alone():
    samples = timelapse(3)
    denoiser = Denoiser("ttt-mim", steps=2, options={"validate": False})
    together, outcome = stream(denoiser, samples, "TYX", adapt="slice")
    assert (outcome.adaptations, outcome.kept_step) == (3, 2)
    for plane, alone in zip(together, samples, strict=True):
        np.testing.assert_array_equal(plane, denoiser(alone, "YX"))
    once, outcome = stream(denoiser, samples, "TYX")
    assert outcome.adaptations == 1
    assert not np.array_equal(once, together)
    np.testing.assert_array_equal(once, denoiser(samples, "TYX"))


def test_an_adapted_network_serves_other_pictures(tmp_path):
    samples = timelapse(3)
    path = tmp_path / "adapted.safetensors"
    denoiser = Denoiser("ttt-mim", steps=2, options={"validate": False})
    first, _ = stream(
        denoiser, samples, "TYX", adapted=lambda a: denoiser.save_adapted(path, a, "a.tif")
    )
    header = read_header(path)
    assert header["adapted"]["source"] == "a.tif"
    assert header["adapted"]["method"] == "ttt-mim"
    assert header["adapted"]["weights"] == denoiser.weights
    assert header["adapted"]["kept_step"] == 2
    again = Denoiser("none", weights=str(path))
    np.testing.assert_array_equal(again(samples, "TYX"), first)
    assert not np.array_equal(Denoiser("none")(samples, "TYX"), first)


def test_an_unknown_way_to_adapt_is_refused():
    with pytest.raises(UsageError, match="stack or slice"):
        stream(Denoiser("none"), timelapse(2), "TYX", adapt="page")


def write_timelapse(path):
    tifffile.imwrite(path, timelapse(3), metadata={"axes": "TYX"}, photometric="minisblack")


def test_the_command_line_saves_an_adaptation_and_uses_it(folder, call):
    write_timelapse("a.tif")
    plain = ["-w", "n.safetensors", "--precision", "fp32"]
    out, fast = ["--adapted-out", "n.safetensors"], ["--steps", "1", "-O", "validate=false"]
    code, _, err = call("a.tif", "-o", "b.tif", *out, *fast)
    assert code == 0, err
    code, _, err = call("a.tif", "-o", "c.tif", "-m", "none", *plain, weights=False)
    assert code == 0, err
    assert (folder / "b.tif").read_bytes() == (folder / "c.tif").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--adapted-out", "a.tif"], r"\.safetensors"),
        (["--adapted-out", "there.safetensors"], "exists"),
        (["--adapted-out", "no/n.safetensors"], "no folder"),
        (["--adapted-out", "n.safetensors", "--adapt", "slice"], "one adaptation"),
        (["--adapted-out", "n.safetensors", "b.tif"], "one adaptation"),
        (["--adapt", "page"], "stack nor slice"),
        (["--axes", "T,Y,X"], "letters"),
        (["--axes", "TZCYX"], "has 3"),
        (["--axes", "TZC"], "Y and X"),
    ],
)
def test_wrong_words_on_stacks_are_refused(folder, call, arguments, reason):
    write_timelapse("a.tif")
    write_timelapse("b.tif")
    (folder / "there.safetensors").touch()
    code, out, err = call("a.tif", "-o", "out", *arguments)
    assert (code, out, len(err)) == (2, "", 1)
    assert re.search(reason, err[0])
    assert not (folder / "out").exists()


def test_slices_on_the_command_line(folder, call):
    write_timelapse("a.tif")
    code, _, err = call("a.tif", "--adapt", "slice", "--steps", "1", "-O", "validate=false")
    assert code == 0
    assert "each of 3 planes on its own, 3 of them adapted" in err[-1]


def test_axes_say_what_the_file_does_not(folder, call, tiny):
    samples = np.moveaxis(noisy_picture("uint8", 3, (64, 80)), -1, 0)
    tifffile.imwrite("a.tif", samples, photometric="minisblack", metadata=None)
    denoiser = Denoiser("none", weights=str(tiny), precision="fp32")
    for axes, expected in (("CYX", "CYX"), ("syx", "SYX")):
        assert call("a.tif", "-o", f"{axes}.tif", "-m", "none", "--axes", axes)[0] == 0
        with tifffile.TiffFile(f"{axes}.tif") as tif:
            assert len(tif.pages) == 3  # stored as before
            found = tif.asarray()
        np.testing.assert_array_equal(found, denoiser(samples, expected))
    assert not np.array_equal(denoiser(samples, "CYX"), denoiser(samples, "SYX"))


def test_a_store_goes_through_the_command_line(folder, call, tiny):
    zarr = pytest.importorskip("zarr", reason='the extra "zarr"')
    samples = timelapse(2)
    write_zarr(folder / "in" / "a.zarr", samples, "ZYX")
    assert call("in/a.zarr", "-m", "none")[0] == 0
    found = zarr.open(folder / "in" / "a_denoised.zarr", mode="r")["0"][...]
    np.testing.assert_array_equal(
        found, Denoiser("none", weights=str(tiny), precision="fp32")(samples, "ZYX")
    )
    assert call("in", "-m", "none", "-o", "out")[0] == 0
    assert io.read(folder / "out" / "a.zarr").axes == "ZYX"


MEMORY = """
import resource, sys
from denoise_cli import Denoiser, io
denoiser = Denoiser("none", strength=0)
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    with io.open_stack(source) as stack:
        denoiser.stream(stack, lambda denoised: io.write(target, denoised))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak memory in KiB")
def test_memory_does_not_grow_with_the_stack(tmp_path):
    plane = np.tile(noise("YX", np.uint16), (16, 12))[:512, :512]
    paths = []
    for name, count, compression in (
        ("short", 30, "zlib"),
        ("packed", 200, "zlib"),
        ("a", 200, None),
    ):
        paths += [tmp_path / f"{name}.tif", tmp_path / f"{name}_out.tif"]
        tifffile.imwrite(
            paths[-2],
            (plane for _ in range(count)),
            shape=(count, 512, 512),
            dtype=np.uint16,
            compression=compression,
        )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *map(str, paths)], capture_output=True, text=True, check=True
    )
    short, *long = map(float, done.stdout.split())
    assert max(long) - short < 30  # MiB; the stacks are 85 MiB longer
