"""Builders of small videos whose frames show their number as black and white blocks."""

import os
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "0")  # libsvtav1 prints messages otherwise

WIDTH, HEIGHT = 160, 96
_COLUMNS, _ROWS = 8, 4  # blocks; the two middle rows show the number
_BITS = 2 * (_COLUMNS - 2)
_FAST = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "ultrafast"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "6", "auto-alt-ref": "1", "lag-in-frames": "12"},
    "libaom-av1": {"cpu-used": "8", "usage": "realtime"},
    "libsvtav1": {"preset": "12"},
}


def draw_number(number, width=WIDTH, height=HEIGHT):
    """An image that shows a number, with a red top left and a blue bottom right corner. H×W×3 uint8 RGB."""
    block_height, block_width = height // _ROWS, width // _COLUMNS
    noise = np.random.default_rng(number).integers(96, 160, (_ROWS * 2, _COLUMNS * 2), dtype=np.uint8)
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    tiles = np.kron(noise, np.ones((-(-height // (_ROWS * 2)), -(-width // (_COLUMNS * 2))), dtype=np.uint8))
    picture[:] = tiles[:height, :width, None]
    picture[:block_height, : 2 * block_width] = (200, 30, 30)
    picture[-block_height:, -2 * block_width :] = (30, 30, 200)
    for bit in range(_BITS):
        row, column = 1 + bit // (_COLUMNS - 2), 1 + bit % (_COLUMNS - 2)
        top, left = row * block_height, column * block_width
        picture[top : top + block_height, left : left + block_width] = 235 if number >> bit & 1 else 20
    return picture


def read_number(pixels):
    """The number that an upright image shows; every block must be clearly black or white."""
    height, width = pixels.shape[:2]
    block_height, block_width = height // _ROWS, width // _COLUMNS
    number = 0
    for bit in range(_BITS):
        row, column = 1 + bit // (_COLUMNS - 2), 1 + bit % (_COLUMNS - 2)
        top, left = row * block_height + block_height // 4, column * block_width + block_width // 4
        light = pixels[top : top + block_height // 2, left : left + block_width // 2].mean()
        if 80 < light < 175:
            raise ValueError(f"block {bit} is neither black nor white but {light:.0f}")
        number |= int(light > 128) << bit
    return number


def read_corners(pixels):
    """(top left is red, bottom right is blue): whether an image is upright and not mirrored."""
    height, width = pixels.shape[:2]
    near = pixels[height // 16 : height // 8, width // 16 : width // 8].mean(axis=(0, 1))
    far = pixels[-height // 8 : -height // 16, -width // 8 : -width // 16].mean(axis=(0, 1))
    return bool(near[0] > near[2] + 60), bool(far[2] > far[0] + 60)


@contextmanager
def _ordinary_priority():
    """libsvtav1 sets real-time priority if run as root, and later processes would inherit it."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@_ordinary_priority()
def write_clip(
    path,
    frames=24,
    *,
    codec="libx264",
    gop=12,
    bframes=2,
    open_gop=False,
    fps=30,
    pts=None,
    time_base=None,
    first_pts=0,
    width=WIDTH,
    height=HEIGHT,
    pixel_format="yuv420p",
    rotation=0,
    mirrored=False,
    colours=None,
    options=(),
    container_options=(),
    audio=False,
):
    """Write a video whose frame k shows k; its suffix chooses the container.

    Args:
        path: The file to write.
        frames: Number of frames.
        codec: FFmpeg's name of the encoder.
        gop: Frames between keyframes.
        bframes: Maximum number of consecutive B-frames.
        open_gop: Whether frames may refer to frames before the last keyframe.
        fps: Frames per second, if `pts` is not given.
        pts: Time stamp of each frame, in units of `time_base` (default: milliseconds).
        time_base: Seconds per unit.
        first_pts: Added to every time stamp.
        width: Upright width in pixels.
        height: Upright height in pixels.
        pixel_format: FFmpeg's name of the pixel format.
        rotation: Degrees clockwise by which a player must rotate the stored frames.
        mirrored: Whether a player must mirror the frames first.
        colours: (colour space, colour range) for the frames: `(Colorspace.ITU709, ColorRange.JPEG)`.
        options: Other options of the encoder.
        container_options: Options of the container.
        audio: Whether to add silent audio.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unit = Fraction(time_base) if time_base else Fraction(1, 1000) if pts is not None else 1 / Fraction(fps)
    with av.open(str(path), "w", options=dict(container_options)) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        sideways = rotation in (90, 270)
        stream.width, stream.height = (height, width) if sideways else (width, height)
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base = unit
        context.gop_size = gop
        context.thread_count = 1
        if colours:
            context.colorspace, context.color_range = (int(part) for part in colours)
        context.options = _encoder_options(codec, gop, bframes, open_gop) | dict(options)
        if codec in ("mpeg4", "mpeg2video"):
            context.max_b_frames = bframes
        if rotation or mirrored:
            # FFmpeg rotates first, then mirrors
            stream.set_display_rotation(rotation if mirrored else -rotation, hflip=mirrored)
        sound = container.add_stream("aac", rate=48000) if audio else None
        stamps = pts if pts is not None else range(frames)
        look = rotation, mirrored, colours
        for number, stamp in enumerate(stamps):
            picture = draw_number(number, width, height)
            container.mux(stream.encode(_make_frame(picture, int(stamp) + first_pts, unit, stream.pix_fmt, *look)))
        container.mux(stream.encode(None))
        if sound:
            _mux_silence(container, sound, float(len(stamps) * unit))
    return path


def _encoder_options(codec, gop, bframes, open_gop):
    chosen = dict(_FAST.get(codec, {}))
    if codec == "libx264":
        chosen["x264-params"] = (
            f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}:b-adapt=0:open-gop={int(open_gop)}"
        )
    elif codec == "libx265":
        chosen["x265-params"] = (
            f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}:b-adapt=0:open-gop={int(open_gop)}"
            ":log-level=none:pools=1:frame-threads=1"
        )
    elif codec == "libsvtav1":
        chosen["svtav1-params"] = f"keyint={gop}:lp=1"
    elif codec == "libaom-av1":
        chosen |= {"aom-params": f"kf-min-dist={gop}:kf-max-dist={gop}"}
    return chosen


def _make_frame(picture, stamp, unit, pixel_format, rotation, mirrored, colours):
    """The stored frame that a player turns into the upright image."""
    picture = np.rot90(picture, rotation // 90)
    if mirrored:
        picture = picture[:, ::-1]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    if colours:
        frame = frame.reformat(format=pixel_format, dst_colorspace=int(colours[0]), dst_color_range=int(colours[1]))
    frame.pts, frame.time_base = stamp, unit
    return frame


def _mux_silence(container, stream, duration_s):
    for start in range(0, int(duration_s * 48000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), dtype=np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def join_clips(path, *clips):
    """Write the packets of several videos of one codec, one after the other, as one video."""
    with av.open(str(path), "w") as target:
        stream, start = None, 0
        for clip in clips:
            with av.open(str(clip)) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                packets = [packet for packet in source.demux(video=0) if packet.size]
                unit = packets[0].time_base
                first, last = min(one.pts for one in packets), max(one.pts + one.duration for one in packets)
                for packet in packets:
                    packet.pts, packet.dts = (stamp - first + round(start / unit) for stamp in (packet.pts, packet.dts))
                    packet.stream = stream
                    target.mux(packet)
                start += (last - first) * unit
    return path


def write_two_streams(path, sizes=((160, 96), (320, 192))):
    """A file with two video streams; the second one shows numbers from 100 on."""
    with av.open(str(path), "w") as container:
        streams = []
        for width, height in sizes:
            stream = container.add_stream("libx264", rate=10, options={"preset": "veryfast", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number in range(10):
            for place, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
                frame = av.VideoFrame.from_ndarray(draw_number(100 * place + number, *size), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def write_sound(path):
    """Write a file with audio and without video."""
    with av.open(str(path), "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=48000), 0.5)
    return path
