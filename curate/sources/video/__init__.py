"""Frames of a video by their number: exactly those, decoding no more than they need. The only place that decodes video.

containers   a file opened, and a decoder that tells damage
bitstreams   what one coded packet means for decoding
packets      all packets of a stream: which frame each shows, from where it can be decoded
index        `index_video`: which frames there are, and when
decoding     no more than the wanted frames need
pictures     decoded frames to upright RGB
reader       `FrameReader`: frames by number
"""

from curate.sources.video.container import check_video
from curate.sources.video.index import VideoIndex, index_video
from curate.sources.video.reader import Frame, FrameReader

__all__ = ["Frame", "FrameReader", "VideoIndex", "check_video", "index_video"]
