"""Reads and writes video files: frames by number, decoding no more than they need.

options      what the user says about a file
container    opens a file, and sets up a decoder that reports damage
bitstreams   the role of one coded packet in decoding
packets      all packets of a stream: the frame each shows, and where its decoding starts
index        `index_video`: all frames with their times
decoding     decodes requested frames, and as little else as possible
pictures     decoded frames to upright RGB
hdr          high dynamic range and wide gamut to sRGB
remarks      what is unusual, in words
reader       `FrameReader`: frames by number
writing      `VideoWriter`: H.264 in MP4
"""

from curate.sources.video.container import check_video
from curate.sources.video.index import VideoIndex, index_video
from curate.sources.video.options import ReadOptions, parse_read_options
from curate.sources.video.reader import Frame, FrameReader
from curate.sources.video.remarks import Remark

__all__ = [
    "Frame",
    "FrameReader",
    "ReadOptions",
    "Remark",
    "VideoIndex",
    "check_video",
    "index_video",
    "parse_read_options",
]
