"""Reads and writes video files: frames by number, decoding no more than they need.

container    opens a file, and sets up a decoder that reports damage
bitstreams   the role of one coded packet in decoding
packets      all packets of a stream: the frame each shows, and where its decoding starts
index        `index_video`: all frames with their times
decoding     decodes requested frames, and as little else as possible
pictures     decoded frames to upright RGB
remarks      what is unusual about them, in words
reader       `FrameReader`: frames by number
writing      `VideoWriter`: H.264 in MP4
"""

from curate.sources.video.container import check_video
from curate.sources.video.index import VideoIndex, index_video
from curate.sources.video.reader import Frame, FrameReader
from curate.sources.video.remarks import Remark

__all__ = ["Frame", "FrameReader", "Remark", "VideoIndex", "check_video", "index_video"]
